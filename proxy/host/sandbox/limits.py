"""What the host watches while a plugin runs: its CPU time and its resident memory, read from /proc every 100 ms.

CPU is a token bucket: a plugin that has used up its share is stopped (SIGSTOP) and goes on (SIGCONT) once it has earned more,
so a spinner never gets more than the manifest's `cpu_seconds_per_minute` in the long run, and a plugin with a short burst of
work is not disturbed. Memory beyond the manifest's ends the process. Source: proc_pid_stat(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

TICK, MAX_TICK = 0.1, 0.8  # seconds between two looks: the longer nothing happens, the longer
BURST_SHARE, LEAST_BURST = 0.1, 0.5  # of a minute's budget at once; seconds
RESUME = 0.05  # seconds of CPU a stopped plugin must have earned
_CPU_FIELDS, _RSS_FIELD = slice(11, 13), 21  # of /proc/PID/stat, counted behind the name


class CpuBudget:
    """A token bucket of CPU seconds. `now` and `used` of `spend` are seconds that only grow."""

    def __init__(self, seconds_per_minute: float, now: float, used: float) -> None:
        self._rate = seconds_per_minute / 60
        self._most = max(seconds_per_minute * BURST_SHARE, LEAST_BURST)
        self._left = self._most
        self._now, self._used = now, used
        self.stopped = False

    def spend(self, now: float, used: float) -> bool:
        """Take what was used since the last call; return whether the plugin must stand still now."""
        self._left = min(self._most, self._left + (now - self._now) * self._rate) - (used - self._used)
        self._now, self._used = now, used
        self.stopped = self._left < (min(RESUME, self._most) if self.stopped else 0)
        return self.stopped


class Meter:
    """Holds one process to its CPU and memory. Raises OSError when the process cannot be watched: then it must not run."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # while it is still visible (hidepid)
        self._timer: asyncio.TimerHandle | None = None
        self._tick = TICK

    def start(self, memory: int, cpu_seconds_per_minute: float, exceeded: Callable[[str], None]) -> None:
        """Begin; what was used so far is forgiven. `exceeded(why)` is called when its memory is over `memory` bytes."""
        self._memory, self._exceeded = memory, exceeded
        used, _ = self._read()
        self._last = used
        self._budget = CpuBudget(cpu_seconds_per_minute, asyncio.get_running_loop().time(), used)
        self._again()

    @property
    def stopped(self) -> bool:
        """Whether the plugin stands still because its CPU budget is used up."""
        return self._timer is not None and self._budget.stopped

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    def _look(self) -> None:
        try:
            used, resident = self._read()
        except OSError:
            return  # it has just ended; who waits for it closes this
        if resident > self._memory:
            self._exceeded(f"used {resident >> 20} MiB of memory and may use {self._memory >> 20}")
            return
        was, stop = self._budget.stopped, self._budget.spend(asyncio.get_running_loop().time(), used)
        if was != stop:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGSTOP if stop else signal.SIGCONT)
        self._tick = min(MAX_TICK, 2 * self._tick) if used == self._last and not stop else TICK
        self._last = used
        self._again()

    def _read(self) -> tuple[float, int]:
        """Return seconds of CPU and bytes of resident memory."""
        words = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
        return sum(map(int, words[_CPU_FIELDS])) / _CLOCK, int(words[_RSS_FIELD]) * _PAGE


_CLOCK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
