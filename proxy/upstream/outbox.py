"""Joins what is sent to a node within one turn of the event loop into one write, and waits where the node does not read.

Part of each shared socket (`ipc`, `ws`): sixty-four callers of one turn cost one system call.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """What one connection has to send. Nothing is sent before `open` and after `close`."""

    __slots__ = ("_frames", "_loop", "_room", "_transport")

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._room = asyncio.Event()
        self._room.set()

    def open(self, transport: asyncio.WriteTransport) -> None:
        """Send over `transport` from now on."""
        self._transport = transport

    def close(self) -> None:
        """Send nothing any more; who waits for room may go on and finds the connection closed."""
        self._transport = None
        self._frames.clear()
        self.resume()

    def put(self, frame: bytes) -> None:
        """Send `frame` at the end of this turn of the loop."""
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(frame)

    def pause(self) -> None:
        """Learn that the node has stopped reading."""
        self._room.clear()

    def resume(self) -> None:
        """Learn that the node reads again."""
        self._room.set()

    async def room(self) -> None:
        """Return once more may be sent."""
        await self._room.wait()

    def _flush(self) -> None:
        frames = self._frames
        if self._transport is not None and frames:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        frames.clear()
