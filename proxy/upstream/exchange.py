"""One request that has left for a node and whose answer is due; and the one clock that ends all who wait too long.

Made by the transports; the asker is called with the answer in the turn of the loop in which it was read, or waits for it in a task. No
task and no timer of its own for a request: all wait equally long, so the first that was sent is the first that is late, and one timer
does for all.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from middleware.waist import LargeReply
from proxy.upstream.failures import Broken, Late, NodeFailure
from proxy.upstream.traits import traits


class Asker(Protocol):
    """Who made a request: hears once how it ended, unless he has left."""

    def settled(self, body: bytes | LargeReply) -> None:
        """Take the node's answer with the caller's id."""

    def failed(self, error: Exception) -> None:
        """Learn that there will be none: a `NodeFailure`, or what the call fails with."""


class Exchange:
    """A request for `method` on its way, until it is `done`: settled, failed, or left by who asked. `asker` is set by whoever sent it.

    Asker and exchange know each other until then and no longer: the hot path leaves nothing for the garbage collector.
    """

    __slots__ = ("asker", "done", "method")

    def __init__(self, method: str) -> None:
        self.done = False
        self.asker: Asker | None = None
        self.method = method

    def give_up(self, failure: NodeFailure) -> None:
        """Tell who waits that no answer is waited for any longer, and why."""
        raise NotImplementedError

    def leave(self) -> None:
        """Learn that nobody waits any more."""
        self.done = True
        self.asker = None

    def settle(self, body: bytes | LargeReply) -> None:
        """Hand over the answer, if anybody still waits for it."""
        asker = self.asker
        if not self.done and asker is not None:
            self.done = True
            self.asker = None
            asker.settled(body)
        elif isinstance(body, LargeReply):
            body.close()

    def fail(self, error: Exception) -> None:
        """Tell who waits that there will be no answer."""
        asker = self.asker
        if not self.done and asker is not None:
            self.done = True
            self.asker = None
            asker.failed(error)

    async def answer(self) -> bytes | LargeReply:
        """Wait for the answer. Raise what the request failed with."""
        future: asyncio.Future[bytes | LargeReply] = asyncio.get_running_loop().create_future()
        self.asker = _Future(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _give_back(future.result())
            self.leave()
            raise


class _Future:
    """An asker who waits in a task."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[bytes | LargeReply]) -> None:
        self._future = future

    def settled(self, body: bytes | LargeReply) -> None:
        if self._future.done():  # cancelled, and not yet told so
            _give_back(body)
        else:
            self._future.set_result(body)

    def failed(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


def _give_back(body: bytes | LargeReply) -> None:
    if isinstance(body, LargeReply):
        body.close()


class Deadlines:
    """Ends exchanges with one node `seconds` after they were added; by the loop's clock, which no change of the date moves."""

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

    def pass_on(self, why: str) -> None:
        """End at once what may be asked of another node as well."""
        for exchange in list(self._waiting):
            if traits(exchange.method).elsewhere:
                self._waiting.pop(exchange, None)
                exchange.give_up(Broken(why, repeatable=False))

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
            exchange.give_up(Late("it did not answer in time"))
