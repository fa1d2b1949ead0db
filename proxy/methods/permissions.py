"""`wallet_getPermissions`, `wallet_requestPermissions`, `wallet_revokePermissions` (EIP-2255) for dapps.

A request is read strictly, asked of the owner as one question, and granted in one write; what holds is decided by
`proxy.authority`. Nothing about plugins may be looked up before the owner has answered (hardening.md 9).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from middleware.approval import amount_text
from middleware.errors import InvalidParams, Refused, Unauthorized
from middleware.questions import Decision, Facts, Question, digest_of
from middleware.waist import Context, Handler, Origin
from proxy.authority.capabilities import CAPABILITIES, Holdings, Invocations
from proxy.authority.permissions import Permissions
from proxy.authority.requests import narrow, read_request, written_out


class Approvals(Protocol):
    """Who decides."""

    async def ask(self, question: Question) -> Decision:
        """Return a yes; raise 4001 and what else keeps it from one."""


def handlers(
    permissions: Permissions,
    approvals: Approvals,
    actions: Callable[[str], Sequence[str] | None],
    addresses: Callable[[], Sequence[str]],
    clock: Callable[[], float] = time.time,
) -> dict[str, Handler]:
    """Return the three methods. `actions`: names of an installed plugin's actions (None: not installed); `addresses`: the
    owner's main accounts, checksummed.
    """

    async def get_permissions(params: Any, context: Context) -> Any:
        return permissions.objects(context.origin)

    async def request_permissions(params: Any, context: Context) -> Any:
        asked = read_request(_one(params), clock())
        await approvals.ask(_question(permissions, actions, addresses, asked, context, clock))
        held = permissions.objects(context.origin)
        return [held_one for held_one in held if held_one["parentCapability"] in asked.capabilities()]

    async def revoke_permissions(params: Any, context: Context) -> Any:
        named = _one(params)
        if not isinstance(named, dict) or not named:
            raise InvalidParams("0", 'an object of capabilities, such as {"eth_accounts": {}}', named)
        for capability in named:
            if capability not in CAPABILITIES:
                raise InvalidParams(f"0.{capability}", f"one of {', '.join(CAPABILITIES)}", capability)
        for capability in named:
            permissions.revoke(context.origin, capability)
        return None

    return {
        "wallet_getPermissions": get_permissions,
        "wallet_requestPermissions": request_permissions,
        "wallet_revokePermissions": revoke_permissions,
    }


def _one(params: Any) -> Any:
    if isinstance(params, dict):
        return params
    if not isinstance(params, list) or len(params) != 1:
        raise InvalidParams("params", "[one object of capabilities]", params)
    return params[0]


def _question(
    permissions: Permissions,
    actions: Callable[[str], Sequence[str] | None],
    addresses: Callable[[], Sequence[str]],
    asked: Holdings,
    context: Context,
    clock: Callable[[], float],
) -> Question:
    origin = context.origin

    def grant(chosen: Any) -> None:
        wanted = asked
        choice = chosen if isinstance(chosen, dict) else {}
        if "permissions" in choice:
            wanted = narrow(asked, read_request(choice["permissions"], clock(), "only"))
        granted = written_out(wanted, actions)
        if wanted.accounts:
            granted = msgspec.structs.replace(granted, accounts=_accounts(choice.get("accounts"), addresses()))
        if granted.empty():
            raise Refused("nothing of this can be granted")
        permissions.grant(origin, granted)

    return Question(
        origin=origin,
        kind="permissions",
        summary=_summary(origin, asked, actions),
        digest=digest_of({"kind": "permissions", "origin": str(origin), "asked": msgspec.to_builtins(_texts(asked))}),
        facts=Facts("wallet_requestPermissions", always_ask=True),
        details={"asked": _texts(asked)},
        presence=context.presence,
        apply=grant,
    )


def _accounts(chosen: Any, addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the accounts the owner chose, or the first one."""
    if not addresses:
        raise Unauthorized("there is no account yet", "l2proxy init")
    if chosen is None:
        return (addresses[0],)
    known = {address.lower(): address for address in addresses}
    unknown = [address for address in chosen if address.lower() not in known]
    if unknown or not chosen:
        raise InvalidParams("accounts", f"some of the owner's accounts {', '.join(addresses)}", unknown)
    return tuple(dict.fromkeys(known[address.lower()] for address in chosen))


def _summary(origin: Origin, asked: Holdings, actions: Callable[[str], Sequence[str] | None]) -> str:
    parts = ["see an account of yours and ask for its signatures"] if asked.accounts else []
    for plugin, named in asked.invoke.items():
        which = "every action" if "*" in named.actions else ", ".join(named.actions)
        parts.append(f"invoke {which} of plugin {plugin}{_installed(plugin, actions)}{_terms(named)}")
    parts += [f"read the state of plugin {plugin}{_installed(plugin, actions)}" for plugin in asked.state]
    return f"let {origin} {'; '.join(parts)}"


def _installed(plugin: str, actions: Callable[[str], Sequence[str] | None]) -> str:
    return "" if actions(plugin) is not None else " (not installed: a yes grants nothing of it)"


def _terms(named: Invocations) -> str:
    text = ""
    if named.budget is not None:
        text += (
            f", at most {amount_text(named.budget.amount, named.budget.asset)} within {named.budget.period} s unasked"
        )
    if named.expires is not None:
        text += f", until {_date(named.expires)}"
    return text


def _date(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError):
        return f"unix time {seconds}"


def _texts(asked: Holdings) -> dict[str, Any]:
    return {
        "eth_accounts": bool(asked.accounts),
        "l2_invoke": {plugin: named.to_json() for plugin, named in asked.invoke.items()},
        "l2_getState": list(asked.state),
    }
