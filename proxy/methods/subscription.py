"""One subscription of one connection: what it is for, and how its results are written.

Kept by `subscriptions`. Results are held until the subscription's id has left, so that nobody gets news of an id unknown to him.
Source of the frame: geth's pubsub (`eth_subscription`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from middleware.errors import InvalidParams
from middleware.waist import Connection, Origin
from proxy.host.state import resolve

_LAYER2_KINDS = ("l2_state", "l2_operations")


@dataclass(eq=False)
class Subscription:
    """One subscription of one connection. `plugin` and `path` for the layer-2 kinds."""

    id: str
    kind: str
    origin: Origin
    connection: Connection
    plugin: str = ""
    path: str | None = None
    held: list[bytes] | None = field(default_factory=list)
    stop: Callable[[], Awaitable[None]] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._head = (
            b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"%b","result":' % self.id.encode()
        )

    def push(self, result: bytes | msgspec.Raw) -> None:
        """Send `result` (raw JSON), or hold it until the id has left."""
        frame = b"%b%b}}" % (self._head, result)
        if self.held is None:
            self.connection.push_raw(frame)
        else:
            self.held.append(frame)

    def release(self) -> None:
        """Send what was held: from now on the caller knows the id."""
        frames, self.held = self.held or [], None
        for frame in frames:
            self.connection.push_raw(frame)


def read_layer2(kind: str, params: list[Any]) -> tuple[str, str | None]:
    """Return plugin and path of a layer-2 subscription. Raise -32602."""
    if kind not in _LAYER2_KINDS:
        raise InvalidParams("0", "l2_state or l2_operations", kind)
    options = params[1] if len(params) == 2 else None
    if not isinstance(options, dict) or not isinstance(options.get("plugin"), str):
        raise InvalidParams("1", 'an object such as {"plugin": "paychan"}', options)
    known = {"plugin", "path"} if kind == "l2_state" else {"plugin"}
    if unknown := sorted(options.keys() - known):
        raise InvalidParams("1", f"no members but {' and '.join(sorted(known))}", unknown[0])
    path = options.get("path")
    if path is not None and not isinstance(path, str):
        raise InvalidParams("path", "a JSON Pointer like /balance", path)
    resolve({}, path)
    return options["plugin"], path


def teaches_nothing(last: dict[str, Any], state: dict[str, Any], path: str | None) -> bool:
    """Tell whether a subscriber would learn nothing: the same revision, or the same value at its path."""
    return last["revision"] == state["revision"] or (path is not None and last["state"] == state["state"])
