"""What leaves on a connection that stays open: answers and pushed notifications, one after another, over one wire.

Between a conversation (or a subscription) and the transport (`Wire`). While the reader takes everything, a frame is written
at once; otherwise it waits in a queue that `run` empties. Answers wait while the reader is slow; pushes cannot, so a reader
that lets too much pile up, or takes nothing for too long, is cut off. It must never hold more than `most_bytes` beside the
answer being written, and of a large answer only a part; answers that find no room in memory wait on the `shelf`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from proxy.server import bodies, envelope
from proxy.server.bodies import Body
from proxy.server.shelf import LEAST, Shelf
from proxy.server.taking import SlowReader, taken

logger = logging.getLogger("l2proxy.door")

MOST_BYTES = 16 * 1024 * 1024
STALL_SECONDS = 60.0


class Wire(Protocol):
    """A connection that frames can be written to, without waiting."""

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """What the reader takes from."""

    @property
    def clogged(self) -> bool:
        """Tell whether nothing more should be written for now."""

    def send(self, frame: bytes) -> None:
        """Write one whole frame; of no effect when the connection has ended."""

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        """Write one part of a large frame."""

    def drained(self) -> Coroutine[Any, Any, None]:
        """Wait until it is not clogged. Raise `ConnectionError` when the connection has ended."""


class Outbox:
    """A `Connection` of the waist."""

    def __init__(
        self,
        wire: Wire,
        *,
        most_bytes: int = MOST_BYTES,
        stall_seconds: float = STALL_SECONDS,
        on_slow: Callable[[], None] = lambda: None,
        shelf: Shelf | None = None,
    ) -> None:
        self._wire = wire
        self._shelf = shelf
        self._most_bytes = most_bytes
        self._stall_seconds = stall_seconds
        self._on_slow = on_slow
        self._frames: deque[Body] = deque()
        self._held = 0
        self._writing = False
        self._overfull = False
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._ending = False
        self._closed = False
        self._callbacks: list[Callable[[], None]] = []

    def push(self, method: str, params: Any) -> None:
        """Send or queue one notification."""
        self.push_raw(envelope.notification(method, params))

    def push_raw(self, frame: bytes) -> None:
        """Send or queue one ready frame; when too much has piled up the connection ends."""
        if self._closed or self._overfull or self._sent(frame):
            return
        if self._held + len(frame) > self._most_bytes:
            self._cut_off()
        else:
            self._add(frame)

    async def put(self, frame: Body) -> None:
        """Send an answer, or queue it once there is room for it; where even the disk has none, the connection ends."""
        if not self._closed and isinstance(frame, bytes) and self._sent(frame):
            return
        length = bodies.length_of(frame)
        if self._frames and self._held + length > self._most_bytes and not self._closed and not self._overfull:
            aside = self._set_aside(frame)
            if aside is None:
                self._cut_off()
                return
            frame = aside
        try:
            while self._frames and self._held + length > self._most_bytes and not self._closed:
                self._room.clear()
                await self._room.wait()
        except BaseException:
            bodies.close(frame)
            raise
        if self._closed or self._overfull:
            bodies.close(frame)
        else:
            self._add(frame)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the connection ends (at once if it has ended)."""
        if self._closed:
            callback()
        else:
            self._callbacks.append(callback)

    async def run(self) -> None:
        """Write until `finish` was called and everything is written. Raise `SlowReader` or the transport's error.

        `on_slow` of the constructor is called once when the reader is given up.
        """
        try:
            await self._empty()
        except SlowReader:
            if not self._overfull:
                self._on_slow()
            raise
        except ConnectionError as error:
            if self._overfull:  # it was aborted for this
                raise self._too_slow() from error
            raise

    async def _empty(self) -> None:
        while not (self._ending and not self._frames and not self._overfull):
            if self._overfull:
                raise self._too_slow()
            if not self._frames:
                await self._clear_way()
                self._wake.clear()
                await self._wake.wait()
                continue
            self._writing = True
            try:
                await self._write(self._frames.popleft())
            finally:
                self._writing = False
        await self._clear_way()

    def finish(self) -> None:
        """Let `run` return once everything queued is written."""
        self._ending = True
        self._wake.set()

    async def close(self) -> None:
        """End: nothing more is taken, and everyone who asked is told, once."""
        if self._closed:
            return
        self._closed = True
        self._forget()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a subscription could not be ended with its connection")
        self._room.set()

    def _sent(self, frame: bytes) -> bool:
        """Write a frame at once, if nothing stands before it and the reader takes it."""
        if self._frames or self._writing or self._wire.clogged:
            return False
        self._wire.send(frame)
        if self._wire.clogged:
            self._wake.set()  # somebody must look after a reader that takes nothing
        return True

    def _set_aside(self, frame: Body) -> Body | None:
        """Put an answer that has to wait on disk; None: there is no room left."""
        if self._shelf is None or not isinstance(frame, bytes) or len(frame) < LEAST:
            return frame
        return self._shelf.put(frame)

    def _cut_off(self) -> None:
        """End the connection at once: whoever waits for its reader to take something hears of it by the transport."""
        self._overfull = True
        self._forget()
        self._on_slow()
        self._wake.set()
        if (transport := self._wire.transport) is not None:
            transport.abort()

    def _too_slow(self) -> SlowReader:
        return SlowReader(f"more than {self._most_bytes} bytes wait for a reader")

    def _add(self, frame: Body) -> None:
        self._frames.append(frame)
        self._held += bodies.length_of(frame)
        self._wake.set()

    def _forget(self) -> None:
        for frame in self._frames:
            bodies.close(frame)
        self._frames.clear()

    async def _write(self, frame: Body) -> None:
        try:
            await self._clear_way()
            if isinstance(frame, bytes):
                self._wire.send(frame)
            else:
                await self._write_large(frame)
        finally:
            bodies.close(frame)
            self._held -= bodies.length_of(frame)
            self._room.set()

    async def _write_large(self, frame: bodies.Large) -> None:
        first, at = True, 0
        for part in frame.parts():
            at += len(part)
            await self._clear_way()
            self._wire.send_part(part, first=first, last=at == frame.length)
            first = False

    async def _clear_way(self) -> None:
        if self._wire.clogged:
            await taken(self._wire.drained(), self._wire.transport, self._stall_seconds)
