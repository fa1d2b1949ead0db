"""Which origin may do what: connected sites and their grants, on disk before they count.

The permission link asks here for every restricted call; admin commands and answered questions write here. Everything
lies in memory too, so that a check costs a dictionary look-up and takes the same time whether or not a plugin exists
(hardening.md 9). A revocation holds for the very next call (security.md 15): memory changes in the same step as the
disk, and callbacks tell those who hold open subscriptions and questions.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from middleware.waist import Origin, OriginKind
from proxy.authority.capabilities import (
    CAPABILITIES,
    ETH_ACCOUNTS,
    L2_GET_STATE,
    L2_INVOKE,
    Budget,
    Holdings,
    Invocations,
    Stamp,
    permission_objects,
)
from proxy.authority.origins import BadOrigin, parse_origin, parse_web_origin
from proxy.storage import Batch, Space


class Permissions:
    """The permission store; one per data directory."""

    def __init__(self, space_permissions: Space, space_sites: Space, clock: Callable[[], float] = time.time) -> None:
        self._space, self._sites_space, self._clock = space_permissions, space_sites, clock
        self._latest = 0.0
        self._revoked: list[Callable[[Origin], None]] = []
        self._held = {key.decode(): _read(value) for key, value in space_permissions.scan()}
        self._sites = {key.decode(): msgspec.json.decode(value, type=int) for key, value in space_sites.scan()}

    # -- connected sites

    def is_connected(self, origin: Origin) -> bool:
        """Tell whether `origin` may call what is passed through: every kind but a web page the owner has not connected."""
        return origin.kind is not OriginKind.WEB or origin.name in self._sites

    def connect(self, origin: Origin) -> None:
        """Let a page call what is passed through, from now on."""
        self._write(origin, self.holdings(origin))

    def disconnect(self, origin: Origin) -> bool:
        """Take everything from `origin`; tell whether it had anything."""
        name = str(origin)
        if not self.knows(origin):
            return False
        batch = Batch()
        batch.delete(self._sites_space, name.encode())
        batch.delete(self._space, name.encode())
        self._space.database.commit(batch)
        self._sites.pop(name, None)
        self._held.pop(name, None)
        self._tell(origin)
        return True

    def knows(self, origin: Origin) -> bool:
        """Tell whether `origin` is a connected page or holds anything."""
        return str(origin) in self._sites or str(origin) in self._held

    def sites(self) -> list[tuple[str, int]]:
        """Return the connected pages with the unix second since when."""
        return sorted(self._sites.items())

    # -- what an origin holds

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        """Return the addresses `origin` may see and ask signatures of; empty: none."""
        return self.holdings(origin).accounts

    def may_invoke(self, origin: Origin, plugin: str, action: str) -> bool:
        """Tell whether `origin` may invoke this action now."""
        held = self._live(origin, plugin)
        return held is not None and action in held.actions

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        """Tell whether `origin` may read what this plugin publishes."""
        return plugin in self.holdings(origin).state

    def plugins(self, origin: Origin) -> frozenset[str]:
        """Return the plugins `origin` is connected to: it holds l2_invoke or l2_getState for them."""
        held = self.holdings(origin)
        return frozenset(held.state) | {plugin for plugin in held.invoke if self._live(origin, plugin)}

    def budget(self, origin: Origin, plugin: str) -> Budget | None:
        """Return the budget `origin` has for this plugin's actions."""
        held = self._live(origin, plugin)
        return None if held is None else held.budget

    def holdings(self, origin: Origin) -> Holdings:
        """Return everything `origin` holds, expired parts included."""
        return self._held.get(str(origin), _NOTHING)

    def objects(self, origin: Origin) -> list[dict[str, Any]]:
        """Return what `origin` holds as EIP-2255 permission objects, without what has expired."""
        held = self.holdings(origin)
        invoke = {plugin: held.invoke[plugin] for plugin in held.invoke if self._live(origin, plugin)}
        return permission_objects(str(origin), msgspec.structs.replace(held, invoke=invoke))

    def origins(self) -> list[Origin]:
        """Return every origin that holds something, in the order of their names."""
        return [parse_origin(name) for name in sorted(self._held)]

    def connectable(self, origin: Origin) -> bool:
        """Tell whether `origin` is no page, or one the owner may connect: over TLS, of an extension, or of this machine."""
        try:
            return origin.kind is not OriginKind.WEB or parse_web_origin(origin.name) == origin
        except BadOrigin:
            return False

    # -- granting

    def grant_accounts(self, origin: Origin, addresses: Iterable[str]) -> None:
        """Let `origin` see exactly these accounts; a page becomes connected."""
        self.grant(origin, Holdings(accounts=tuple(addresses)))

    def grant_invoke(
        self,
        origin: Origin,
        plugin: str,
        actions: Iterable[str],
        budget: Budget | None = None,
        expires: int | None = None,
    ) -> None:
        """Let `origin` invoke these actions by name; they join what it holds on the same terms, else replace it."""
        self.grant(origin, Holdings(invoke={plugin: Invocations(tuple(actions), budget, expires)}))

    def grant_state(self, origin: Origin, plugins: Iterable[str]) -> None:
        """Let `origin` read what these plugins publish, beside what it reads already."""
        self.grant(origin, Holdings(state=tuple(plugins)))

    def grant(self, origin: Origin, added: Holdings) -> None:
        """Grant every non-empty part of `added` in one step; a page becomes connected. Nothing holds before it is on disk."""
        if any("*" in named.actions or not named.actions for named in added.invoke.values()):
            raise ValueError("actions are granted by name")
        held = self.holdings(origin)
        invoke = dict(held.invoke)
        for plugin, named in added.invoke.items():
            invoke[plugin] = _joined(invoke.get(plugin), named)
        merged = Holdings(
            accounts=added.accounts or held.accounts,
            invoke=invoke,
            state=tuple(dict.fromkeys((*held.state, *added.state))),
            stamps=dict(held.stamps),
        )
        now = int(self._now())
        for name in added.capabilities():
            merged.stamps[name] = Stamp(secrets.token_hex(8), now)
        self._write(origin, merged)

    # -- revoking

    def revoke(self, origin: Origin, capability: str | None = None, plugin: str | None = None) -> bool:
        """Take a capability (None: every one), of one plugin or of all; tell whether anything was held."""
        if not self.holds(origin, capability, plugin):
            return False
        self._write(origin, _without(self.holdings(origin), capability, plugin), connect=False)
        self._tell(origin)
        return True

    def holds(self, origin: Origin, capability: str | None = None, plugin: str | None = None) -> bool:
        """Tell whether there is anything that `revoke` with the same arguments would take."""
        held = self.holdings(origin)
        return _without(held, capability, plugin) != held

    def drop_plugin(self, plugin: str) -> None:
        """Take from every origin what it holds for a plugin that is removed."""
        for origin in self.origins():
            self.revoke(origin, plugin=plugin)

    def drop_actions(self, plugin: str, actions: Sequence[str]) -> None:
        """Take from every origin what it may invoke of a plugin by these names; its budget goes with the last of them."""
        for origin in self.origins():
            held = self.holdings(origin)
            named = held.invoke.get(plugin)
            if named is None or not set(actions) & set(named.actions):
                continue
            left = tuple(name for name in named.actions if name not in actions)
            if not left:
                self.revoke(origin, L2_INVOKE, plugin)
                continue
            invoke = {**held.invoke, plugin: msgspec.structs.replace(named, actions=left)}
            self._write(origin, msgspec.structs.replace(held, invoke=invoke), connect=False)
            self._tell(origin)

    def on_revoked(self, callback: Callable[[Origin], None]) -> None:
        """Call `callback` after anything was taken from an origin."""
        self._revoked.append(callback)

    # -- inside

    def _live(self, origin: Origin, plugin: str) -> Invocations | None:
        held = self.holdings(origin).invoke.get(plugin)
        return None if held is None or (held.expires is not None and held.expires <= self._now()) else held

    def _now(self) -> float:
        # A clock set back revives nothing that has expired (security.md 25).
        self._latest = max(self._latest, self._clock())
        return self._latest

    def _write(self, origin: Origin, held: Holdings, *, connect: bool = True) -> None:
        name = str(origin)
        batch = Batch()
        if held.empty():
            batch.delete(self._space, name.encode())
        else:
            batch.put(self._space, name.encode(), _written(held))
        joins = connect and origin.kind is OriginKind.WEB and name not in self._sites
        if joins:
            parse_web_origin(name)  # what cannot be connected is never written
        since = int(self._now())
        if joins:
            batch.put(self._sites_space, name.encode(), msgspec.json.encode(since))
        self._space.database.commit(batch)
        if held.empty():
            self._held.pop(name, None)
        else:
            self._held[name] = held
        if joins:
            self._sites[name] = since

    def _tell(self, origin: Origin) -> None:
        for callback in self._revoked:
            callback(origin)


