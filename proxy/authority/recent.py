"""What was approved in the last minutes, so that a question that comes again says so first (hardening.md 14).

An owner who sees the same payment twice should notice before paying twice. Two questions are alike if their digests are
equal, or all that the owner reads of them is: a digest may bind a nonce or a deadline that nobody reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from middleware.questions import Question

REMEMBERED = 600.0  # seconds
MOST = 1000


class Recent:
    """The questions approved a short while ago."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._at: dict[str, float] = {}

    def approved(self, question: Question) -> None:
        """Remember that `question` was approved now."""
        now = self._clock()
        for key in [key for key, at in self._at.items() if now - at > REMEMBERED]:
            del self._at[key]
        while len(self._at) >= MOST:
            del self._at[next(iter(self._at))]
        for key in _likenesses(question):
            self._at.pop(key, None)
            self._at[key] = now

    def age(self, question: Question) -> int | None:
        """Return how many seconds ago one like `question` was approved, None if none was."""
        now = self._clock()
        ages = [now - self._at[key] for key in _likenesses(question) if key in self._at]
        return int(min(ages)) if ages and min(ages) <= REMEMBERED else None


def _likenesses(question: Question) -> tuple[str, str]:
    who = f"{question.origin} {question.kind}"
    return f"{who} {question.digest}", f"{who} {question.summary} {sorted(question.quoted.items())}"
