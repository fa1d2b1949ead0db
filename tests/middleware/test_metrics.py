"""The counts of calls: bounded whatever is asked, exact."""

from __future__ import annotations

import sys

import pytest

from middleware.metrics import ANSWERED, BOUNDS, CODES, GONE, OTHER, RequestFigures


def test_a_call_is_counted_under_its_method_with_its_end_and_time() -> None:
    figures = RequestFigures(["eth_call", "eth_chainId"])
    figures.observe("eth_call", ANSWERED, 0.002)
    figures.observe("eth_call", 4100, 0.0001)
    figures.observe("eth_call", GONE, 100.0)
    [(label, row)] = figures.rows()
    assert label == "eth_call"
    assert row.calls == 3
    assert dict(row.outcomes()) == {"answered": 1, "gone": 1, "4100": 1}
    assert row.seconds == pytest.approx(100.0021)


def test_the_buckets_are_cumulative_and_a_bound_belongs_to_its_own_bucket() -> None:
    figures = RequestFigures(["eth_call"])
    for seconds in (BOUNDS[0], BOUNDS[1], BOUNDS[-1] * 2):
        figures.observe("eth_call", ANSWERED, seconds)
    [(_, row)] = figures.rows()
    buckets = dict(row.cumulative())
    assert buckets["0.0005"] == 1
    assert buckets["0.001"] == 2
    assert buckets["30"] == 2
    assert buckets["+Inf"] == 3


def test_a_stranger_makes_no_series() -> None:
    figures = RequestFigures(["eth_call"])
    for number in range(1000):
        figures.observe(f"eth_{number}\n\ud800", number + 2, 0.0)
    [(label, row)] = figures.rows()
    assert label == OTHER
    ends = dict(row.outcomes())
    assert ends == {OTHER: 1000}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_ours_has_a_label(code: int) -> None:
    figures = RequestFigures(["eth_call"])
    figures.observe("eth_call", code, 0.0)
    [(_, row)] = figures.rows()
    assert dict(row.outcomes()) == {str(code): 1}


def test_memory_does_not_grow_with_calls() -> None:
    figures = RequestFigures(["eth_call"])
    figures.observe("eth_call", ANSWERED, 0.1)
    [(_, row)] = figures.rows()
    before = sys.getsizeof(row.buckets) + sys.getsizeof(row.errors)
    for _ in range(1000):
        figures.observe("eth_call", ANSWERED, 0.1)
    assert sys.getsizeof(row.buckets) + sys.getsizeof(row.errors) == before


def test_slow_calls_are_told_by_their_label() -> None:
    told: list[tuple[str, float]] = []
    figures = RequestFigures(["eth_call"], slow=1.0, on_slow=lambda label, seconds: told.append((label, seconds)))
    for method, seconds in (("eth_call", 1.0), ("eth_call", 1.5), ("eth_evil\n", 2.0)):
        figures.observe(method, ANSWERED, seconds)
    assert told == [("eth_call", 1.5), (OTHER, 2.0)]
    silent = RequestFigures(["eth_call"], on_slow=lambda label, seconds: told.append((label, seconds)))
    silent.observe("eth_call", ANSWERED, 1e9)
    assert len(told) == 2
