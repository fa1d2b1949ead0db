"""What a plugin asks for with `deposit`, `withdraw`, `send` and `plan`, turned into steps: checked against the manifest, encoded.

Only functions the manifest lists, only the gateways the owner approved, only values within their bounds (hardening.md 20).
Pure: nothing is asked, stored or sent here. Transfers, which know no gateway, are in `operation_transfers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_same_address

from middleware.errors import InvalidParams, Unauthorized
from proxy.host.abi_values import check, check_address, check_fields, check_integer, encode
from proxy.host.gateway_abi import find_function
from proxy.host.gateways import refuse_functions, selector
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_records import ETH, Step
from proxy.host.operation_waits import read_wait

_KNOWN = {
    "deposit": frozenset({"gateway", "function", "args", "value", "token"}),
    "withdraw": frozenset({"gateway", "function", "args", "value"}),
    "send": frozenset({"gateway", "function", "args"}),
    "plan": frozenset({"gateway", "function", "args", "value", "waitFor"}),
}
APPROVE = "approve(address,uint256)"
MAX_STEPS = 16

_INTEGERS = re.compile(r"\b(u?int)\b", re.ASCII)


def gateway_of(plugin: InstalledPlugin, params: Mapping[str, Any]) -> Gateway:
    """Return the gateway the params name, the plugin's only one without a name. Raise `Unauthorized` for no such one."""
    name = params.get("gateway")
    if name is not None and not isinstance(name, str):
        raise InvalidParams("gateway", "the name of a gateway", name)
    gateway = plugin.gateway(name)
    if gateway is None:
        known = ", ".join(sorted(gateway.name for gateway in plugin.gateways)) or "none on this chain"
        raise Unauthorized(f"{plugin.id} has no such gateway; approved: {known}")
    return gateway


def read_step(kind: str, gateway: Gateway, params: Mapping[str, Any], *, locked: bool = False) -> Step:
    """Return the one call that is asked for. Raise `InvalidParams`, or `Unauthorized` outside the manifest.

    `locked`: the main accounts cannot sign; of `send` only the manifest's dispute functions are served then.
    """
    _refuse_unknown(kind, params)
    signature = _function(params.get("function"), _listed(kind, gateway, locked=locked), kind)
    entry = find_function(gateway.abi, signature)
    if entry is None:
        raise Unauthorized(f"the gateway's ABI has no function {signature}")
    refuse_functions((signature,))
    amount = check_integer(params.get("value", 0), "value")
    token = params.get("token")
    asset = ETH if token is None else _token(token, gateway)
    value = amount if token is None else 0
    pays_in = kind == "plan" and signature in gateway.deposit
    _bound(kind, gateway, entry, value, free=kind == "deposit" or pays_in)
    step = Step(
        gateway=gateway.name,
        function=signature,
        args=None,
        value=value,
        to=gateway.address,
        data="0x",
        asset=asset,
        amount=amount,
        pays_in=pays_in,
    )
    if kind == "plan" and "args" in params and params["args"] is None:
        return step
    fill(step, gateway, params.get("args", []))
    return step


def read_plan(plugin: InstalledPlugin, params: Mapping[str, Any]) -> list[Step]:
    """Return the steps of a plan. Raise `InvalidParams` naming the step, or `Unauthorized` outside the manifest."""
    for name in params:
        if name != "steps":
            raise InvalidParams(name[:64], "steps, or operation with args", name)
    rows = params.get("steps")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_STEPS:
        raise InvalidParams("steps", f"a list of 1 to {MAX_STEPS} steps", rows)
    steps = []
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidParams(f"steps[{place}]", "an object of gateway, function, args, value, waitFor", row)
        given = {name: value for name, value in row.items() if value is not None or name == "args"}
        try:
            step = read_step("plan", gateway_of(plugin, given), given)
            if "waitFor" in given:
                step.wait = read_wait(plugin, given["waitFor"])
        except InvalidParams as error:
            raise _inside(f"steps[{place}]", error) from None
        steps.append(step)
    return steps


