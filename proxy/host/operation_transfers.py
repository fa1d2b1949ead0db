"""What a plugin asks for with `transfer`: ETH or tokens from the main account to any address (plugin.md, manifest `transfer`).

One step without a gateway. Read strictly here; asked each time unless a rule names this plugin and transfer
(`authority.rules`); whether the token would move is tried on the node before anybody is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from middleware.errors import InvalidParams, RpcError
from proxy.host.abi_values import check_address, check_integer, encode
from proxy.host.gateways import NodeCalls, selector
from proxy.host.operation_records import ETH, Step
from proxy.host.token_calls import balance_of

TRANSFER = "transfer(address,uint256)"
_KNOWN = frozenset({"to", "value", "token"})
_TYPES = [{"name": "to", "type": "address"}, {"name": "value", "type": "uint256"}]


def read_transfer(params: Mapping[str, Any]) -> Step:
    """Return the step. Raise `InvalidParams`."""
    for name in params:
        if name not in _KNOWN:
            raise InvalidParams(name[:64], f"one of {', '.join(sorted(_KNOWN))}", name)
    receiver = check_address(params.get("to"), "to")
    amount = check_integer(params.get("value"), "value")
    if not amount:
        raise InvalidParams("value", "more than nothing", params.get("value"))
    if params.get("token") is None:
        return Step(gateway=None, function=None, args=[], value=amount, to=receiver, data="0x", amount=amount)
    token = check_address(params["token"], "token")
    if receiver == token:
        raise InvalidParams("to", "another address than the token's own: what it holds itself is lost", receiver)
    return Step(
        gateway=None,
        function=TRANSFER,
        args=[receiver, hex(amount)],
        value=0,
        to=token,
        data="0x" + (selector(TRANSFER) + encode(_TYPES, [receiver, amount])).hex(),
        asset=token,
        amount=amount,
    )


async def refuse_hollow(l1: NodeCalls, step: Step, owner: str) -> None:
    """Raise where a token transfer would move nothing: no token there, too little of it, or it says no by returning false."""
    if step.asset == ETH:
        return
    await refuse_unheld(l1, step, owner)
    answer = await l1.call("eth_call", {"from": owner, "to": step.to, "data": step.data}, "latest")
    if isinstance(answer, str) and len(answer) >= 2 + 64 and not int(answer[:66], 16):
        raise RpcError(-32000, f"token {step.asset} refuses the transfer: it answers false")


async def refuse_unheld(l1: NodeCalls, step: Step, owner: str) -> None:
    """Raise where the owner has fewer units of the step's token than it takes."""
    held = await balance_of(l1, step.asset, owner)
    if held < step.amount:
        raise RpcError(
            -32000,
            f"insufficient funds: {owner} has {held} units of token {step.asset}, this takes {step.amount}",
            {"balance": hex(held), "needed": hex(step.amount)},
        )
