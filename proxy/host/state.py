"""What plugins publish: a common state and, per origin, what that origin alone sees laid over it (hardening.md 10).

Written by `updateLayer2State`, read by `l2_getState` and its subscription. On disk before it is told, in the plugin's own turns
(`store_turns`); every publication has a revision of its own. What a plugin answered when it was asked for one origin is shown to that
origin alone, in place of the common state, until the next common one: it may hold what no other site should see. State is an object of at
most 256 KiB and depth 16 without members that JavaScript would trip over.
Sources: RFC 7396 (merge patch), RFC 6901 (JSON Pointer).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from middleware.errors import InvalidParams, LimitExceeded, RpcError
from middleware.waist import Origin, OriginKind
from proxy.host.services.store_turns import Turns
from proxy.storage import Batch, Space

MAX_STATE = 256 * 1024  # bytes of JSON
MAX_DEPTH = 16
MAX_OWN = 4 * 1024 * 1024  # bytes of all single origins' states together
MAX_ORIGINS = 1024  # that have a state of their own
MAX_ASKED = 32  # origins whose answers are kept; the one asked longest ago is asked anew
UNFIT = frozenset({"__proto__", "constructor", "prototype"})

_POINTER = re.compile(r"(/([^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)

Changed = Callable[[str, int, Origin | None], None]


@dataclass
class Published:
    """What one plugin has published. `block`: the newest L1 block then; `own`, `asked`: by the text of the origin.

    `common` is False while only single origins were shown something; `asked` is what the plugin answered for an origin
    since the last common state; `sizes`: bytes of each of `own`.
    """

    revision: int = 0
    block: int = 0
    common: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def known_to(self, origin: Origin) -> bool:
        """Tell whether there is a state to show to `origin` without asking the plugin."""
        return self.common or str(origin) in self.asked


@dataclass(frozen=True)
class _Publication:
    """One change of what a plugin publishes; `asked`: what it answered for `origin`. `state` counts where `patch` is None."""

    plugin_id: str
    origin: Origin | None
    block: int
    state: Any = None
    patch: Any = None
    asked: bool = False

    def upon(self, before: Published) -> tuple[Published, bytes | None]:
        """Return what becomes of `before`, which stays as it is, and the stored form of what the origin has of its own now.

        Raises InvalidParams and LimitExceeded.
        """
        name = None if self.origin is None else str(self.origin)
        if self.asked and self.origin is not None and name is not None:
            # Only now is it known what was published when it had nothing to add.
            state = self.state if self.state is not None else before.state if before.common else {}
            check_state(state)
            if before.known_to(self.origin) and before.asked.get(name, before.state) == state:
                return before, None
            kept = {key: value for key, value in before.asked.items() if key != name}
            asked = dict([*kept.items(), (name, state)][-MAX_ASKED:])
            return replace(before, revision=before.revision + 1, block=self.block, asked=asked), None
        present = before.state if name is None else before.own.get(name, {})
        after = self.state if self.patch is None else merge_patch(present, self.patch)
        check_state(after)
        changed = replace(before, revision=before.revision + 1, block=self.block)
        if name is None:
            changed.common, changed.state, changed.asked = True, after, {}
            return changed, None
        encoded = msgspec.json.encode(after) if after else None
        changed.own = {key: value for key, value in before.own.items() if key != name}
        changed.sizes = {key: size for key, size in before.sizes.items() if key != name}
        if encoded is not None:
            changed.own[name], changed.sizes[name] = after, len(encoded)
        if sum(changed.sizes.values()) > MAX_OWN:
            raise LimitExceeded("state", f"the states of single origins are limited to {MAX_OWN} bytes together")
        if len(changed.own) > MAX_ORIGINS:
            raise LimitExceeded("state", f"at most {MAX_ORIGINS} origins have a state of their own")
        return changed, encoded


class States:
    """The published states of all plugins."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: dict[str, Published | None] = {}
        self._callbacks: list[Changed] = []

    def on_change(self, callback: Changed) -> None:
        """Call back with (plugin id, revision, origin or None for all) after each publication."""
        self._callbacks.append(callback)

    def get(self, plugin_id: str) -> Published | None:
        """Return what was published, None before anything was."""
        if plugin_id not in self._known:
            self._known[plugin_id] = self._read(plugin_id)
        return self._known[plugin_id]

    def forget(self, plugin_id: str) -> None:
        """Drop what a removed plugin published."""
        own = [key for key, _ in self._space.scan(plugin_id.encode() + b"\0")]
        self._space.write(delete=[plugin_id.encode(), *own])
        self._known.pop(plugin_id, None)

    async def publish(
        self, plugin_id: str, origin: Origin | None, block: int, turns: Turns, *, state: Any = None, patch: Any = None
    ) -> Published:
        """Replace or patch the common state, or with `origin` that origin's own; on disk before anyone is told.

        `turns` are the plugin's own. An origin whose own becomes empty has none any more. Raises InvalidParams and LimitExceeded, and
        StorageError where it cannot be written; then nothing changed.
        """
        return await self._change(turns, _Publication(plugin_id, origin, block, state, patch))

    async def answered(self, plugin_id: str, origin: Origin, block: int, turns: Turns, state: Any) -> Published:
        """Show `origin` alone what the plugin answered for it, None for what it published; the same as before is no new revision.

        Raises as `publish`.
        """
        return await self._change(turns, _Publication(plugin_id, origin, block, state, asked=True))

    async def _change(self, turns: Turns, publication: _Publication) -> Published:
        plugin_id = publication.plugin_id
        self.get(plugin_id)  # known from here on: what is read later may be ahead of what was told

        def tell(changed: Published) -> None:
            before = self._known.get(plugin_id)
            if before is not None and changed.revision <= before.revision:
                return  # the same as before
            self._known[plugin_id] = changed
            for callback in self._callbacks:
                callback(plugin_id, changed.revision, publication.origin)

        published: Published = await turns.write(publication, self._commit, then=tell)
        return published

    def _commit(self, group: list[_Publication]) -> list[Published | RpcError]:
        """Write what fits, in its order and as one batch; in the thread of the plugin's turns. What is known changes afterwards."""
        batch, newest = Batch(), dict[str, Published]()
        results: list[Published | RpcError] = []
        for publication in group:
            plugin_id = publication.plugin_id
            before = newest.get(plugin_id) or self._known.get(plugin_id) or Published()
            try:
                changed, own = publication.upon(before)
            except RpcError as error:
                results.append(error)
                continue
            results.append(changed)
            if changed is before:
                continue
            newest[plugin_id] = changed
            if publication.origin is not None and not publication.asked:
                key = _own_key(plugin_id, str(publication.origin))
                if own is None:
                    batch.delete(self._space, key)
                else:
                    batch.put(self._space, key, own)
        for plugin_id, changed in newest.items():
            row = [changed.revision, changed.block, changed.common, changed.state]
            batch.put(self._space, plugin_id.encode(), msgspec.json.encode(row))
        self._space.database.commit(batch)
        return results

    def _read(self, plugin_id: str) -> Published | None:
        stored = self._space.get(plugin_id.encode())
        if stored is None:
            return None
        rows = {key.partition(b"\0")[2].decode(): value for key, value in self._space.scan(plugin_id.encode() + b"\0")}
        own = {name: msgspec.json.decode(value) for name, value in rows.items()}
        revision, block, common, state = msgspec.json.decode(stored)
        sizes = {name: len(value) for name, value in rows.items()}
        return Published(revision, block, common, state, own, sizes=sizes)


