"""What another version of a plugin changes: told to the owner, and taken from nobody but whom it concerns (hardening.md 25).

Compares two manifests, nothing else. An update grants nothing new by itself: what a granted name means more of than before is
asked again; an action that is called, paid or approved differently loses what sites and rules had for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.host.manifest import GRANTS, Action, Manifest
from proxy.host.registry import Override


@dataclass(frozen=True)
class Difference:
    """`sentences`: for the owner; `asks_again`: grants that are new or mean more; `changed_actions`: lose grants and rules."""

    sentences: tuple[str, ...]
    asks_again: frozenset[str]
    changed_actions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as `plugin update` shows it."""
        return {
            "changes": list(self.sentences),
            "asksAgain": [name for name in GRANTS if name in self.asks_again],
            "changedActions": list(self.changed_actions),
        }


def difference(old: Manifest, new: Manifest, *, overridden: bool) -> Difference:
    """Compare; `overridden`: the owner named the hub, so that the manifest's says nothing."""
    again = set(new.requested() - old.requested())
    again |= {name for name, more in _WIDER.items() if name in new.requested() and more(old, new)}
    if not overridden and old.hub is not None and new.hub is not None and old.hub.url != new.hub.url:
        again.add("hub")
    actions = changed_actions(old, new)
    return Difference(tuple(_sentences(old, new, actions)), frozenset(again), actions)


def changed_actions(old: Manifest, new: Manifest) -> tuple[str, ...]:
    """Return the actions of the old version that are gone or are called, paid or approved differently now."""
    after = {action.name: _terms(action) for action in new.action}
    return tuple(sorted(action.name for action in old.action if after.get(action.name) != _terms(action)))


def kept_overrides(old: tuple[Override, ...], given: tuple[Override, ...], new: Manifest) -> tuple[Override, ...]:
    """Return the owner's gateway addresses of before, those given now in their place, as far as the gateways still exist."""
    names = {entry.name for entry in new.gateway}
    kept = {(row.name, row.chain): row for row in old if row.name in names}
    return tuple({**kept, **{(row.name, row.chain): row for row in given}}.values())


def _terms(action: Action) -> Any:
    return msgspec.to_builtins(
        (
            [(param.name, param.type, param.components) for param in action.params],
            None if action.spends is None else (action.spends.param, action.spends.asset),
            action.approval,
        )
    )


def _more_layer1(old: Manifest, new: Manifest) -> bool:
    return not set(new.permissions.layer1) <= {*old.permissions.layer1, "eth_sendRawTransaction"}


def _more_keys(old: Manifest, new: Manifest) -> bool:
    return new.permissions.watch_while_locked and not old.permissions.watch_while_locked


def _other_gateways(old: Manifest, new: Manifest) -> bool:
    before = [msgspec.to_builtins(entry) for entry in old.gateway]
    return any(msgspec.to_builtins(entry) not in before for entry in new.gateway)


_WIDER: dict[str, Callable[[Manifest, Manifest], bool]] = {
    "store": lambda old, new: new.permissions.store_bytes > old.permissions.store_bytes,
    "keys": _more_keys,
    "gateway": _other_gateways,
    "layer1": _more_layer1,
}


def _sentences(old: Manifest, new: Manifest, changed: tuple[str, ...]) -> list[str]:
    told = [f"version {old.version} becomes {new.version}"]
    told += [f"it asks for {name} now" for name in GRANTS if name in new.requested() - old.requested()]
    told += [f"it no longer asks for {name}" for name in GRANTS if name in old.requested() - new.requested()]
    if old.hub is not None and new.hub is not None and old.hub.url != new.hub.url:
        told.append(f"its hub was {old.hub.url} and is {new.hub.url}")
    told += _told_gateways(old, new)
    if more := sorted(set(new.permissions.layer1) - set(old.permissions.layer1)):
        told.append(f"it wants to use {', '.join(more)} on L1")
    for name in ("store_bytes", "memory_bytes", "cpu_seconds_per_minute", "watch_while_locked"):
        before, after = getattr(old.permissions, name), getattr(new.permissions, name)
        if before != after:
            told.append(f"{name} was {str(before).lower()} and is {str(after).lower()}")
    there = {action.name for action in new.action}
    told += [f"action {name} is {'another' if name in there else 'gone'}; sites and rules lose it" for name in changed]
    told += [f"action {name} is new" for name in sorted(there - {action.name for action in old.action})]
    return told


def _told_gateways(old: Manifest, new: Manifest) -> list[str]:
    before = {(entry.name, entry.chain): entry for entry in old.gateway}
    after = {(entry.name, entry.chain): entry for entry in new.gateway}
    told = [f"gateway {name} on chain {chain} is gone" for name, chain in before.keys() - after.keys()]
    for place, entry in after.items():
        where = f"gateway {place[0]} on chain {place[1]}"
        if place not in before:
            told.append(f"{where} is new: {entry.address}")
        elif (was := before[place]) != entry:
            parts = [field for field in entry.__struct_fields__ if getattr(was, field) != getattr(entry, field)]
            told += [f"{where}: {part} was {_shown(was, part)} and is {_shown(entry, part)}" for part in parts]
    return sorted(told)


def _shown(entry: Any, part: str) -> str:
    value = msgspec.to_builtins(getattr(entry, part))
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return "nothing" if value is None else str(value)