def fill(step: Step, gateway: Gateway, args: Any) -> None:
    """Give a step its arguments, an array in declared order or an object. Raise `InvalidParams`."""
    entry = find_function(gateway.abi, step.function or "")
    if entry is None:
        raise Unauthorized(f"the gateway's ABI has no function {step.function}")
    types = inputs_of(entry)
    wire = check_fields(types, args, "args")
    values = [check(declared, wire[declared["name"]], declared["name"]) for declared in types]
    step.args = [wire[declared["name"]] for declared in types]
    step.data = "0x" + (selector(step.function or "") + encode(types, values)).hex()


def inputs_of(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs of a function or event; unnamed ones are called `arg0`, `arg1`, …"""
    return [
        {**declared, "name": declared.get("name") or f"arg{place}"}
        for place, declared in enumerate(entry.get("inputs", []))
    ]


def allowance_step(gateway: Gateway, token: str, amount: int) -> Step:
    """Return the step that lets the gateway take exactly `amount` units of `token`; 0 takes an allowance back."""
    types = [{"name": "spender", "type": "address"}, {"name": "amount", "type": "uint256"}]
    data = selector(APPROVE) + encode(types, [gateway.address, amount])
    return Step(
        gateway=gateway.name,
        function=APPROVE,
        args=[gateway.address, hex(amount)],
        value=0,
        to=token,
        data="0x" + data.hex(),
        asset=token,
        amount=amount,
        is_allowance=True,
    )


def _refuse_unknown(kind: str, params: Mapping[str, Any]) -> None:
    for name in params:
        if name not in _KNOWN[kind]:
            raise InvalidParams(name[:64], f"one of {', '.join(sorted(_KNOWN[kind]))}", name)


def _listed(kind: str, gateway: Gateway, *, locked: bool) -> tuple[str, ...]:
    """Return the functions the manifest lists for a kind of call."""
    if kind == "deposit":
        return gateway.deposit
    if kind == "withdraw":
        return gateway.withdraw
    if kind == "send" and locked:
        return gateway.dispute
    # With an own key or as one step of several: whatever is listed at all, dispute answers first.
    return tuple(dict.fromkeys((*gateway.dispute, *gateway.withdraw, *gateway.deposit)))


def _inside(where: str, error: InvalidParams) -> InvalidParams:
    """Return the error with its place in the whole request."""
    row: dict[str, Any] = error.data if isinstance(error.data, dict) else {}
    return InvalidParams(f"{where}.{row.get('param')}", str(row.get("expected")), row.get("got"))


def _token(token: Any, gateway: Gateway) -> str:
    asset = check_address(token, "token")
    if is_same_address(asset, gateway.address):
        raise Unauthorized("the token cannot be the gateway itself")
    if gateway.locked is not None and gateway.locked.asset is None:
        raise Unauthorized(
            f"the manifest's locked event of gateway {gateway.name} names no asset, so it cannot take tokens"
        )
    return asset


def _function(name: Any, listed: tuple[str, ...], kind: str) -> str:
    """Return the listed signature that `name` means: itself, the only one of this name, or the only one at all."""
    if name is None:
        found = list(listed)
    elif isinstance(name, str):
        squeezed = _INTEGERS.sub(r"\g<1>256", name.replace(" ", ""))
        found = [one for one in listed if squeezed in (one, one.partition("(")[0])]
    else:
        raise InvalidParams("function", "the name or signature of a function", name)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidParams("function", f"one of {', '.join(found)}", name)
    raise Unauthorized(f"the manifest lists no such function for {kind}; listed: {', '.join(listed) or 'none'}")


def _bound(kind: str, gateway: Gateway, entry: Mapping[str, Any], value: int, *, free: bool) -> None:
    if value and entry.get("stateMutability", "payable") != "payable":
        raise InvalidParams("value", f"0, for {entry['name']} takes no ETH", hex(value))
    if not free and value > gateway.max_value:
        what = "a withdrawal" if kind == "withdraw" else "a step of a plan"
        raise Unauthorized(f"{what} may carry at most {gateway.max_value} wei; the manifest's max_value says so")
