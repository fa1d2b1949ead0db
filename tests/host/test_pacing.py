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


async def test_time_is_counted_while_the_loop_is_held_and_not_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, spent, waits, go = [0.0], list[float](), asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    async def work() -> str:
        clock[0] += 2  # it holds the loop
        waits.set()
        await go.wait()
        clock[0] += 1
        return "done"

    async def measured() -> str:
        return await timed(work(), spent.append)

    working = asyncio.create_task(measured())
    await waits.wait()
    clock[0] += 100  # others hold it
    go.set()
    assert await working == "done"
    assert spent == [2, 1]


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


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float]]:
    """A clock that only the test and sleeping move, and how long was slept each time."""
    clock, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return clock, slept


async def test_who_took_too_long_gives_as_much_time_to_others(time_passes: tuple[list[float], list[float]]) -> None:
    clock, slept = time_passes
    pace = Pace()
    clock[0] += 0.5
    pace.spend(0.5)
    await pace.give_way()
    pace.spend(BURST / 2)
    await pace.give_way()
    assert slept == [0.5, 0]  # the others had theirs, and it counts anew
    clock[0] += 2 * BURST
    pace.spend(2 * BURST)
    await pace.give_way()
    assert slept[2] == pytest.approx(3 * BURST)


async def test_who_leaves_others_their_half_is_not_made_to_wait(time_passes: tuple[list[float], list[float]]) -> None:
    clock, slept = time_passes
    pace = Pace()
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
    aside, begun, go = Aside(), threading.Event(), threading.Event()
    done: list[int] = []

    def held_up(number: int) -> None:
        begun.set()
        assert go.wait(60)
        done.append(number)

    held = asyncio.create_task(aside.run(functools.partial(held_up, 1)))
    assert await asyncio.to_thread(begun.wait, 60)
    rest = [asyncio.create_task(aside.run(functools.partial(done.append, number))) for number in (2, 3)]
    await asyncio.sleep(0)
    held.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert done == []
    go.set()
    await asyncio.gather(*rest)
    assert done == [1, 2, 3]
    begun.clear()
    go.clear()
    left = asyncio.create_task(aside.run(functools.partial(held_up, 4)))
    assert await asyncio.to_thread(begun.wait, 60)
    left.cancel()
    closing = asyncio.create_task(aside.close())
    await asyncio.wait([left])
    assert not closing.done()
    go.set()
    await closing
    assert done == [1, 2, 3, 4]


async def test_requests_sent_without_waiting_are_done_in_their_order(home: Home) -> None:
    await home.add(ECHO)
    provider = home.plugins._hosted["echo"].provider
    written = [provider.request("persist", {"put": {"k": str(n)}}) for n in range(20)]
    *_, read = await asyncio.gather(*written, provider.request("load", {"keys": ["k"]}))
    assert read == {"items": [["k", "19"]]}


async def test_a_disk_that_takes_its_time_holds_up_nobody_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    hosted = home.plugins._hosted["echo"]
    turns = hosted.store.turns
    commit, begun, go, here = turns._commit, threading.Event(), threading.Event(), threading.get_ident()

    def slow(group: Any) -> Any:
        begun.set()
        assert threading.get_ident() != here  # it would hold up the loop
        assert go.wait(60)
        return commit(group)

    monkeypatch.setattr(turns, "_commit", slow)
    writing = asyncio.create_task(hosted.provider.request("persist", {"put": {"k": "v"}}))
    assert await asyncio.to_thread(begun.wait, 60)
    for _ in range(100):  # turns of others
        await asyncio.sleep(0)
    assert not writing.done()
    go.set()
    assert await writing == {}
