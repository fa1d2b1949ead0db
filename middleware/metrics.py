"""Counts of the calls: how many, how they ended, how long they took, by method. Plain numbers, read when somebody scrapes.

A door calls `RequestFigures.observe` once per call on both lanes; it must cost well under a microsecond, so nothing here
takes a lock, makes a string or knows Prometheus. Names are hostile input: a method without a row in the method table is
counted as `other`, a code that is none of ours likewise, so that no caller can make a series (security.md 5; peers.md 3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

ANSWERED: Final = 0
"""The outcome of a call that got a result, or the node's own error."""
GONE: Final = 1
"""The outcome of a call whose asker left before there was an answer."""
OTHER: Final = "other"

_QUICKEST: Final = 0.0005
BOUNDS: Final[tuple[float, ...]] = (
    *(_QUICKEST, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of the time buckets, in seconds."""
CODES: Final = frozenset(
    {
        *(-32700, -32600, -32601, -32602, -32603, -32002, -32005, -32010, -32011, -32012),
        *(4001, 4100, 4200, 4900, 4902),
    }
)
"""The codes of rpc.md, "Errors": one label each."""


class MethodFigures:
    """The figures of one label."""

    __slots__ = ("answered", "buckets", "errors", "gone", "label", "quickest", "seconds")

    def __init__(self, label: str) -> None:
        self.label = label
        self.answered = 0
        self.gone = 0
        self.errors: dict[int, int] = {}
        self.seconds = 0.0
        self.quickest = 0  # calls of the first bucket, which is most of them
        self.buckets = [0] * (len(BOUNDS) + 1)  # the others; the last is everything slower

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return self.quickest + sum(self.buckets)

    def outcomes(self) -> Iterator[tuple[str, int]]:
        """Yield (`answered`, `gone` or the error code, calls) for everything that happened."""
        if self.answered:
            yield "answered", self.answered
        if self.gone:
            yield "gone", self.gone
        for code, calls in self.errors.items():
            yield str(code) if code else OTHER, calls

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus counts them: calls up to each bound, then all."""
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        upto = accumulate(self.buckets, initial=self.quickest)
        next(upto)
        return [(bound, float(calls)) for bound, calls in zip(bounds, upto, strict=True)]


class RequestFigures:
    """The figures of all calls of the doors. `labels`: the method table's own names (`MethodTable.names()`).

    `on_slow(label, seconds)` hears of each call that took longer than `slow` seconds (0: of none).
    """

    __slots__ = ("_by_method", "_on_slow", "_other", "invalid", "slow")

    def __init__(
        self,
        labels: Iterable[str] = (),
        *,
        slow: float = 0,
        on_slow: Callable[[str, float], None] = lambda _label, _seconds: None,
    ) -> None:
        self._by_method = {label: MethodFigures(label) for label in labels}
        self._other = MethodFigures(OTHER)
        self.slow: Final = slow or float("inf")
        self._on_slow = on_slow
        self.invalid = 0  # bodies and batch items that were no call

    def observe(self, method: str, outcome: int, seconds: float) -> None:
        """Count one call: `outcome` is `ANSWERED`, `GONE` or the code of our error, `seconds` its time. Any text may be asked."""
        row = self._by_method.get(method)
        if row is None:
            row = self._other
        row.seconds += seconds
        if seconds <= _QUICKEST:
            row.quickest += 1
        else:
            row.buckets[bisect_left(BOUNDS, seconds)] += 1
        if outcome == ANSWERED:
            row.answered += 1
        elif outcome == GONE:
            row.gone += 1
        else:
            code = outcome if outcome in CODES else 0
            row.errors[code] = row.errors.get(code, 0) + 1
        if seconds > self.slow:
            self._on_slow(row.label, seconds)

    def rows(self) -> Iterator[tuple[str, MethodFigures]]:
        """Yield (label, figures) of every label that was called."""
        for row in (*self._by_method.values(), self._other):
            if row.calls:
                yield row.label, row
