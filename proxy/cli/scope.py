"""`--allow-plugin ID[:ACTION,…]`, as `token new` and `permission grant` take it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


class PluginScope(click.ParamType[dict[str, Any]]):
    """Reads `paychan` (its state and all its present actions) or `paychan:makePayment,close` (these actions)."""

    name = "ID[:ACTION,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return the member of `allowPlugins`."""
        if isinstance(value, dict):
            return value
        plugin, colon, actions = str(value).partition(":")
        names = [name.strip() for name in actions.split(",")]
        if not plugin or (colon and not all(names)):
            self.fail(f"{value!r}: expected a plugin's id, or id:action,action", param, ctx)
        return {"plugin": plugin, "actions": names} if colon else {"plugin": plugin}


def permission_lines(held: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line for each EIP-2255 permission: id, who, what, and its caveats in short."""
    return [
        f"{entry['id']}  {entry['invoker']}  {entry['parentCapability']}: {'; '.join(map(_caveat, entry['caveats']))}"
        for entry in held
    ]


def _caveat(caveat: dict[str, Any]) -> str:
    value = caveat["value"]
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "; ".join(f"{plugin}: {_terms(terms)}" for plugin, terms in value.items())


def _terms(terms: dict[str, Any]) -> str:
    text = ", ".join(terms["actions"])
    rest = {name: value for name, value in terms.items() if name != "actions"}
    return f"{text} {json.dumps(rest)}" if rest else text
