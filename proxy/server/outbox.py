"""What leaves on a connection that stays open: answers and pushed notifications, one after another, through one writer.

Between a conversation (or a subscription) and the transport's own `write`. Answers wait while the reader is slow; pushes
cannot, so a reader that lets too much pile up, or takes nothing for too long, is cut off. It must never hold more than
`most_bytes` beside the answer being written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.server import envelope

logger = logging.getLogger("l2proxy.door")

MOST_BYTES = 16 * 1024 * 1024
STALL_SECONDS = 60.0


class SlowReader(ConnectionError):
    """The other side does not take what it asked for."""


class Outbox:
    """A `Connection` of the waist. `write` sends one frame and returns when the transport can take another."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        *,
        most_bytes: int = MOST_BYTES,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._write = write
        self._most_bytes = most_bytes
        self._stall_seconds = stall_seconds
        self._frames: deque[bytes] = deque()
        self._held = 0
        self._overfull = False
        self._changed = asyncio.Condition()
        self._wake = asyncio.Event()
        self._ending = False
        self._closed = False
        self._callbacks: list[Callable[[], None]] = []

    def push(self, method: str, params: Any) -> None:
        """Queue one notification."""
        self.push_raw(envelope.notification(method, params))

    def push_raw(self, frame: bytes) -> None:
        """Queue one ready frame; when too much has piled up the connection ends."""
        if self._closed or self._overfull:
            return
        if self._held + len(frame) > self._most_bytes:
            self._overfull = True
            self._frames.clear()
        else:
            self._add(frame)
        self._wake.set()

    async def put(self, frame: bytes) -> None:
        """Queue an answer once there is room for it."""
        while self._frames and self._held + len(frame) > self._most_bytes and not self._closed:
            async with self._changed:
                await self._changed.wait()
        if not self._closed:
            self._add(frame)
            self._wake.set()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the connection ends (at once if it has ended)."""
        if self._closed:
            callback()
        else:
            self._callbacks.append(callback)

    async def run(self) -> None:
        """Write until `finish` was called and everything is written. Raise `SlowReader` or the transport's error."""
        while not (self._ending and not self._frames and not self._overfull):
            if self._overfull:
                raise SlowReader(f"more than {self._most_bytes} bytes wait for a reader")
            if not self._frames:
                self._wake.clear()
                await self._wake.wait()
                continue
            frame = self._frames.popleft()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await self._write(frame)
            except TimeoutError as error:
                raise SlowReader(f"the reader took nothing for {self._stall_seconds:g} s") from error
            self._held -= len(frame)
            async with self._changed:
                self._changed.notify_all()

    def finish(self) -> None:
        """Let `run` return once everything queued is written."""
        self._ending = True
        self._wake.set()

    async def close(self) -> None:
        """End: nothing more is taken, and everyone who asked is told, once."""
        if self._closed:
            return
        self._closed = True
        self._frames.clear()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a subscription could not be ended with its connection")
        async with self._changed:
            self._changed.notify_all()

    def _add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._held += len(frame)
