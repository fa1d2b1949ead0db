"""What an origin asks for by `wallet_requestPermissions`: read strictly, narrowed by the owner, turned into grants.

A request is one object whose keys are capabilities (EIP-2255) with the proxy's caveats (rpc.md, "Permissions"). Nothing in
it is looked up while it is read: whether a plugin exists is known to the grant alone, after the owner's answer
(hardening.md 9). All actions (`["*"]`) become names when granted, so that an update of the plugin grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from middleware.errors import InvalidParams
from proxy.authority.capabilities import (
    CAPABILITIES,
    ETH_ACCOUNTS,
    L2_GET_STATE,
    L2_INVOKE,
    Budget,
    Holdings,
    Invocations,
)

MOST_NAMES = 64
_PLUGIN = re.compile(r"[a-z0-9-]{2,32}")
_ACTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,63})")


def read_request(asked: Any, now: float, where: str = "0") -> Holdings:
    """Return what the object `asked` asks for; `accounts` is ("*",) where accounts are asked for at all.

    Raises `InvalidParams` naming the part that is wrong. `now`: unix seconds, `expires` must lie behind it.
    """
    if not isinstance(asked, dict) or not asked:
        raise InvalidParams(where, 'an object of capabilities, such as {"eth_accounts": {}}', asked)
    for name in asked:
        if name not in CAPABILITIES:
            raise InvalidParams(f"{where}.{name}", f"one of the capabilities {', '.join(CAPABILITIES)}", name)
    return Holdings(
        accounts=_accounts(asked[ETH_ACCOUNTS], f"{where}.{ETH_ACCOUNTS}") if ETH_ACCOUNTS in asked else (),
        invoke=_invoke(asked[L2_INVOKE], now, f"{where}.{L2_INVOKE}") if L2_INVOKE in asked else {},
        state=_state(asked[L2_GET_STATE], f"{where}.{L2_GET_STATE}") if L2_GET_STATE in asked else (),
    )


def narrow(asked: Holdings, chosen: Holdings) -> Holdings:
    """Return the part of `asked` that the owner chose; raise `InvalidParams` where the owner's choice is wider.

    An end that was asked for holds although the choice does not repeat it; a budget left out is one not granted.
    """
    if not set(chosen.state) <= set(asked.state) or (chosen.accounts and not asked.accounts):
        raise InvalidParams("only", "nothing beyond what was asked", "more")
    invoke = {plugin: _narrowed(plugin, asked.invoke.get(plugin), named) for plugin, named in chosen.invoke.items()}
    return Holdings(chosen.accounts, invoke, chosen.state)


def _narrowed(plugin: str, most: Invocations | None, chosen: Invocations) -> Invocations:
    where = f"only.{plugin}"
    if most is None or not ("*" in most.actions or set(chosen.actions) <= set(most.actions)):
        raise InvalidParams(f"{where}.actions", "nothing beyond what was asked", list(chosen.actions))
    expires = most.expires if chosen.expires is None else chosen.expires
    if expires is not None and most.expires is not None and expires > most.expires:
        raise InvalidParams(f"{where}.expires", f"at most {most.expires}, as was asked", expires)
    if chosen.budget is not None and not _within(chosen.budget, most.budget):
        asked = "none" if most.budget is None else str(most.budget.to_json())
        raise InvalidParams(f"{where}.budget", f"no more, and no more often, than was asked: {asked}", "more")
    return Invocations(chosen.actions, chosen.budget, expires)


def _within(chosen: Budget, most: Budget | None) -> bool:
    if most is None or chosen.asset.lower() != most.asset.lower():
        return False
    return chosen.amount <= most.amount and chosen.period >= most.period


def written_out(asked: Holdings, actions: Callable[[str], Sequence[str] | None]) -> Holdings:
    """Return `asked` with every action by name and without what does not exist. `actions`: names of a plugin's actions."""
    invoke: dict[str, Invocations] = {}
    for plugin, named in asked.invoke.items():
        there = actions(plugin) or ()
        names = tuple(there) if "*" in named.actions else tuple(name for name in named.actions if name in there)
        if names:
            invoke[plugin] = Invocations(names, named.budget, named.expires)
    state = tuple(plugin for plugin in asked.state if actions(plugin) is not None)
    return Holdings(asked.accounts, invoke, state)


def _accounts(value: Any, where: str) -> tuple[str, ...]:
    if value != {}:
        raise InvalidParams(where, "{}: the owner chooses the accounts", value)
    return ("*",)


def _invoke(value: Any, now: float, where: str) -> dict[str, Invocations]:
    plugins = _only(value, {"plugins"}, where).get("plugins")
    if not isinstance(plugins, dict) or not 0 < len(plugins) <= MOST_NAMES:
        raise InvalidParams(f"{where}.plugins", 'an object such as {"paychan": {"actions": ["makePayment"]}}', plugins)
    return {
        _plugin(name, f"{where}.plugins"): _terms(terms, now, f"{where}.plugins.{name}")
        for name, terms in plugins.items()
    }


def _terms(value: Any, now: float, where: str) -> Invocations:
    terms = _only(value, {"actions", "budget", "expires"}, where)
    actions = terms.get("actions")
    if not _texts(actions) or (actions != ["*"] and not all(_ACTION.fullmatch(name) for name in actions)):
        raise InvalidParams(f"{where}.actions", 'a list of action names, or ["*"]', actions)
    expires = terms.get("expires")
    if expires is not None and (type(expires) is not int or not now < expires < 2**53):
        raise InvalidParams(f"{where}.expires", "a unix time in seconds that has not passed", expires)
    budget = terms.get("budget")
    return Invocations(
        tuple(dict.fromkeys(actions)), None if budget is None else _budget(budget, f"{where}.budget"), expires
    )


def _budget(value: Any, where: str) -> Budget:
    terms = _only(value, {"asset", "amount", "period"}, where)
    asset, amount, period = terms.get("asset"), terms.get("amount"), terms.get("period")
    if asset != "ETH" and not (isinstance(asset, str) and _ADDRESS.fullmatch(asset)):
        raise InvalidParams(f"{where}.asset", '"ETH" or a token\'s address', asset)
    if not (isinstance(amount, str) and _QUANTITY.fullmatch(amount)):
        raise InvalidParams(f"{where}.amount", "a quantity such as 0xde0b6b3a7640000", amount)
    if type(period) is not int or not 0 < period < 2**53:
        raise InvalidParams(f"{where}.period", "a number of seconds above zero", period)
    return Budget(asset, int(amount, 16), period)


def _state(value: Any, where: str) -> tuple[str, ...]:
    plugins = _only(value, {"plugins"}, where).get("plugins")
    if not _texts(plugins):
        raise InvalidParams(f"{where}.plugins", 'a list of plugins such as ["paychan"]', plugins)
    return tuple(dict.fromkeys(_plugin(name, f"{where}.plugins") for name in plugins))


def _plugin(name: str, where: str) -> str:
    if _PLUGIN.fullmatch(name) is None:
        raise InvalidParams(where, "ids of plugins: 2 to 32 of a-z 0-9 -", name)
    return name


def _only(value: Any, known: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParams(where, f"an object with {', '.join(sorted(known))}", value)
    for key in value:
        if key not in known:
            raise InvalidParams(f"{where}.{key}", f"only {', '.join(sorted(known))}", key)
    return value


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and 0 < len(value) <= MOST_NAMES and all(isinstance(item, str) for item in value)
