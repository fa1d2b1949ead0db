"""The channel as bytes: lines are taken in the turn of the loop in which they were read, answers written in the one they are given.

Between the pipes and the peer. Streams would do the same two turns later, and a turn costs more than an answer. It must never hold
more than one line that is not all there, and never lose what was said before anybody listened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .errors import ChannelClosed
from .frames import MAX_LINE

TOGETHER = 64 * 1024  # bytes that go out in one write at most, and one line

Take = Callable[[bytes], None]


class Outgoing(asyncio.Protocol):
    """The pipe to the proxy."""

    def __init__(self) -> None:
        self.several = False  # answers are to be expected together: they go out in one write
        self._pipe: Any = None
        self._room = asyncio.Event()
        self._room.set()
        self._lost = False
        self._together: list[bytes] = []
        self._size = 0  # bytes of these

    def write(self, line: bytes) -> None:
        """Send `line`."""
        if not self.several and not self._together:
            self._pipe.write(line)
            return
        if not self._together:
            asyncio.get_running_loop().call_soon(self._send)
        self._together.append(line)
        self._size += len(line)
        if self._size >= TOGETHER:  # a full pipe is to be noticed before the next line is said
            self._send()

    @property
    def waiting(self) -> int:
        """Return how many bytes the proxy has not read yet."""
        return self._size + int(self._pipe.get_write_buffer_size())

    async def drain(self) -> None:
        """Wait until little waits to be read by the proxy. Raises ConnectionResetError when it has gone."""
        while not self._room.is_set():  # whoever was first may have filled it again
            await self._room.wait()
        if self._lost:
            raise ConnectionResetError("the proxy reads no more")

    def close(self) -> None:
        """Send what waits, then end."""
        self._send()
        self._pipe.close()

    def _send(self) -> None:
        lines, self._together, self._size = self._together, [], 0
        if lines and not self._lost:
            self._pipe.write(b"".join(lines))

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipe."""
        self._pipe = transport

    def pause_writing(self) -> None:
        """Hear that much waits to be read."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Hear that little does."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the proxy has gone."""
        self._lost = True
        self._room.set()


class Incoming(asyncio.Protocol):
    """The pipe from the proxy."""

    def __init__(self, answers: Outgoing) -> None:
        self._answers = answers
        self._take: Take | None = None
        self._said = bytearray()  # before anybody listened; then: a line that is not all there
        self._over: ChannelClosed | bool = False  # how it ended
        self._ended = asyncio.Event()

    async def each(self, take: Take) -> None:
        """Give `take` every line until the proxy closes. Raises ChannelClosed for what is no line, and what `take` raises of it."""
        self._take = take
        said, self._said = bytes(self._said), bytearray()
        self.data_received(said)
        await self._ended.wait()
        if isinstance(self._over, ChannelClosed):
            raise self._over
        if self._said:
            raise ChannelClosed("the proxy closed in the middle of a line")

    # -- what the loop calls

    def data_received(self, data: bytes) -> None:
        """Take the lines that are all there."""
        if self._over:
            return
        if self._take is None:
            self._said += data
            return
        *lines, rest = data.split(b"\n")
        if lines and self._said:
            lines[0] = bytes(self._said + lines[0])
            self._said.clear()
        if rest:
            self._said += rest
        self._answers.several = len(lines) > 1
        try:
            for line in lines:
                self._take(line)
            if len(self._said) >= MAX_LINE:
                raise ChannelClosed(f"a line over {MAX_LINE} bytes")  # noqa: TRY301
        except ChannelClosed as error:
            self._over = error
            self._ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the proxy has closed."""
        self._over = self._over or True
        self._ended.set()
