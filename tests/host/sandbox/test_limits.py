"""What the host watches: the token bucket by itself, and real processes that compute without end or hold too much."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.host.process import spawn
from proxy.host.sandbox.limits import CpuBudget, Meter
from tests.host.neighbours import package


def test_a_burst_is_free_and_a_spinner_gets_its_share_in_the_long_run() -> None:
    budget, now, used = CpuBudget(30, 0.0, 0.0), 0.0, 0.0
    running = True
    for tick in range(6000):  # ten minutes of a process that computes whenever it may
        now += 0.1
        if running:
            used += 0.1
        running = not budget.spend(now, used)
        if tick == 25:
            assert used > 2.5, "a burst was cut short"
    assert 295 < used < 310  # half of ten minutes, and the burst once


def test_who_has_slept_long_has_no_more_than_one_burst() -> None:
    budget = CpuBudget(30, 0.0, 0.0)
    assert not budget.spend(10_000.0, 0.0)
    assert budget.spend(10_001.0, 4.0)


def test_who_is_stopped_goes_on_once_something_is_earned() -> None:
    budget = CpuBudget(30, 0.0, 0.0)
    assert budget.spend(1.0, 5.0)
    assert budget.spend(3.0, 5.0)
    assert not budget.spend(5.5, 5.0)


async def until(done: Callable[[], bool]) -> None:
    """Poll an outside process."""
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def state(pid: int) -> str:
    """Return the kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_spinner_is_stopped_and_goes_on(tmp_path: Path) -> None:
    folder = package(tmp_path, "spinner", "while True:\n    pass\n")
    process = await spawn(folder, "code_of:Main", 1 << 28, cpu=5)
    try:
        await until(lambda: state(process.pid) == "T")
        await until(lambda: state(process.pid) == "R")
    finally:
        process.close()
        assert await process.wait() == "was ended by SIGKILL"


async def test_a_stopped_process_can_still_be_ended(tmp_path: Path) -> None:
    folder = package(tmp_path, "spinner", "while True:\n    pass\n")
    process = await spawn(folder, "code_of:Main", 1 << 28, cpu=1)
    await until(lambda: state(process.pid) == "T")
    process.close()
    async with asyncio.timeout(60):
        assert await process.wait() == "was ended by SIGKILL"


async def test_too_much_resident_memory_is_told() -> None:
    meter, told = Meter(os.getpid()), asyncio.get_running_loop().create_future()
    meter.start(1 << 20, 60, told.set_result)
    try:
        async with asyncio.timeout(60):
            assert "may use 1" in await told
    finally:
        meter.close()


def test_what_cannot_be_watched_cannot_run() -> None:
    with pytest.raises(OSError, match="No such"):
        Meter(2**22 + 1)
