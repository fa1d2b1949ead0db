"""`schedule`: timers by block or time, on disk, fired late with `missed: true` rather than never (plugin.md)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from middleware.errors import InvalidParams, LimitExceeded, PluginUnavailable
from proxy.host.abi_values import check_integer
from proxy.host.deliveries import Deliveries
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.store_turns import Turns
from proxy.storage import Space, StorageError

log = logging.getLogger("l2proxy.host")

MAX_TIMERS = 1000
MAX_ID = 128  # characters
MAX_DATA = 64 * 1024  # bytes of JSON
LONGEST_NAP = 3600.0  # seconds; the clock may be set meanwhile
AGAIN = 1.0  # seconds until a disk that takes nothing is tried again
LATE = 10.0  # seconds after which the plugin is told that it missed the moment


class Timer(msgspec.Struct):
    """One timer; exactly one of `block` and `time` (unix seconds)."""

    block: int | None
    time: float | None
    data: Any


class ScheduleParams(Params, frozen=True, kw_only=True):
    """`{id, block | time, data}` or `{id, cancel: true}`."""

    id: str
    block: Any = None
    time: int | float | str | None = None
    data: Any = None
    cancel: bool = False


class Schedule:
    """The timers of one plugin. What was due before this process of the proxy took it up was missed, and what the plugin is
    told late, because it was locked, crashed or busy.
    """

    def __init__(
        self,
        space: Space,
        turns: Turns,
        deliveries: Deliveries,
        head: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._space = space
        self._turns = turns
        self._deliveries = deliveries
        self._head = head
        self._clock = clock
        self._began = clock()
        self._began_block: int | None = None
        self._due_since: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._writing: dict[str, int] = {}  # changes on their way to the disk, by timer
        self._told: dict[str, Timer] = {}  # those that fired and could not be taken off the disk yet
        self._timers: dict[str, Timer] = {
            key.decode(): msgspec.json.decode(value, type=Timer) for key, value in space.scan()
        }

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"schedule": HostMethod(None, ScheduleParams, self.schedule)}

    async def schedule(self, params: ScheduleParams, _: Asker) -> dict[str, Any]:
        """Set, replace or cancel a timer; on disk when this is answered."""
        if not 1 <= len(params.id) <= MAX_ID:
            raise InvalidParams("id", f"1 to {MAX_ID} characters", params.id)
        if params.cancel:
            if params.block is not None or params.time is not None:
                raise InvalidParams("params", "either cancel or a moment", "both")
            await self._write(params.id, None)
            return {}
        timer = self._timer(params)
        if len(self._timers.keys() | self._writing.keys() | {params.id}) > MAX_TIMERS:
            raise LimitExceeded("schedule", f"a plugin has at most {MAX_TIMERS} timers")
        await self._write(params.id, timer)
        return {}

    async def _write(self, timer_id: str, timer: Timer | None) -> None:
        """Put one on disk, None: take it away; then it is what fires, also when its asker has gone meanwhile."""

        def take(_: None) -> None:
            if timer is None:
                self._timers.pop(timer_id, None)
            else:
                self._timers[timer_id] = timer
            self._due_since.pop(timer_id, None)
            self._told.pop(timer_id, None)
            self._changed.set()

        name = timer_id.encode()
        batch = (
            self._space.batch(delete=[name]) if timer is None else self._space.batch({name: msgspec.json.encode(timer)})
        )
        self._writing[timer_id] = self._writing.get(timer_id, 0) + 1
        try:
            await self._turns.write(batch, then=take)
        finally:
            self._writing[timer_id] -= 1
            if not self._writing[timer_id]:
                del self._writing[timer_id]
                self._changed.set()

    def poke(self) -> None:
        """Look again: the head has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Fire what is due, until cancelled or the plugin is gone for good."""
        while True:
            self._changed.clear()
            due, failed = self._due(), False
            for timer_id, timer, missed in due:
                try:
                    await self._fire(timer_id, timer, missed)
                except PluginUnavailable:
                    return
                except StorageError as error:
                    log.warning("a timer that fired could not be taken off the disk: %s", error)
                    failed = True
            if failed:
                await asyncio.sleep(AGAIN)
            elif not due:
                await self._nap()

    def _timer(self, params: ScheduleParams) -> Timer:
        if (params.block is None) == (params.time is None):
            raise InvalidParams("params", "either block or time", "both or neither")
        if len(msgspec.json.encode(params.data)) > MAX_DATA:
            raise LimitExceeded("schedule_data", f"the data of a timer is limited to {MAX_DATA} bytes")
        if params.block is not None:
            return Timer(check_integer(params.block, "block", "uint64"), None, params.data)
        moment = params.time
        seconds = check_integer(moment, "time", "uint64") if isinstance(moment, int | str) else float(moment or 0)
        if not 0 <= seconds < 2**53:
            raise InvalidParams("time", "unix seconds", moment)
        return Timer(None, float(seconds), params.data)

    def _due(self) -> list[tuple[str, Timer, bool]]:
        now, head = self._clock(), self._head()
        if self._began_block is None and head > 0:
            self._began_block = head
        found = []
        for timer_id, timer in self._timers.items():
            if timer_id in self._writing and self._told.get(timer_id) is timer:
                continue  # it is being set anew, or taken away
            if timer.time is not None and timer.time <= now:
                found.append((timer.time, timer_id, timer, timer.time < self._began))
                self._due_since.setdefault(timer_id, timer.time)
            elif timer.block is not None and 0 < head >= timer.block:
                missed = self._began_block is not None and timer.block < self._began_block
                found.append((float(timer.block), timer_id, timer, missed))
                self._due_since.setdefault(timer_id, now)
        return [(timer_id, timer, missed) for _, timer_id, timer, missed in sorted(found, key=lambda row: row[:2])]

    async def _fire(self, timer_id: str, timer: Timer, missed: bool) -> None:
        if self._timers.get(timer_id) is not timer:
            return  # replaced or cancelled while others fired
        if self._told.get(timer_id) is not timer:
            await self._deliveries.reachable()
            if self._timers.get(timer_id) is not timer:
                return  # by the plugin's start, for which it waited
            missed = missed or self._clock() - self._due_since[timer_id] > LATE
            params = {"id": timer_id, "data": timer.data, "missed": missed}
            await self._deliveries.deliver("scheduled", "scheduled", params)
            self._told[timer_id] = timer
        if self._timers.get(timer_id) is timer and timer_id not in self._writing:  # else it was set anew meanwhile
            await self._write(timer_id, None)

    async def _nap(self) -> None:
        waiting = [timer for timer_id, timer in self._timers.items() if self._told.get(timer_id) is not timer]
        times = [timer.time for timer in waiting if timer.time is not None]
        pause = min([LONGEST_NAP, *(max(0.01, moment - self._clock()) for moment in times)])
        try:
            async with asyncio.timeout(pause):
                await self._changed.wait()
        except TimeoutError:
            return
