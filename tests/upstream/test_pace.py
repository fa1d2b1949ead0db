"""How often a node is looked at: by the block time its chain shows."""

from __future__ import annotations

import pytest

from proxy.upstream.chain_events import Head, NewHead, Reorg
from proxy.upstream.pace import POLL_DEV, POLL_FAR, POLL_NEAR, Pace


def head(number: int, timestamp: int) -> Head:
    return Head(number, f"0x{number:x}", f"0x{number - 1:x}", timestamp)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(longest: float, block_time: int, blocks: int = 5) -> tuple[Pace, Clock]:
    clock = Clock()
    pace = Pace(lambda: longest, clock)
    for number in range(1, blocks + 1):
        pace.take(NewHead(head(number, number * block_time)))
    return pace, clock


def test_before_anything_is_known_the_beat_is_that_of_the_distance() -> None:
    assert Pace(lambda: POLL_FAR).wait() == POLL_FAR
    pace, _ = paced(POLL_FAR, 12, blocks=2)
    assert (pace.block_time, pace.wait()) == (None, POLL_FAR)


def test_looks_gather_around_the_moment_a_block_is_due() -> None:
    pace, clock = paced(POLL_FAR, 12)
    assert pace.block_time == 12
    looks = []
    while clock.now < 12:
        clock.now += pace.wait()
        looks.append(round(clock.now, 2))
    assert looks == [4.0, 8.0, 10.8, 11.8, 12.8]
    clock.now = 4 * 12 + 1
    assert pace.wait() == POLL_FAR, "a chain that stands still is not hammered"


@pytest.mark.parametrize(
    ("longest", "block_time", "waits"), [(POLL_NEAR, 2, 1.0), (POLL_FAR, 1, 0.9), (POLL_DEV, 12, 0.2)]
)
def test_never_longer_than_the_distance_asks(longest: float, block_time: int, waits: float) -> None:
    pace, _ = paced(longest, block_time)
    assert pace.wait() == waits


def test_never_so_often_that_it_hurts() -> None:
    pace, clock = paced(POLL_FAR, 1)
    clock.now = 1.5
    assert pace.wait() == POLL_FAR / 8


def test_a_reorg_or_a_gap_is_no_measure() -> None:
    pace, _ = paced(POLL_FAR, 12)
    pace.take(Reorg(head(5, 60), 3, head(4, 50)))
    assert pace.block_time is None
    pace, _ = paced(POLL_FAR, 12)
    pace.take(NewHead(head(500, 9000), gap_from=6))
    assert pace.block_time is None


def test_blocks_of_one_second_have_no_known_time() -> None:
    pace, _ = paced(POLL_NEAR, 0)
    assert (pace.block_time, pace.wait()) == (None, POLL_NEAR)
