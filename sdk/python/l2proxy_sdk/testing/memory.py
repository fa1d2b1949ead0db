"""The fake host's services over plain memory: the store, the channel's two ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Mapping
from typing import Any


class MemoryPipe:
    """Lines from one end to the other."""

    waiting = 0  # whoever is in the same process reads at once

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, line: bytes) -> None:
        """Queue a line."""
        self._queue.put_nowait(line)

    async def drain(self) -> None:
        """Let the other end run."""
        await asyncio.sleep(0)

    def close(self) -> None:
        """End of file for the reader."""
        self._queue.put_nowait(None)

    async def each(self, take: Callable[[bytes], None]) -> None:
        """Give `take` what was written until closed."""
        while (line := await self._queue.get()) is not None:
            take(line)


class Binary(bytes):
    """A value that was written as bytes, and is read as bytes though it may be UTF-8."""


def persist(items: dict[bytes, bytes], params: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a `persist` to a store."""
    given = params.get("put") or {}
    pairs = given.items() if isinstance(given, Mapping) else given
    put = {
        to_bytes(key): Binary(to_bytes(value)) if isinstance(value, Mapping) else to_bytes(value)
        for key, value in pairs
    }
    delete = [to_bytes(key) for key in params.get("delete") or []]
    items.update(put)
    for key in delete:
        items.pop(key, None)
    return {}


def load(items: Mapping[bytes, bytes], params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a `load`."""
    if "keys" in params:
        return {"items": [[key, _value(items.get(to_bytes(key)))] for key in params["keys"]]}
    prefix = to_bytes(params.get("prefix", ""))
    start, end = to_bytes(params.get("start", "")), params.get("end")
    found = sorted(
        key for key in items if key.startswith(prefix) and key >= start and (end is None or key < to_bytes(end))
    )
    if params.get("reverse"):
        found.reverse()
    binary = any(isinstance(params.get(bound), Mapping) for bound in ("prefix", "start", "end"))
    named = found[: params.get("limit")]
    return {"items": [[_value(Binary(key) if binary else key), _value(items[key])] for key in named]}


def to_bytes(wire: Any) -> bytes:
    """Return the bytes of a wire key or value."""
    return base64.b64decode(wire["base64"]) if isinstance(wire, Mapping) else str(wire).encode()


def _value(raw: bytes | None) -> Any:
    if raw is None:
        return None
    if not isinstance(raw, Binary):
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode()
    return {"base64": base64.b64encode(raw).decode()}
