"""How many questions may wait, so that nobody buries the owner's queue (rpc.md, "Limits"; hardening.md 8).

Pages the owner has not connected share few slots of their own, one per host, so that they never crowd out what the owner
cares about. A plugin has a few, and a few more for ways out; everyone else one question of a kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from middleware.errors import AlreadyPending, LimitExceeded
from middleware.questions import Question
from middleware.waist import Origin, OriginKind
from proxy.authority.origins import host_of

STRANGERS = 5
QUIET = 3600.0  # seconds an unconnected page stays silent after the owner said no, or nothing
MOST_QUIET = 4096
_WAYS_OUT = frozenset({"withdraw", "plan"})


class Waiting(Protocol):
    """An open question (approvals.py)."""

    @property
    def question(self) -> Question:
        """What is asked."""

    @property
    def stranger(self) -> bool:
        """Whether it was asked by a page that was not connected."""


Open = TypeVar("Open", bound=Waiting)


class Slots:
    """Decides whether one more question may wait. `connected` tells whether the owner connected a page."""

    def __init__(
        self,
        connected: Callable[[Origin], bool],
        total: int = 50,
        per_origin: int = 3,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connected, self._total, self._per_origin, self._clock = connected, total, per_origin, clock
        self._quiet: dict[str, float] = {}

    def take(self, question: Question, waiting: Sequence[Waiting]) -> bool:
        """Return whether the asker is a stranger; raise `AlreadyPending` or `LimitExceeded` when there is no slot."""
        mine = [other.question for other in waiting if other.question.origin == question.origin]
        if question.origin.kind is OriginKind.PLUGIN:
            self._take_of_plugin(question, mine)
        elif any(other.kind == question.kind for other in mine):
            raise AlreadyPending(question.kind)
        elif len(mine) >= self._per_origin:
            raise _full("questions_per_origin", f"{self._per_origin} questions of this origin wait for the owner")
        if self.stranger(question.origin):
            self._take_of_stranger(question, [other.question for other in waiting if other.stranger])
            return True
        if sum(not other.stranger for other in waiting) >= self._total:
            raise _full("questions", f"{self._total} questions wait for the owner")
        return False

    def stranger(self, origin: Origin) -> bool:
        """Tell whether `origin` is a page the owner has not connected."""
        return origin.kind is OriginKind.WEB and not self._connected(origin)

    def superseded(self, question: Question, waiting: Iterable[Open]) -> list[Open]:
        """Return the connect question of a page that now asks for more: granting anything connects it too."""
        if question.kind == "connect" or not self.stranger(question.origin):
            return []
        return [w for w in waiting if w.question.origin == question.origin and w.question.kind == "connect"]

    def refused(self, question: Question) -> None:
        """Remember that the owner does not want to connect this page, for a while."""
        if question.kind == "connect":
            while len(self._quiet) >= MOST_QUIET:
                del self._quiet[next(iter(self._quiet))]
            self._quiet[str(question.origin)] = self._clock() + QUIET

    def _take_of_plugin(self, question: Question, mine: Sequence[Question]) -> None:
        out = question.kind in _WAYS_OUT
        if sum((other.kind in _WAYS_OUT) == out for other in mine) >= self._per_origin:
            what = "ways out" if out else "questions"
            raise _full("questions_per_origin", f"{self._per_origin} {what} of this plugin wait for the owner")

    def _take_of_stranger(self, question: Question, strangers: Sequence[Question]) -> None:
        if question.kind == "connect" and self._quiet.get(str(question.origin), 0.0) > self._clock():
            raise _full("questions_per_origin", "the owner was asked a while ago")
        if any(host_of(other.origin) == host_of(question.origin) for other in strangers):
            raise _full("questions_per_origin", "a question of this host waits for the owner")
        if len(strangers) >= STRANGERS:
            raise _full("questions", f"questions of {STRANGERS} sites that are not connected wait for the owner")


def _full(limit: str, what: str) -> LimitExceeded:
    return LimitExceeded(limit, f"{what}; ask again later")
