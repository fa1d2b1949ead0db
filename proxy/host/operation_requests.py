"""What a plugin asks for with `deposit` and `withdraw`, turned into steps: checked against the manifest, encoded.

Only functions the manifest lists, only the gateways the owner approved, only values within their bounds (hardening.md 20).
Pure: nothing is asked, stored or sent here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_same_address

from middleware.errors import InvalidParams, Unauthorized
from proxy.host.abi_values import check, check_address, check_fields, check_integer, encode
from proxy.host.gateway_abi import find_function
from proxy.host.gateways import refuse_functions, selector
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_records import ETH, Step

_KNOWN = {
    "deposit": frozenset({"gateway", "function", "args", "value", "token"}),
    "withdraw": frozenset({"gateway", "function", "args", "value"}),
}
APPROVE = "approve(address,uint256)"


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


def read_step(kind: str, gateway: Gateway, params: Mapping[str, Any]) -> Step:
    """Return the one call of a `deposit` or `withdraw`. Raise `InvalidParams`, or `Unauthorized` outside the manifest."""
    for name in params:
        if name not in _KNOWN[kind]:
            raise InvalidParams(name[:64], f"one of {', '.join(sorted(_KNOWN[kind]))}", name)
    listed = gateway.deposit if kind == "deposit" else gateway.withdraw
    signature = _function(params.get("function"), listed, kind)
    entry = find_function(gateway.abi, signature)
    if entry is None:
        raise Unauthorized(f"the gateway's ABI has no function {signature}")
    refuse_functions((signature,))
    types = _types(entry)
    wire = check_fields(types, params.get("args", []), "args")
    values = [check(declared, wire[declared["name"]], declared["name"]) for declared in types]
    amount = check_integer(params.get("value", 0), "value")
    token = params.get("token")
    asset = ETH if token is None else check_address(token, "token")
    if token is not None and is_same_address(asset, gateway.address):
        raise Unauthorized("the token cannot be the gateway itself")
    if token is not None and gateway.locked is not None and gateway.locked.asset is None:
        raise Unauthorized(
            f"the manifest's locked event of gateway {gateway.name} names no asset, so it cannot take tokens"
        )
    value = amount if token is None else 0
    _bound(kind, gateway, entry, value)
    data = selector(signature) + encode(types, values)
    return Step(
        gateway=gateway.name,
        function=signature,
        args=[wire[declared["name"]] for declared in types],
        value=value,
        to=gateway.address,
        data="0x" + data.hex(),
        asset=asset,
        amount=amount,
    )


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
        is_allowance=True,
    )


def _function(name: Any, listed: tuple[str, ...], kind: str) -> str:
    """Return the listed signature that `name` means: itself, the only one of this name, or the only one at all."""
    if name is None:
        found = list(listed)
    elif isinstance(name, str):
        squeezed = name.replace(" ", "")
        found = [one for one in listed if squeezed in (one, one.partition("(")[0])]
    else:
        raise InvalidParams("function", "the name or signature of a function", name)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidParams("function", f"one of {', '.join(found)}", name)
    raise Unauthorized(f"the manifest lists no such function for {kind}; listed: {', '.join(listed) or 'none'}")


def _types(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the function's inputs; unnamed ones are called `arg0`, `arg1`, …"""
    return [
        {**declared, "name": declared.get("name") or f"arg{place}"}
        for place, declared in enumerate(entry.get("inputs", []))
    ]


def _bound(kind: str, gateway: Gateway, entry: Mapping[str, Any], value: int) -> None:
    if value and entry.get("stateMutability", "payable") != "payable":
        raise InvalidParams("value", f"0, for {entry['name']} takes no ETH", hex(value))
    if kind == "withdraw" and value > gateway.max_value:
        raise Unauthorized(f"a withdrawal may carry at most {gateway.max_value} wei; the manifest's max_value says so")
