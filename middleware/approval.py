"""The approval link of `l2_invoke`: last decision before the plugin is asked.

`always` asks the owner; `never` and what a budget covers go on, recorded; everything else is a rule's or the owner's to
decide. The question is made of what the proxy checked itself; values of the caller stand in it as quoted text. After an
answer that was waited for, permission and lock are looked at again (hardening.md 18). Nothing stands between this link
and the execution but the record of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from middleware.budget import spent_amount
from middleware.errors import Unauthorized
from middleware.invocation import METHOD, Actions, ActionSpec, Invocation, read_checked
from middleware.questions import Decision, Facts, Question, digest_of
from middleware.waist import Answer, Context, Next, Origin, Request


class Approvals(Protocol):
    """Who decides."""

    async def ask(self, question: Question) -> Decision:
        """Return a yes; raise 4001 and what else keeps it from one."""

    async def by_policy(self, question: Question, why: str) -> Decision:
        """Record that nobody needs to be asked; a reject rule raises 4001."""


class ApprovalLink:
    """Asks where the manifest, the budget and the rules leave it to the owner."""

    def __init__(
        self,
        actions: Actions,
        approvals: Approvals,
        covered: Callable[[str], bool],
        may_invoke: Callable[[Origin, str, str], bool],
        locked: Callable[[], bool],
    ) -> None:
        self._actions, self._approvals, self._covered = actions, approvals, covered
        self._may_invoke, self._locked = may_invoke, locked

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for l2_invoke alone."""
        return method == METHOD

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Go on once the call is decided. Raises 4001, 4100, -32002, -32005."""
        invocation = read_checked(request)
        spec = self._actions.action_spec(invocation.plugin, invocation.action)
        if spec is None:
            raise Unauthorized(f"{context.origin} may not invoke this action")
        question = self._question(spec, invocation, context)
        if spec.approval == "never":
            await self._approvals.by_policy(question, "approval = never")
        elif spec.approval == "policy" and self._covered(invocation.call):
            await self._approvals.by_policy(question, "budget")
        else:
            await self._approvals.ask(question)
        return await next(request, context)

    def _question(self, spec: ActionSpec, invocation: Invocation, context: Context) -> Question:
        origin = context.origin
        amount = spent_amount(spec, invocation)
        asset = None if spec.spends is None else spec.spends["asset"]
        cost = (
            "; it does not say what it costs" if amount is None else f"; it costs at most {amount_text(amount, asset)}"
        )
        what = {"plugin": spec.plugin, "action": spec.name, "params": invocation.params}

        def still_allowed() -> None:
            if not self._may_invoke(origin, spec.plugin, spec.name):
                raise Unauthorized(f"{origin} may not invoke this action any more")
            if self._locked():
                raise Unauthorized("the wallet was locked", "l2proxy unlock")
            present = self._actions.action_spec(spec.plugin, spec.name)
            if present is None or present.digest != spec.digest:
                raise Unauthorized("the plugin was changed or removed meanwhile")

        return Question(
            origin=origin,
            kind="invoke",
            summary=f"{spec.name} of plugin {spec.plugin}{'' if spec.approval == 'never' else cost}",
            digest=digest_of(
                {
                    "kind": "invoke",
                    "origin": str(origin),
                    "code": spec.digest,
                    "idempotencyKey": invocation.key,
                    **what,
                }
            ),
            facts=Facts(
                METHOD,
                plugin=spec.plugin,
                action=spec.name,
                asset=asset,
                value=amount,
                always_ask=spec.approval == "always",
            ),
            details={**what, "approval": spec.approval, "spends": spec.spends},
            quoted={name: _text(value) for name, value in invocation.params.items()},
            presence=context.presence,
            serving=context.serving,
            still_allowed=still_allowed,
        )


def amount_text(amount: int, asset: str | None) -> str:
    """Return an amount for a person: ether for ETH, else the smallest unit and the token's address."""
    if asset != "ETH":
        return f"{amount} of the smallest unit of token {asset}"
    whole, rest = divmod(amount, 10**18)
    fraction = f"{rest:018d}".rstrip("0")
    return f"{whole}.{fraction} ETH" if fraction else f"{whole} ETH"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2048 else f"{text[:2047]}…"