def _own_key(plugin_id: str, origin: str) -> bytes:
    return plugin_id.encode() + b"\0" + origin.encode()


def origin_of(text: str) -> Origin:
    """Return the origin that writes itself as `text`; what is of no other kind is a page."""
    kind, _, name = text.partition(":")
    if text in (OriginKind.SOCKET.value, OriginKind.ANONYMOUS.value):
        return Origin(OriginKind(text))
    if kind in (OriginKind.TOKEN.value, OriginKind.PLUGIN.value):
        return Origin(OriginKind(kind), name)
    return Origin.web(text)


def view(published: Published, origin: Origin) -> dict[str, Any]:
    """Return what `origin` sees: the common state, or what was answered for it, with its own laid over it."""
    own = published.own.get(str(origin))
    under = published.asked.get(str(origin), published.state)
    return under if own is None else overlay(under, own)


def overlay(under: Any, over: Any) -> Any:
    """Return `over` laid over `under`: objects member by member, everything else replaced."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return {**under, **{key: overlay(under[key], value) if key in under else value for key, value in over.items()}}


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with an RFC 7396 merge patch applied."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def check_state(state: Any) -> None:
    """Raise InvalidParams or LimitExceeded unless `state` is an object within the bounds."""
    if not isinstance(state, dict):
        raise InvalidParams("state", "an object", type(state).__name__)
    _check_members(state, 1)
    size = len(msgspec.json.encode(state))
    if size > MAX_STATE:
        raise LimitExceeded("state", f"the state has {size} bytes; the limit is {MAX_STATE}")


def _check_members(value: Any, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    if depth > MAX_DEPTH:
        raise InvalidParams("state", f"at most {MAX_DEPTH} levels", "more")
    if isinstance(value, dict):
        for key in value:
            if key in UNFIT:
                raise InvalidParams("state", "no member of this name", key)
    for inner in value.values() if isinstance(value, dict) else value:
        _check_members(inner, depth + 1)


def resolve(state: Any, path: str | None) -> Any:
    """Return what the JSON Pointer names, None where there is nothing. Raises InvalidParams for what is no pointer."""
    if path is None or path == "":
        return state
    if len(path) > 1024 or _POINTER.fullmatch(path) is None:
        raise InvalidParams("path", "a JSON Pointer like /balance", path)
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(state, dict) and name in state:
            state = state[name]
        elif isinstance(state, list) and _INDEX.fullmatch(name) and int(name) < len(state):
            state = state[int(name)]
        else:
            return None
    return state
