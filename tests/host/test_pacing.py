"""One plugin's share of the loop: what it takes is counted, and blocking work is not done on the loop at all."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest

from proxy.host.aside import Aside
from proxy.host.pacing import BURST, Pace, timed
from tests.host.neighbours import ECHO, Home


async def test_time_is_counted_while_the_loop_is_held_and_not_while_it_waits() -> None:
    spent: list[float] = []

    async def work() -> str:
        time.sleep(0.02)  # noqa: ASYNC251 - it is to hold the loop
        await asyncio.sleep(0.1)
        return "done"

    assert await timed(work(), spent.append) == "done"
    assert 0.02 <= sum(spent) < 0.08


async def test_errors_and_cancellation_pass_through() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("as it is")

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    with pytest.raises(ValueError, match="as it is"):
        await timed(fails(), lambda _: None)

    async def outer() -> None:
        await timed(waits(), lambda _: None)

    task = asyncio.create_task(outer())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cleaned up"]


async def test_who_took_too_long_gives_as_much_time_to_others() -> None:
    pace, loop = Pace(), asyncio.get_running_loop()
    pace.spend(0.05)
    began = loop.time()
    await pace.give_way()
    assert loop.time() - began >= 0.049
    pace.spend(BURST / 2)
    began = loop.time()
    await pace.give_way()
    assert loop.time() - began < 0.04


async def test_who_leaves_others_their_half_is_not_made_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    pace = Pace()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(100):  # a fifth of the time
        clock[0] += 5 * BURST
        pace.spend(BURST)
        await pace.give_way()
    assert max(slept) == 0.0
    pace.spend(10 * BURST)  # in no time at all
    assert pace.is_due
    await pace.give_way()
    assert slept[-1] >= 10 * BURST


async def test_blocking_work_is_done_one_by_one_in_order_and_to_its_end() -> None:
    aside, go = Aside(), threading.Event()
    done: list[int] = []

    def first() -> None:
        go.wait(5)
        done.append(1)

    def slow() -> None:
        time.sleep(0.1)
        done.append(4)

    held = asyncio.create_task(aside.run(first))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(aside.run(functools.partial(done.append, number))) for number in (2, 3)]
    await asyncio.sleep(0.05)
    held.cancel()
    await asyncio.sleep(0)
    assert done == []
    go.set()
    await asyncio.gather(*rest)
    assert done == [1, 2, 3]
    left = asyncio.create_task(aside.run(slow))
    await asyncio.sleep(0.02)
    left.cancel()
    await aside.close()
    assert done == [1, 2, 3, 4]


async def test_requests_sent_without_waiting_are_done_in_their_order(home: Home) -> None:
    await home.add(ECHO)
    provider = home.plugins._hosted["echo"].provider
    written = [provider.request("persist", {"put": {"k": str(n)}}) for n in range(20)]
    *_, read = await asyncio.gather(*written, provider.request("load", {"keys": ["k"]}))
    assert read == {"items": [["k", "19"]]}


async def test_a_disk_that_takes_its_time_holds_up_nobody_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    hosted, loop = home.plugins._hosted["echo"], asyncio.get_running_loop()
    turns = hosted.store.turns
    commit = turns._commit

    def slow(group: Any) -> Any:
        time.sleep(0.3)
        return commit(group)

    monkeypatch.setattr(turns, "_commit", slow)
    writing = asyncio.create_task(hosted.provider.request("persist", {"put": {"k": "v"}}))
    await asyncio.sleep(0)
    began = loop.time()
    while not writing.done():
        step = loop.time()
        await asyncio.sleep(0.005)
        assert loop.time() - step < 0.2
    assert loop.time() - began > 0.25
