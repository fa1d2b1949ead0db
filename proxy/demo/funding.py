"""Money for account 0 on a node of the user's: given by the node where it can, else asked for in one sentence."""

from __future__ import annotations

from middleware.errors import RpcError
from proxy.demo.client import Client
from proxy.demo.wei import balance, ether
from proxy.upstream.addresses import shown

DEPOSITED, HANDED_OUT, GAS = 10**18, 78 * 10**16, 22 * 10**16


class NotFunded(Exception):
    """Account 0 has too little, and the node cannot be told to give it more."""


def needed() -> int:
    """Return what account 0 needs for the journey, in wei."""
    return DEPOSITED + HANDED_OUT + GAS


async def fund_account(node: Client, l1: str | None, address: str, wei: int) -> None:
    """Make sure `address` has `wei`: by `anvil_setBalance` where it exists, else raise `NotFunded`."""
    has = await balance(node, address)
    if has >= wei:
        return
    try:
        await node.request("anvil_setBalance", [address, hex(wei)])
    except RpcError as error:
        where = f" on {shown(l1)}" if l1 else ""
        raise NotFunded(f"send {ether(wei - has)} to {address}{where} and run the demo again") from error
    if await balance(node, address) < wei:
        raise NotFunded(f"the node took anvil_setBalance, and {address} still has less than {ether(wei)}")
