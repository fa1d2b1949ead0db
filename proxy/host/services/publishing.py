"""`updateLayer2State`: the plugin publishes what sites see of it (plugin.md; the rules are in `proxy.host.state`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from middleware.errors import InvalidParams
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.store_turns import Turns
from proxy.host.state import States, origin_of

MAX_ORIGIN = 300  # characters


class Update(Params, frozen=True, kw_only=True):
    """Exactly one of `state` and `patch`; `origin`: for that site alone."""

    state: dict[str, Any] | None = None
    patch: dict[str, Any] | None = None
    origin: str | None = None


class Publishing:
    """The publications of one plugin, in its turns. `head` returns the newest block's number."""

    def __init__(self, plugin_id: str, states: States, turns: Turns, head: Callable[[], int]) -> None:
        self._plugin_id = plugin_id
        self._states = states
        self._turns = turns
        self._head = head

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"updateLayer2State": HostMethod(None, Update, self.update)}

    async def update(self, params: Update, _: Asker) -> dict[str, Any]:
        """Return `{revision}` (quantity) once it is on disk."""
        if (params.state is None) == (params.patch is None):
            raise InvalidParams("params", "either state or patch", "both or neither")
        if params.origin is not None and not (0 < len(params.origin) <= MAX_ORIGIN and params.origin.isprintable()):
            raise InvalidParams("origin", "an origin as invoke names it", params.origin)
        published = await self._states.publish(
            self._plugin_id,
            None if params.origin is None else origin_of(params.origin),
            self._head(),
            self._turns,
            state=params.state,
            patch=params.patch,
        )
        return {"revision": hex(published.revision)}
