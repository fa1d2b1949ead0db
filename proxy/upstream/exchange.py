"""One request that has left for a node and whose answer is awaited; and the one clock that ends all who wait too long.

Made by the transports, awaited by `L1`. No task and no timer of its own for a request: all wait equally long, so the first that was
sent is the first that is late, and one timer does for all.
"""

from __future__ import annotations

import asyncio

from middleware.waist import LargeReply


class Exchange:
    """A request on its way. `answer`: the node's bytes with the caller's id, or a `NodeFailure`."""

    __slots__ = ("answer",)

    answer: asyncio.Future[bytes | LargeReply]

    def expire(self) -> None:
        """Tell who waits that the time is over."""
        raise NotImplementedError

    def leave(self) -> None:
        """Learn that nobody waits any more."""
        raise NotImplementedError

    def settle(self, value: bytes | LargeReply) -> None:
        """Hand over the answer, if anybody still waits for it."""
        if not self.answer.done():
            self.answer.set_result(value)
        elif isinstance(value, LargeReply):
            value.close()

    def fail(self, error: Exception) -> None:
        """Tell who waits that there will be no answer."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Deadlines:
    """Ends exchanges `seconds` after they were added; by the loop's clock, which no change of the date moves."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, exchange: Exchange) -> None:
        """End `exchange` in time, unless it is removed before."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        deadline = self._waiting[exchange] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._sweep)

    def remove(self, exchange: Exchange) -> None:
        """Let `exchange` be: it has ended."""
        self._waiting.pop(exchange, None)

    def close(self) -> None:
        """End nothing any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        assert self._loop is not None  # noqa: S101
        now = self._loop.time()
        late = []
        next_deadline = None
        for exchange, deadline in self._waiting.items():
            if deadline > now:
                next_deadline = deadline
                break
            late.append(exchange)
        self._timer = None if next_deadline is None else self._loop.call_at(next_deadline, self._sweep)
        for exchange in late:
            self._waiting.pop(exchange, None)
            exchange.expire()
