"""How long the event loop stays awake for what is due at once, and how seldom where that was in vain."""

from __future__ import annotations

import asyncio

from proxy.vigil import MOMENT, Vigil


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


async def turn() -> None:
    """Let the loop make one turn."""
    await asyncio.sleep(0)


async def asleep_after(vigil: Vigil, clock: Clock) -> None:
    """Assert that it is awake just before the moment is over and asleep just after."""
    clock.now += MOMENT * 0.9
    await turn()
    assert vigil.awake
    clock.now += MOMENT * 0.2
    await turn()
    assert not vigil.awake


async def in_vain(vigil: Vigil, clock: Clock) -> bool:
    """Expect what does not come; tell whether the loop stayed awake for it."""
    vigil.expect()
    stayed = vigil.awake
    await turn()
    clock.now += MOMENT
    await turn()
    assert not vigil.awake
    return stayed


async def test_it_looks_for_a_moment_and_sleeps_then() -> None:
    clock = Clock()
    vigil = Vigil(clock)
    assert not vigil.awake
    vigil.expect()
    for _ in range(5):
        await turn()
        assert vigil.awake
    await asleep_after(vigil, clock)


async def test_it_sleeps_once_the_expected_is_there() -> None:
    vigil = Vigil(Clock())
    for _ in range(3):  # and stays as eager as it was
        vigil.expect()
        await turn()
        assert vigil.awake
        vigil.came()
        await turn()
        assert not vigil.awake


async def test_what_is_expected_later_lengthens_the_moment() -> None:
    clock = Clock()
    vigil = Vigil(clock)
    vigil.expect()
    await turn()
    clock.now += MOMENT * 0.9
    vigil.expect()
    await turn()
    await asleep_after(vigil, clock)


async def test_in_vain_it_is_tried_less_and_less_and_after_a_success_at_once() -> None:
    clock = Clock()
    vigil = Vigil(clock)
    tried = [number for number in range(300) if await in_vain(vigil, clock)]
    assert tried == [0, 2, 6, 14, 30, 62, 126, 190, 254]

    while not vigil.awake:
        vigil.expect()
    await turn()
    vigil.came()
    await turn()
    vigil.expect()
    assert vigil.awake
    vigil.came()
    await turn()


async def test_what_comes_while_nobody_watches_changes_nothing() -> None:
    clock = Clock()
    vigil = Vigil(clock)
    assert await in_vain(vigil, clock)
    vigil.came()
    assert not await in_vain(vigil, clock)
    assert await in_vain(vigil, clock)


async def test_of_many_answers_due_one_comes_anyway() -> None:
    vigil = Vigil(Clock())
    vigil.expect(3)
    assert not vigil.awake
    vigil.expect(2)
    assert vigil.awake
    vigil.came()
    await turn()
