"""The reading end of a plugin's pipe: a stream until the plugin is begun, then bytes handed on as they come.

Between the loop's transport and the channel. A stream wakes a task for each piece, two turns of the loop later; the channel takes the
piece in the turn in which it was read. It must never lose or reorder a byte when the one becomes the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

Take = Callable[[bytes], None]
Ended = Callable[[], None]


class Incoming(asyncio.StreamReader):
    """A stream that can be handed over, once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._most = limit
        self._pipe: Any = None
        self._take: Take | None = None
        self._end: Ended | None = None

    async def hand_over(self, take: Take, ended: Ended) -> None:
        """Give `take` what was said until now, as soon as there is anything, then everything as it comes; `ended` its end.

        Raises OSError where the pipe broke before.
        """
        said = await self.read(4 * self._most)  # a stream holds no more than that
        broken = self.exception()
        self._take, self._end = take, ended
        if said:
            take(said)
        if broken is not None or self.at_eof():
            ended()

    def pause(self) -> None:
        """Read no more for now: what the plugin says waits in its pipe."""
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.resume_reading()

    # -- what the loop calls

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Hear where the bytes come from."""
        super().set_transport(transport)
        self._pipe = transport

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take bytes that were read."""
        if self._take is None:
            super().feed_data(data)
        else:
            self._take(bytes(data))

    def feed_eof(self) -> None:
        """Hear that there is no more."""
        if self._end is not None:
            self._end()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """Hear that the pipe broke."""
        if self._end is not None:
            self._end()
        super().set_exception(exc)
