"""When a node is asked, when it is not, and for how long; by a clock of the test's own."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from proxy.upstream.breaker import Breaker
from proxy.upstream.exchange import Deadlines
from proxy.upstream.failures import Late
from proxy.upstream.line import Line, Pending


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_does_not_listen_is_refused_for_longer_each_time() -> None:
    clock = Clock()
    breaker = Breaker(1.0, 4.0, clock)
    pauses: list[float] = []
    for _ in range(5):
        breaker.trip(hard=True)
        start = clock.now
        assert breaker.refuses
        while breaker.refuses:
            clock.now += 0.01
        pauses.append(clock.now - start)
        assert breaker.is_open, "open until a probe succeeds"
    for pause, longest in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert 0.69 * longest <= pause <= longest + 0.02
    breaker.answered()
    assert not breaker.is_open
    breaker.trip(hard=True)
    clock.now += 1.01
    assert not breaker.resting, "the pause begins anew after an answer"


def test_failures_in_a_row_open_it_and_it_may_still_be_probed() -> None:
    breaker = Breaker(1.0, 4.0, Clock())
    for _ in range(4):
        breaker.strike(0.1, late=False)
    assert not breaker.is_open
    breaker.strike(0.1, late=False)
    assert breaker.is_open
    assert breaker.resting
    assert not breaker.refuses


def test_three_late_ones_or_every_second_failing_open_it() -> None:
    late, often = Breaker(1.0, 4.0, Clock()), Breaker(1.0, 4.0, Clock())
    for _ in range(3):
        assert not late.is_open
        late.strike(0.1, late=True)
    often.strike(0.51, late=False)
    assert late.is_open
    assert often.is_open


def test_a_probe_closes_it_but_the_next_failure_opens_it_at_once() -> None:
    breaker = Breaker(1.0, 4.0, Clock())
    for _ in range(5):
        breaker.strike(0.1, late=False)
    breaker.probed()
    assert not breaker.is_open
    breaker.strike(0.1, late=False)
    assert breaker.is_open
    breaker.answered()
    breaker.strike(0.1, late=False)
    assert not breaker.is_open, "a caller's answer makes the failures forgotten"


class Waiting:
    """Somebody who asked, and the request he waits for."""

    def __init__(self, line: Line) -> None:
        self.exchange = Pending(line, b"1", "eth_chainId", b"1", None)
        self.exchange.asker = self
        self.expired = asyncio.Event()

    def settled(self, body: object) -> None:
        raise AssertionError(body)

    def failed(self, error: Exception) -> None:
        assert isinstance(error, Late)
        self.expired.set()


async def test_the_deadline_ends_those_who_wait_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = Deadlines(0.05)
    line = Line(itertools.count(1), lambda line: None)
    answered, first, second = Waiting(line), Waiting(line), Waiting(line)
    for one in (answered, first, second):
        deadlines.add(one.exchange)
    deadlines.remove(answered.exchange)
    monkeypatch.setattr("time.time", lambda: 4e9)  # the date jumps; nobody may notice
    async with asyncio.timeout(60):
        await first.expired.wait()
        await second.expired.wait()
    assert not answered.expired.is_set()
    later = Waiting(line)
    deadlines.add(later.exchange)
    deadlines.close()
    assert not later.expired.is_set()
