"""`admin_rule*` and `admin_audit*`: answers given in advance, and the record of everything decided."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from middleware.errors import RpcError
from middleware.questions import Facts, Kind, Question, digest_of
from middleware.waist import Context, Handler
from proxy.authority.assembly import Authority
from proxy.authority.audit import AuditBroken, Head
from proxy.authority.origins import BadOrigin, parse_origin
from proxy.authority.rule_book import Verdict, text_digest
from proxy.authority.rules import Rule, RuleError, parse_rules
from proxy.methods.admin_params import AdminParams, BadRequest, read


class _Attest(AdminParams, frozen=True, kw_only=True):
    text: str


class _Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An example question, in the words of the rules; `value` is the smallest unit of `asset`."""

    origin: str
    kind: Kind
    method: str
    plugin: str | None = None
    action: str | None = None
    function: str | None = None
    to: str | None = None
    asset: str | None = None
    value: int | str | None = None
    verifying_contract: str | None = None
    warnings: tuple[str, ...] = ()


class _Test(AdminParams, frozen=True, kw_only=True):
    id: str | None = None
    question: _Example | None = None


class _Show(AdminParams, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 50
    before: Annotated[int, Meta(ge=1)] | None = None


class _Verify(AdminParams, frozen=True, kw_only=True):
    head: str | None = None


class BrokenLog(RpcError):
    """-32603 with the sentence: the owner must read what does not fit."""

    def __init__(self, message: str) -> None:
        super().__init__(-32603, message)


def record_handlers(authority: Authority) -> dict[str, Handler]:
    """Return the methods of rules and of the audit log."""
    return {**_rule_handlers(authority), **_audit_handlers(authority)}


def _rule_handlers(authority: Authority) -> dict[str, Handler]:
    rules = authority.rules

    async def rule_attest(params: Any, context: Context) -> Any:
        text = read(params, _Attest).text
        try:
            parse_rules(text)
        except RuleError as error:
            raise BadRequest(str(error)) from error
        authority.audit.append({"event": "rules attested", "source": "owner", "digest": text_digest(text)})
        return {"digest": rules.attest(text), "rules": [_shown(rule) for rule in rules.rules]}

    async def rule_list(params: Any, context: Context) -> Any:
        return {
            "digest": rules.digest,
            "attested": rules.attested,
            "rules": [_shown(rule) for rule in rules.rules],
        }

    async def rule_test(params: Any, context: Context) -> Any:
        asked = read(params, _Test)
        if (asked.id is None) == (asked.question is None):
            raise BadRequest("name an open question, or give an example question")
        if asked.question is None:
            return _verdict(rules.decide(authority.approvals.get(str(asked.id)).question))
        return _verdict(rules.decide(_example(asked.question)))

    return {"admin_ruleAttest": rule_attest, "admin_ruleList": rule_list, "admin_ruleTest": rule_test}


def _audit_handlers(authority: Authority) -> dict[str, Handler]:
    audit = authority.audit

    async def audit_show(params: Any, context: Context) -> Any:
        asked = read(params, _Show)
        return audit.entries(asked.limit, asked.before)

    async def audit_head(params: Any, context: Context) -> Any:
        head = audit.show_head()
        return {"n": head.n, "hash": head.hash, "head": str(head)}

    async def audit_verify(params: Any, context: Context) -> Any:
        asked = read(params, _Verify)
        try:
            head = audit.verify(None if asked.head is None else Head.parse(asked.head))
        except AuditBroken as error:
            raise BrokenLog(f"the audit log was changed: {error}") from error
        except ValueError as error:
            raise BadRequest(str(error)) from error
        return {"ok": True, "entries": head.n, "head": str(head)}

    return {"admin_auditShow": audit_show, "admin_auditHead": audit_head, "admin_auditVerify": audit_verify}


def _example(example: _Example) -> Question:
    try:
        value = None if example.value is None else int(str(example.value), 0)
        origin = parse_origin(example.origin)
    except BadOrigin as error:
        raise BadRequest(str(error)) from error
    except ValueError as error:
        raise BadRequest(f"value is a whole number of the smallest unit, not {example.value!r}") from error
    facts = Facts(
        example.method,
        example.plugin,
        example.action,
        example.function,
        example.to,
        example.asset,
        value,
        example.verifying_contract,
    )
    return Question(origin, example.kind, "an example", digest_of([]), facts, warnings=example.warnings)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    rule = None if verdict.rule is None else _shown(verdict.rule)
    return {"decision": verdict.decision, "rule": rule, "why": verdict.why}


def _shown(rule: Rule) -> dict[str, Any]:
    return {"id": rule.id, **msgspec.to_builtins(rule)}
