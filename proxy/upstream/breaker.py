"""Whether one node may be asked now: the circuit breaker, with back-off and jitter. Pure but for the clock; no I/O here.

closed ── too many failures, or nothing listens ──> open ── the pause is over ──> half-open ── one probe ──> closed, or open for longer

Two ways to be open. *Hard* (nothing listens, or another chain answers): refused until the pause is over, for asking is known to fail.
*Soft* (it takes requests and fails them): passed over while another node is good, and probed at once when there is no other, so that no
caller's odd request can shut everybody out. A probe that succeeds closes; only callers' answers make the failures forgotten.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

# Failures in a row, or share of late requests that failed, that open it.
_IN_A_ROW: Final = 5
_LATE_IN_A_ROW: Final = 3
_RATE: Final = 0.5
_JITTER: Final = 0.3


class Breaker:
    """The state of one node. `first` and `longest` pause in seconds; `clock` is monotonic, so no change of the date moves it."""

    def __init__(self, first: float, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._longest = longest
        self._clock = clock
        self._pause = first
        self._until = float("-inf")
        self._strikes = 0.0
        self.is_open = False
        self._hard = False

    @property
    def resting(self) -> bool:
        """Tell whether the pause goes on."""
        return self.is_open and self._clock() < self._until

    @property
    def refuses(self) -> bool:
        """Tell whether the node must not even be probed now."""
        return self._hard and self.resting

    def trip(self, *, hard: bool) -> None:
        """Open it, each time for longer."""
        if self.resting and (self._hard or not hard):
            return
        self._until = self._clock() + self._pause * random.uniform(1 - _JITTER, 1)
        self._pause = min(self._pause * 2, self._longest)
        self.is_open, self._hard = True, hard

    def strike(self, rate: float, *, late: bool) -> None:
        """Count a request that failed at a node which takes requests; `rate`: the share of its requests that fail."""
        self._strikes += _IN_A_ROW / _LATE_IN_A_ROW if late else 1
        if self._strikes >= _IN_A_ROW or rate > _RATE:
            self.trip(hard=False)

    def probed(self) -> None:
        """Close it: a probe was answered. The next failure of the same kind opens it again at once."""
        self.is_open = self._hard = False

    def answered(self) -> None:
        """Close it and forget what failed: a caller's request was answered."""
        self.is_open = self._hard = False
        self._strikes = 0.0
        self._pause = self._first