_NOTHING = Holdings()


def _without(held: Holdings, capability: str | None, plugin: str | None) -> Holdings:
    if capability is not None and capability not in CAPABILITIES:
        raise ValueError(f"{capability} is no capability; there are {', '.join(CAPABILITIES)}")
    accounts, invoke, state = held.accounts, held.invoke, held.state
    if capability in (None, ETH_ACCOUNTS) and plugin is None:
        accounts = ()
    if capability in (None, L2_INVOKE):
        invoke = {name: value for name, value in invoke.items() if plugin not in (None, name)}
    if capability in (None, L2_GET_STATE):
        state = tuple(name for name in state if plugin not in (None, name))
    left = Holdings(accounts, invoke, state)
    stamps = {name: stamp for name, stamp in held.stamps.items() if name in left.capabilities()}
    return msgspec.structs.replace(left, stamps=stamps)


def _read(value: bytes) -> Holdings:
    return msgspec.convert(json.loads(value), Holdings)


def _written(held: Holdings) -> bytes:
    # The standard library's JSON: amounts exceed the 64 bits msgspec writes.
    return json.dumps(msgspec.to_builtins(held)).encode()


def _joined(held: Invocations | None, added: Invocations) -> Invocations:
    # On other terms the new grant replaces the old: joined, an action would fall under a budget or an end the owner
    # never saw beside it.
    if held is None or (held.budget, held.expires) != (added.budget, added.expires):
        return added
    return msgspec.structs.replace(added, actions=tuple(dict.fromkeys((*held.actions, *added.actions))))
