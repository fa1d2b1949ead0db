"""Questions to the owner: asked, limited, answered once.

Wallet, host and the approval link await `ask(question)`. Rules answer first where they may; else the question waits in the
queue until the owner answers over the admin socket, its deadline passes, its asker has gone, or its origin loses the right
to ask. Every decision is in the audit log before it takes effect (security.md 14); an answer is given once and only to the
digest that was shown. Nothing in here survives the process: an open question dies with it (security.md 11).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from middleware.errors import InvalidParams, Refused, RpcError
from middleware.questions import OWNER_ONLY, Decision, Question, Withdrawn
from middleware.waist import Origin
from proxy.authority.audit import AuditLog
from proxy.authority.notices import Notices
from proxy.authority.queue import OpenQuestion, Queue
from proxy.authority.recent import Recent
from proxy.authority.rules import Rule
from proxy.authority.slots import Slots


class Rules(Protocol):
    """The rules in force (rule_book.py)."""

    def decide(self, question: Question) -> Any:
        """Return a verdict with `decision` (allow, ask, reject), `rule` and `why`."""

    def use(self, rule: Rule, question: Question) -> None:
        """Count one use of an allow rule, on disk."""


class Approvals:
    """The queue of one daemon; lives on one event loop."""

    def __init__(
        self,
        audit: AuditLog,
        rules: Rules,
        slots: Slots,
        notices: Notices,
        deadline: float = 300.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audit, self._rules, self._slots, self._notices = audit, rules, slots, notices
        self._deadline, self._clock = deadline, clock
        self._queue = Queue(self._expire, clock)
        self._recent = Recent(clock)
        self.decisions: Counter[tuple[str, str]] = Counter()  # (decision, source), for the metrics

    # -- asking

    async def ask(self, question: Question) -> Decision:
        """Return the yes to `question`, of a rule or the owner.

        Raises `Refused` (4001) for a no, a deadline, or nobody left to hear it; `AlreadyPending` and `LimitExceeded` when
        it cannot be queued; what `still_allowed` and `apply` raise.
        """
        decision = self._by_rule(question)
        if decision is not None:
            return decision
        opened = self._enqueue(question, asyncio.get_running_loop().create_future())
        assert opened.answer is not None  # noqa: S101
        try:
            decision = await opened.answer
        finally:
            self._queue.remove(opened)
        if question.still_allowed is not None:
            question.still_allowed()
        return decision

    def post(self, question: Question) -> str:
        """Put a question nobody waits for in the queue and return its id; a yes takes effect through `question.apply`.

        Raises `AlreadyPending` and `LimitExceeded`. Rules are not asked: only the owner decides what nobody waits for.
        """
        return self._enqueue(question, None).id

    async def by_policy(self, question: Question, why: str) -> Decision:
        """Record that `question` needs nobody's answer (`why`: "budget", "approval = never"). A reject rule still refuses.

        What was taken from the asker while the record was written is refused after it.
        """
        self._refuse_by_rule(question)
        decision = Decision("policy", why, self._clock())
        record = self._audit.noted if question.facts.value is None else self._audit.appended
        await record(self._event("allow", question, decision.source, decision.id))
        self.decisions["allow", decision.source] += 1
        if question.still_allowed is not None:
            question.still_allowed()
        return decision

    def _by_rule(self, question: Question) -> Decision | None:
        self._refuse_by_rule(question)
        verdict = self._rules.decide(question)
        if verdict.decision != "allow":
            return None
        if question.still_allowed is not None:
            question.still_allowed()
        self._record("allow", question, "rule", verdict.rule.id)
        self._rules.use(verdict.rule, question)
        if question.apply is not None:
            question.apply(None)
        self._recent.approved(question)
        return Decision("rule", verdict.rule.id, self._clock())

    def _refuse_by_rule(self, question: Question) -> None:
        verdict = self._rules.decide(question)
        if verdict.decision == "reject":
            self._record("reject", question, "rule", verdict.rule.id)
            self._notices.rejected(question, f"rule {verdict.rule.id} rejects it")
            raise Refused("a rule of the owner rejects this")

    # -- answering

    def list(self) -> list[OpenQuestion]:
        """Return the open questions, oldest first."""
        return self._queue.all()

    def get(self, question_id: str) -> OpenQuestion:
        """Return an open question; raise `NoSuchQuestion`."""
        return self._queue.get(question_id)

    @property
    def version(self) -> int:
        """A number that grows with every change of the queue."""
        return self._queue.version

    async def changed(self, since: int) -> int:
        """Return the queue's version once it is not `since` any more."""
        return await self._queue.changed(since)

    def approve(self, question_id: str, despite_warnings: bool = False, chosen: Any = None) -> Decision:
        """Say yes. Raises what makes the yes impossible, to the owner and, where it is final, to the asker as well."""
        opened = self.get(question_id)
        question = opened.question
        if question.warnings and not despite_warnings:
            raise Refused(
                f"question {opened.id} carries warnings ({'; '.join(question.warnings)}); "
                f"approve it with --despite-warnings, or reject it"
            )
        try:
            if question.still_allowed is not None:
                question.still_allowed()
            decision = Decision("owner", opened.id, self._clock(), chosen)
            self._record("allow", question, "owner", opened.id, chosen)
            if question.apply is not None:
                question.apply(chosen)
        except InvalidParams as error:
            if chosen is None:
                self._queue.settle(opened, error)
            else:  # the owner's slip is not the asker's: the question stays
                self._record("void", question, "owner", opened.id, chosen)
            raise
        except RpcError as error:
            self._queue.settle(opened, error)
            raise
        self._recent.approved(question)
        self._queue.settle(opened, decision)
        return decision

    def reject(self, question_id: str) -> None:
        """Say no: the asker gets 4001."""
        opened = self.get(question_id)
        self._record("reject", opened.question, "owner", opened.id)
        self._slots.refused(opened.question)
        self._queue.settle(opened, Refused("the owner said no"))

    def settle_connected(self, origin: Origin) -> None:
        """Take a connect question off the queue: the owner connected the page by a command."""
        for opened in self.list():
            if opened.question.kind == "connect" and opened.question.origin == origin:
                self._queue.settle(opened, Withdrawn("the owner connected this page"))

    # -- taking back

    def withdraw(self, error: RpcError, which: Callable[[Question], bool]) -> None:
        """Take back every open question that `which` picks; its asker gets `error`."""
        for opened in self.list():
            if which(opened.question):
                self._queue.settle(opened, error)

    def withdraw_of(self, origin: Origin, error: RpcError) -> None:
        """Take back every question of `origin`, also those a plugin asked for it (hardening.md 18)."""
        self.withdraw(error, lambda question: origin in (question.origin, question.serving))

    def withdraw_for_lock(self, error: RpcError) -> None:
        """Take back every question whose answer would need the main accounts."""
        self.withdraw(error, lambda question: question.kind == "accounts" or question.kind not in OWNER_ONLY)

    async def close(self) -> None:
        """Take back everything; nothing is asked afterwards."""
        await self._queue.close()

    # -- inside

    def _enqueue(self, question: Question, answer: asyncio.Future[Decision] | None) -> OpenQuestion:
        self._queue.check_open()
        for superseded in self._slots.superseded(question, self.list()):
            self._queue.settle(superseded, Withdrawn("another question of this site includes it"))
        opened = OpenQuestion(
            question,
            expires=self._clock() + self._deadline if question.deadline is None else question.deadline,
            repeated=self._recent.age(question),
            note=self._rules.decide(question).why,
            stranger=self._slots.take(question, self.list()),
            answer=answer,
        )
        self._queue.add(opened)
        self._notices.question(opened.id, msgspec.structs.replace(question, summary=opened.summary))
        return opened

    def _expire(self, opened: OpenQuestion) -> None:
        self._slots.refused(opened.question)
        self._notices.rejected(opened.question, "nobody answered in time")
        self._queue.settle(opened, Refused("the owner did not answer in time"))

    def _record(self, decision: str, question: Question, source: str, by: str, chosen: Any = None) -> None:
        self._audit.append(self._event(decision, question, source, by, chosen))
        self.decisions[decision, source] += 1

    def _event(self, decision: str, question: Question, source: str, by: str, chosen: Any = None) -> dict[str, Any]:
        event: dict[str, Any] = {
            "event": "decision",
            "decision": decision,
            "source": source,
            "id": by,
            "origin": str(question.origin),
            "kind": question.kind,
            "summary": question.summary,
            "digest": question.digest,
            "method": question.facts.method,
        }
        if question.serving is not None:
            event["serving"] = str(question.serving)
        if question.warnings:
            event["warnings"] = list(question.warnings)
        if chosen is not None:
            event["chosen"] = chosen
        return event
