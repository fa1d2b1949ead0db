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
from collections.abc import Callable, Iterator
from typing import Any, Final

from middleware.errors import LimitExceeded, PluginTimeout
from middleware.waist import Origin

_TICK: Final = 0.001  # seconds: how exact a timer is


class Deadlines:
    """The times of one owner that run, and the one timer that looks at them: making one for each call would cost more than the call."""

    def __init__(self) -> None:
        self._running: set[WallTime] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def add(self, time: WallTime) -> None:
        """Look at `time` when it is used up."""
        self._running.add(time)
        if self._timer is None or time.until < self._due:
            self._look_at(time.until)

    def discard(self, time: WallTime) -> None:
        """Look at it no more."""
        self._running.discard(time)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time() + _TICK
        for time in [time for time in self._running if time.until <= now]:
            self._running.discard(time)
            time.use_up()
        if self._running:
            self._look_at(min([time.until for time in self._running]))


class WallTime:
    """Seconds that run only while no question is open; PluginTimeout for who waits when they are used up."""

    def __init__(self, plugin_id: str, seconds: float, deadlines: Deadlines) -> None:
        self.until = 0.0  # of the loop's clock
        self._plugin_id = plugin_id
        self._seconds = self._left = seconds
        self._deadlines = deadlines
        self._paused = 0
        self._answer: asyncio.Future[Any] | None = None

    def watch(self, answer: asyncio.Future[Any]) -> None:
        """Begin: whoever waits for `answer` waits no longer than this."""
        self._answer = answer
        if self._paused == 0:
            self._run()

    def over(self) -> None:
        """End: nobody waits any more."""
        self._answer = None
        self._deadlines.discard(self)

    def use_up(self) -> None:
        """Tell who waits."""
        answer = self._answer
        if answer is not None and not answer.done():
            answer.set_exception(PluginTimeout(self._plugin_id, self._seconds))
            answer.exception()  # who waited may have gone; its absence is no error

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time stand still."""
        self._paused += 1
        if self._paused == 1 and self._answer is not None:
            self._left = max(0.0, self.until - asyncio.get_running_loop().time())
            self._deadlines.discard(self)
        try:
            yield
        finally:
            self._paused -= 1
            if self._paused == 0 and self._answer is not None:
                self._run()

    def _run(self) -> None:
        self.until = asyncio.get_running_loop().time() + self._left
        self._deadlines.add(self)


class Call:
    """One invoke the plugin was asked: `id` is what its host calls repeat, `origin` whose it is."""

    def __init__(self, call_id: str, origin: Origin, time: WallTime) -> None:
        self.id = call_id
        self.origin = origin
        self.time = time


class _Waiting:
    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


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
        self._deadlines = Deadlines()
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        """Return how many run or wait."""
        return len(self._running) + len(self._waiting)

    def find(self, call_id: str | None) -> Call | None:
        """Return the running call a host call names; None for what is no running call of this plugin."""
        return None if call_id is None else self._running.get(call_id)

    async def begin(self, origin: Origin, check: Callable[[], None]) -> Call:
        """Wait for a place; it is held until `end`. `check` raises what refuses an origin that may no longer.

        Raises LimitExceeded when too many wait already.
        """
        if (call := self.at_once(origin)) is not None:
            return call
        await self._wait_for_place(check)
        return self._begun(origin)

    def at_once(self, origin: Origin) -> Call | None:
        """Take a place that is free; None where it has to be waited for."""
        if self._places <= 0 or self._waiting:
            return None
        self._places -= 1
        return self._begun(origin)

    def _begun(self, origin: Origin) -> Call:
        time = WallTime(self._plugin_id, self._seconds, self._deadlines)
        call = Call(f"c{next(self._numbers)}", origin, time)
        self._running[call.id] = call
        return call

    def end(self, call: Call) -> None:
        """Give the place of a call to the next."""
        del self._running[call.id]
        self._ended.set()
        self._give_place()

    async def idle(self, seconds: float) -> None:
        """Wait until none runs or waits, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self:
                    self._ended.clear()
                    await self._ended.wait()

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
