"""The questions that wait: each with its deadline, its asker, and one answer.

Knows nothing of rules, limits or the log (approvals.py does); it keeps a question open until it is settled once, by an
answer, by its deadline, or because its asker stayed away. Nothing in here survives the process.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from middleware.errors import RpcError
from middleware.questions import Decision, Question, Withdrawn

ASKER_GRACE = 15.0  # seconds a question waits for its asker to come back


class NoSuchQuestion(RpcError):
    """-32602: the id names no open question."""

    def __init__(self, question_id: str) -> None:
        super().__init__(
            -32602,
            f"there is no open question {question_id}: it was answered, withdrawn or ran out of time; "
            "`l2proxy approval list` shows what is open",
            {"param": "id"},
        )


@dataclass(eq=False)
class OpenQuestion:
    """One question that waits. Times are unix seconds.

    `repeated`: one like it was approved that many seconds ago; `note`: what the rules said; `stranger`: asked by a page
    that was not connected; `answer`: what the asker awaits (None: nobody does).
    """

    question: Question
    expires: float
    repeated: int | None
    note: str
    stranger: bool
    answer: asyncio.Future[Decision] | None
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    created: float = 0.0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    watch: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def summary(self) -> str:
        """The proxy's sentence, which says first when the same was approved a moment ago (hardening.md 14)."""
        if self.repeated is None:
            return self.question.summary
        return f"AGAIN, the same was approved {self.repeated} s ago: {self.question.summary}"


class Queue:
    """The open questions of one daemon; lives on one event loop. `expired` hears of a question nobody answered in time."""

    def __init__(self, expired: Callable[[OpenQuestion], None], clock: Callable[[], float] = time.time) -> None:
        self._expired, self._clock = expired, clock
        self._open: dict[str, OpenQuestion] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self.version = 0

    def all(self) -> list[OpenQuestion]:
        """Return the open questions, oldest first."""
        return list(self._open.values())

    def get(self, question_id: str) -> OpenQuestion:
        """Return an open question; raise `NoSuchQuestion`."""
        try:
            return self._open[question_id]
        except KeyError:
            raise NoSuchQuestion(question_id) from None

    def check_open(self) -> None:
        """Raise `Withdrawn` once the daemon stops."""
        if self._closed:
            raise Withdrawn("the daemon stops; ask again once it runs")

    def add(self, opened: OpenQuestion) -> None:
        """Let a question wait from now on."""
        opened.created = self._clock()
        loop = asyncio.get_running_loop()
        opened.timer = loop.call_later(max(0.0, opened.expires - opened.created), self._expired, opened)
        if opened.question.presence is not None:
            opened.watch = loop.create_task(self._watch(opened), name=f"asker of question {opened.id}")
        self._open[opened.id] = opened
        self._bump()

    def settle(self, opened: OpenQuestion, outcome: Decision | RpcError) -> None:
        """Give the one answer: whoever comes second finds the question gone."""
        if not self.remove(opened) or opened.answer is None or opened.answer.done():
            return
        if isinstance(outcome, RpcError):
            opened.answer.set_exception(outcome)
        else:
            opened.answer.set_result(outcome)

    def remove(self, opened: OpenQuestion) -> bool:
        """Let a question wait no longer; tell whether it did."""
        if self._open.pop(opened.id, None) is None:
            return False
        if opened.timer is not None:
            opened.timer.cancel()
        if opened.watch is not None:
            opened.watch.cancel()
        self._bump()
        return True

    async def changed(self, since: int) -> int:
        """Return the queue's version once it is not `since` any more, or the daemon stops."""
        while self.version == since and not self._closed:
            await self._changed.wait()
        return self.version

    async def close(self) -> None:
        """Take back everything; nothing is added afterwards."""
        self._closed = True
        watches = [opened.watch for opened in self.all() if opened.watch is not None]
        for opened in self.all():
            self.settle(opened, Withdrawn("the daemon stops; ask again once it runs"))
        self._bump()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, opened: OpenQuestion) -> None:
        presence = opened.question.presence
        assert presence is not None  # noqa: S101
        while True:
            await presence.gone()
            try:
                async with asyncio.timeout(ASKER_GRACE):
                    await presence.back()
            except TimeoutError:
                opened.watch = None  # it ends by itself
                self.settle(opened, Withdrawn("nobody waited for the answer any more; nothing was done"))
                return

    def _bump(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
