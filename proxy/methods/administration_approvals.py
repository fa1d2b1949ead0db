"""`admin_approval*`: the questions that wait for the owner, and the owner's answers."""

from __future__ import annotations

import asyncio
from typing import Any

from middleware.waist import Context, Handler
from proxy.authority.assembly import Authority
from proxy.authority.queue import OpenQuestion
from proxy.methods.admin_params import AdminParams, read

LONGEST_WAIT = 60.0  # seconds one admin_approvalWait may take


class _One(AdminParams, frozen=True, kw_only=True):
    id: str


class _Approve(AdminParams, frozen=True, kw_only=True):
    id: str
    despite_warnings: bool = False
    chosen: dict[str, Any] | None = None


class _Wait(AdminParams, frozen=True, kw_only=True):
    since: int = -1
    seconds: float = 25.0


def approval_handlers(authority: Authority) -> dict[str, Handler]:
    """Return admin_approvalList, Show, Approve, Reject and Wait."""
    approvals = authority.approvals

    async def approval_list(params: Any, context: Context) -> Any:
        return [listed(opened) for opened in approvals.list()]

    async def approval_show(params: Any, context: Context) -> Any:
        return shown(approvals.get(read(params, _One).id))

    async def approval_approve(params: Any, context: Context) -> Any:
        asked = read(params, _Approve)
        opened = approvals.get(asked.id)
        approvals.approve(asked.id, asked.despite_warnings, asked.chosen)
        return {"id": opened.id, "decision": "approved", "digest": opened.question.digest}

    async def approval_reject(params: Any, context: Context) -> Any:
        opened = approvals.get(read(params, _One).id)
        approvals.reject(opened.id)
        return {"id": opened.id, "decision": "rejected", "digest": opened.question.digest}

    async def approval_wait(params: Any, context: Context) -> Any:
        asked = read(params, _Wait)
        try:
            async with asyncio.timeout(max(0.0, min(asked.seconds, LONGEST_WAIT))):
                await approvals.changed(asked.since)
        except TimeoutError:
            pass  # nothing changed: the same version says so
        return {"version": approvals.version, "questions": [listed(opened) for opened in approvals.list()]}

    return {
        "admin_approvalList": approval_list,
        "admin_approvalShow": approval_show,
        "admin_approvalApprove": approval_approve,
        "admin_approvalReject": approval_reject,
        "admin_approvalWait": approval_wait,
    }


def listed(opened: OpenQuestion) -> dict[str, Any]:
    """Return the row of `approval list --json` (rpc.md)."""
    question = opened.question
    return {
        "id": opened.id,
        "origin": str(question.origin),
        "kind": question.kind,
        "summary": opened.summary,
        "digest": question.digest,
        "expires": int(opened.expires),
        "warnings": list(question.warnings),
    }


def shown(opened: OpenQuestion) -> dict[str, Any]:
    """Return everything the owner can know of a question; `quoted` are the asker's words."""
    question = opened.question
    return {
        **listed(opened),
        "created": int(opened.created),
        "serving": None if question.serving is None else str(question.serving),
        "method": question.facts.method,
        "rules": opened.note,
        "details": question.details,
        "quoted": question.quoted,
    }
