"""Calls in flight: the invokes of one plugin, their order, their wall time, and whose they are (rpc.md, "Limits").

An invoke waits for one of 64 places, runs at most 60 seconds, and its time stands still while a question to the owner is
open for it. What waits is asked again whether it still may when its turn comes, and is refused at once on revocation or
lock (hardening.md 18).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from middleware.errors import LimitExceeded, PluginTimeout
from middleware.waist import Origin

Answer = TypeVar("Answer")


class WallTime:
    """Seconds that run only while no question is open; raises PluginTimeout when they are used up."""

    def __init__(self, plugin_id: str, seconds: float) -> None:
        self._plugin_id = plugin_id
        self._seconds = seconds
        self._left = seconds
        self._paused = 0
        self._timeout: asyncio.Timeout | None = None

    async def within(self, work: Awaitable[Answer]) -> Answer:
        """Return what `work` returns within the time."""
        try:
            async with asyncio.timeout(self._seconds) as self._timeout:
                return await work
        except TimeoutError:
            if self._timeout is None or not self._timeout.expired():
                raise
            raise PluginTimeout(self._plugin_id, self._seconds) from None
        finally:
            self._timeout = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time stand still."""
        self._paused += 1
        timeout, now = self._timeout, asyncio.get_running_loop().time
        if self._paused == 1 and timeout is not None and (when := timeout.when()) is not None:
            self._left = max(0.0, when - now())
            timeout.reschedule(None)
        try:
            yield
        finally:
            self._paused -= 1
            if self._paused == 0 and self._timeout is not None and not self._timeout.expired():
                self._timeout.reschedule(now() + self._left)


@dataclass(eq=False)
class Call:
    """One invoke the plugin was asked: `id` is what its host calls repeat, `origin` whose it is."""

    id: str
    origin: Origin
    time: WallTime


@dataclass(eq=False)
class _Waiting:
    check: Callable[[], None]
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Calls:
    """All invokes of one plugin."""

    def __init__(self, plugin_id: str, *, in_flight: int = 64, waiting: int = 1000, seconds: float = 60.0) -> None:
        self._plugin_id = plugin_id
        self._places = in_flight
        self._max_waiting = waiting
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[str, Call] = {}

    def __len__(self) -> int:
        """Return how many run or wait."""
        return len(self._running) + len(self._waiting)

    def find(self, call_id: object) -> Call | None:
        """Return the running call a host call names; None for what is no running call of this plugin."""
        return self._running.get(call_id) if isinstance(call_id, str) else None

    async def begin(self, origin: Origin, check: Callable[[], None]) -> Call:
        """Wait for a place; it is held until `end`. `check` raises what refuses an origin that may no longer.

        Raises LimitExceeded when too many wait already.
        """
        if self._places > 0 and not self._waiting:
            self._places -= 1
        else:
            await self._wait_for_place(check)
        call = Call(f"c{next(self._numbers)}", origin, WallTime(self._plugin_id, self._seconds))
        self._running[call.id] = call
        return call

    def end(self, call: Call) -> None:
        """Give the place of a call to the next."""
        del self._running[call.id]
        self._give_place()

    def recheck(self) -> None:
        """Refuse at once what waits and may no longer."""
        for waiting in list(self._waiting):
            try:
                waiting.check()
            except Exception as refusal:  # noqa: BLE001 - whatever it is, it is the waiting one's answer
                self._waiting.remove(waiting)
                if not waiting.turn.done():
                    waiting.turn.set_exception(refusal)

    async def _wait_for_place(self, check: Callable[[], None]) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise LimitExceeded(
                "invokes_waiting", f"{self._max_waiting} calls of {self._plugin_id} are waiting already"
            )
        waiting = _Waiting(check)
        self._waiting.append(waiting)
        try:
            await waiting.turn
        except BaseException:
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._give_place()  # its turn came in the moment it was cancelled
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise
        try:
            check()
        except BaseException:
            self._give_place()
            raise

    def _give_place(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.turn.done():
                waiting.turn.set_result(None)
                return
        self._places += 1
