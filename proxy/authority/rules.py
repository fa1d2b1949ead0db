"""Answers given in advance: `[[rule]]` tables of a TOML file the owner attested (rpc.md, "Command line").

This module reads rules and tells which one matches a question; it keeps nothing (rule_book.py does). Values are exact,
`*` matches all. A blank cheque cannot be written: an allow names origin and method or action, never covers a value the
proxy does not know, calldata it does not name, or a signature for a contract it does not name (hardening.md 12).
"""

from __future__ import annotations

import difflib
import tomllib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from middleware.questions import OWNER_ONLY, Facts, Question, digest_of, warning_code

ANY = "*"
Text = Annotated[str, Meta(min_length=1, max_length=200)]
_EXACT = ("origin", "plugin", "action", "method", "function", "to", "asset", "verifying_contract")
_ADDRESSES = ("to", "asset", "verifying_contract")
_SIGNATURES = frozenset({"message", "typed_data", "sign"})


class RuleError(ValueError):
    """The file holds no usable rules; the message says which rule and what to do."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule. Amounts are the smallest unit of `asset` (wei for ETH); `period` is seconds."""

    decision: Literal["allow", "ask", "reject"]
    origin: Text | None = None
    plugin: Text | None = None
    action: Text | None = None
    method: Text | None = None
    function: Text | None = None
    to: Text | None = None
    asset: Text | None = None
    verifying_contract: Text | None = None
    max_value: Annotated[int, Meta(ge=0)] | Text | None = None
    period: Annotated[int, Meta(ge=1)] | None = None
    max_count: Annotated[int, Meta(ge=0)] | None = None
    warnings: tuple[Text, ...] = ()

    @property
    def id(self) -> str:
        """A short name that follows the rule's content; counters are kept under it."""
        return digest_of(msgspec.to_builtins(self))[2:14]

    @property
    def most(self) -> int | None:
        """`max_value` as a number."""
        return None if self.max_value is None else int(self.max_value)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read a rule file; raise `RuleError` in one sentence when any part of it cannot be used."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RuleError(f"the rules are no TOML: {error}") from error
    for key in raw:
        if key != "rule":
            raise RuleError(f"unknown key {key}; a rule file holds [[rule]] tables only")
    tables = raw.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RuleError("write each rule as a [[rule]] table")
    return tuple(_parse_rule(number, table) for number, table in enumerate(tables, 1))


def _parse_rule(number: int, table: dict[str, Any]) -> Rule:
    for key in table:
        if key not in Rule.__struct_fields__:
            nearest = difflib.get_close_matches(key, Rule.__struct_fields__, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(Rule.__struct_fields__)}"
            raise RuleError(f"rule {number}: unknown key {key}; {hint}")
    try:
        rule = msgspec.convert(table, Rule)
    except msgspec.ValidationError as error:
        raise RuleError(f"rule {number}: {error}") from error
    if isinstance(rule.max_value, str):
        if not (rule.max_value.isascii() and rule.max_value.isdigit() and len(rule.max_value) <= 78):
            raise RuleError(f"rule {number}: max_value is a number of the smallest unit (wei), not {rule.max_value!r}")
        rule = msgspec.structs.replace(rule, max_value=int(rule.max_value))
    _check_allow(number, rule)
    return rule


def _check_allow(number: int, rule: Rule) -> None:
    if rule.period is not None and rule.max_value is None and rule.max_count is None:
        raise RuleError(f"rule {number}: period needs max_value or max_count, whose rolling sum it is")
    if rule.decision != "allow":
        return
    if rule.origin is None or not (_names(rule.method) or _names(rule.action)):
        raise RuleError(
            f"rule {number}: an allow rule names origin, and method or action; otherwise it is a blank cheque"
        )


def _names(value: str | None) -> bool:
    return value is not None and value != ANY


def matches(rule: Rule, question: Question) -> bool:
    """Tell whether the keys of `rule` fit this question. Counters and warnings are not looked at.

    Of a plan an allow rule has to fit every step, any other rule one of them.
    """
    if rule.decision != "allow":
        return any(_fits(rule, question, facts) for facts in (question.facts, *question.facts.steps))
    if rule.most is not None and (cost(question) or 0) > rule.most:
        return False
    return all(_fits(rule, question, facts) for facts in question.facts.steps or (question.facts,))


def too_broad(rule: Rule, question: Question) -> str | None:
    """Return why an allow rule that matches still may not answer this question (hardening.md 12), None if it may."""
    if question.facts.always_ask or question.kind in OWNER_ONLY:
        return "this is never decided by a rule"
    for facts in question.facts.steps or (question.facts,):
        if question.kind in _SIGNATURES:
            reason = _signature_too_broad(rule, facts)
        elif question.kind == "invoke":
            reason = _invoke_too_broad(rule, facts)
        else:
            reason = _payment_too_broad(rule, question.kind, facts)
        if reason is not None:
            return reason
    return None


def cost(question: Question) -> int | None:
    """Return what the question costs at most in its asset, all steps together; None: unknown."""
    facts = question.facts
    if facts.value is not None or not facts.steps:
        return facts.value
    values = [step.value for step in facts.steps]
    return None if None in values else sum(value for value in values if value is not None)


def unlisted_warnings(rule: Rule, question: Question) -> tuple[str, ...]:
    """Return the warnings of the question that an allow rule does not list: they beat it."""
    return tuple(warning for warning in question.warnings if warning_code(warning) not in rule.warnings)


def _fits(rule: Rule, question: Question, facts: Facts) -> bool:
    actual = {name: getattr(facts, name, None) for name in _EXACT} | {"origin": str(question.origin)}
    if not all(_same(name, getattr(rule, name), actual[name]) for name in _EXACT):
        return False
    if rule.most is None:
        return True
    if facts.value is None:
        return rule.decision != "allow"  # what is unknown never passes as little
    return (rule.asset is not None or facts.asset in (None, "ETH")) and facts.value <= rule.most


def _same(name: str, wanted: str | None, actual: str | None) -> bool:
    if wanted is None or wanted == ANY:
        return True
    if actual is None:
        return False
    return wanted.lower() == actual.lower() if name in _ADDRESSES else wanted == actual


def _signature_too_broad(rule: Rule, facts: Facts) -> str | None:
    if _names(rule.verifying_contract) and facts.verifying_contract is not None:
        return None
    return "a signature needs a rule that names verifying_contract"


def _invoke_too_broad(rule: Rule, facts: Facts) -> str | None:
    if facts.value is not None or _names(rule.action):
        return None
    return "an action that does not say what it costs needs a rule that names the action"


def _payment_too_broad(rule: Rule, kind: str, facts: Facts) -> str | None:
    if facts.value is None:
        return "its value is unknown"
    by_plugin = _names(rule.plugin) or (rule.origin or "").startswith("plugin:")
    if kind == "transfer" and not (rule.method == "transfer" and by_plugin):
        return "a transfer needs a rule that names the plugin and transfer"
    if (facts.calldata or facts.function is not None) and not (_names(rule.function) and _names(rule.to)):
        return "calldata needs a rule that names function and to"
    return None
