"""The rules in force: a copy of what the owner attested, and what has been used up of them.

`rule attest` stores the text and its digest; only this copy counts, so that a file changed afterwards changes nothing
(security.md 13). Counters (how often, how much) lie on disk under the rule's own content, so that attesting the same
rule again refills nothing; a use is on disk before the answer is given.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from middleware.questions import Question
from proxy.authority.ledger import Ledger
from proxy.authority.rules import Rule, cost, matches, parse_rules, too_broad, unlisted_warnings
from proxy.storage import Batch, Space

_COPY, _CHANGED = b"copy", b"changed actions"


class _Copy(msgspec.Struct, frozen=True):
    text: str
    digest: str
    attested: int


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a question: `decision` (allow, ask, reject), the rule that says it, and why."""

    decision: str
    rule: Rule | None
    why: str


class RuleBook:
    """The rules of one data directory; `space` keeps the copy, `space_uses` the counters."""

    def __init__(self, space: Space, space_uses: Space, clock: Callable[[], float] = time.time) -> None:
        self._space, self._uses_space, self._clock = space, space_uses, clock
        self._uses = Ledger(space_uses, clock)
        stored = space.get(_COPY)
        self._copy = None if stored is None else msgspec.json.decode(stored, type=_Copy)
        self._rules = () if self._copy is None else parse_rules(self._copy.text)
        changed = space.get(_CHANGED)
        self._changed = (
            frozenset() if changed is None else msgspec.json.decode(changed, type=frozenset[tuple[str, str]])
        )

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in the order of the file."""
        return self._rules

    @property
    def digest(self) -> str | None:
        """`0x` + SHA-256 of the attested text (None: nothing is attested)."""
        return None if self._copy is None else self._copy.digest

    @property
    def attested(self) -> int | None:
        """Unix second at which the rules in force were attested."""
        return None if self._copy is None else self._copy.attested

    def attest(self, text: str) -> str:
        """Put the rules of `text` in force, in place of those before; return the digest. Raises `RuleError`."""
        rules = parse_rules(text)
        copy = _Copy(text, text_digest(text), int(self._clock()))
        self._space.write({_COPY: msgspec.json.encode(copy)}, [_CHANGED])
        self._copy, self._rules, self._changed = copy, rules, frozenset()
        return copy.digest

    def drop_actions(self, plugin: str, actions: Sequence[str]) -> None:
        """Let no allow rule answer for these actions until rules are attested again (hardening.md 25); on disk at once."""
        changed = self._changed | {(plugin, action) for action in actions}
        self._space.write({_CHANGED: msgspec.json.encode(sorted(changed))})
        self._changed = changed

    def decide(self, question: Question) -> Verdict:
        """Return what the rules say, without using any: reject rules first, then the first that matches (hardening.md 12)."""
        for rule in self._rules:
            if rule.decision == "reject" and matches(rule, question):
                return Verdict("reject", rule, "a reject rule matches")
        near = "no rule matches"
        for rule in self._rules:
            if rule.decision == "reject" or not matches(rule, question):
                continue
            if rule.decision == "ask":
                return Verdict("ask", rule, "the first rule that matches says ask")
            if (question.facts.plugin, question.facts.action) in self._changed:
                near = f"rule {rule.id} does not answer: the action changed since the rules were attested"
            elif reason := too_broad(rule, question):
                near = f"rule {rule.id} does not answer: {reason}"
            elif beaten := unlisted_warnings(rule, question):
                return Verdict("ask", rule, f"rule {rule.id} does not list the warning {beaten[0]}")
            elif self._used_up(rule, question):
                near = f"rule {rule.id} is used up"
            else:
                return Verdict("allow", rule, "the first rule that matches says allow")
        return Verdict("ask", None, near)

    def use(self, rule: Rule, question: Question) -> None:
        """Count one use of an allow rule; on disk when this returns."""
        if rule.period is None and rule.max_count is None:
            return
        use = secrets.token_hex(8)
        self._uses.hold(rule.id, use, cost(question) or 0)
        batch = Batch()
        self._uses.store(batch, rule.id, use)
        self._uses_space.database.commit(batch)

    def _used_up(self, rule: Rule, question: Question) -> bool:
        total, count = self._uses.spent(rule.id, rule.period)
        if rule.max_count is not None and count >= rule.max_count:
            return True
        return rule.period is not None and rule.most is not None and total + (cost(question) or 0) > rule.most


def text_digest(text: str) -> str:
    """Return `0x` + SHA-256 of a rule file's text: what the owner attests."""
    return "0x" + hashlib.sha256(text.encode()).hexdigest()
