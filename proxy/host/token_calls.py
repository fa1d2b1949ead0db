"""The few questions the host asks ERC-20 tokens itself."""

from __future__ import annotations

from middleware.errors import InvalidParams
from proxy.host.gateways import NodeCalls, selector


async def allowance(l1: NodeCalls, token: str, owner: str, spender: str) -> int:
    """Return what `spender` may take of the owner's tokens. Raise `InvalidParams` where there is no token."""
    return await _ask(l1, token, "allowance(address,address)", owner, spender)


async def balance_of(l1: NodeCalls, token: str, owner: str) -> int:
    """Return how many units the owner holds. Raise `InvalidParams` where there is no token."""
    return await _ask(l1, token, "balanceOf(address)", owner)


async def _ask(l1: NodeCalls, token: str, signature: str, *addresses: str) -> int:
    words = "".join(address[2:].lower().rjust(64, "0") for address in addresses)
    answer = await l1.call("eth_call", {"to": token, "data": "0x" + selector(signature).hex() + words}, "latest")
    if not isinstance(answer, str) or len(answer) != 2 + 64:
        raise InvalidParams("token", "the address of an ERC-20 token", token)
    return int(answer, 16)
