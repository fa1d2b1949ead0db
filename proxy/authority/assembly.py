"""The parts of the authority, put together once: what `app` opens at start and hands to links, handlers and services."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from middleware.answers import AnswersLink
from middleware.approval import ApprovalLink
from middleware.budget import BudgetLink
from middleware.chain import Link
from middleware.errors import Unauthorized
from middleware.idempotency import IdempotencyLink, RecordingLink
from middleware.invocation import Actions, InvocationLink
from middleware.methods import MethodTable
from middleware.permission import PermissionLink, UnknownSites
from middleware.waist import Origin
from proxy.authority.approvals import Approvals
from proxy.authority.audit import AuditLog
from proxy.authority.budgets import Budgets
from proxy.authority.connecting import Doorkeeper
from proxy.authority.invocations import Invocations
from proxy.authority.ledger import Ledger
from proxy.authority.notices import Notices
from proxy.authority.origins import is_loopback
from proxy.authority.permissions import Permissions
from proxy.authority.rule_book import RuleBook
from proxy.authority.slots import Slots
from proxy.authority.tokens import Tokens
from proxy.config import LimitSettings
from proxy.storage import Database


@dataclass(frozen=True)
class Authority:
    """Who may do what, who decided, and where it is written down."""

    audit: AuditLog
    permissions: Permissions
    tokens: Tokens
    rules: RuleBook
    notices: Notices
    approvals: Approvals
    budgets: Budgets
    invocations: Invocations
    doorkeeper: Doorkeeper
    answers: AnswersLink

    def links(
        self,
        table: MethodTable,
        actions: Actions,
        locked: Callable[[], bool],
        unknown_sites: UnknownSites = "ask",
    ) -> list[Link]:
        """Return our links in the order that rpc.md, "Idempotency", prescribes; the terminal comes right behind."""
        return [
            PermissionLink(
                self.permissions, table, self.doorkeeper, locked, self.tokens.alive, is_loopback, unknown_sites
            ),
            self.answers,
            InvocationLink(actions),
            IdempotencyLink(self.invocations, actions),
            BudgetLink(self.budgets, actions),
            ApprovalLink(actions, self.approvals, self.budgets.covers, self.permissions.may_invoke, locked),
            RecordingLink(self.invocations),
        ]

    def locked(self) -> None:
        """Hear that the wallet was locked: what waits for the main accounts ends with 4100."""
        self.approvals.withdraw_for_lock(Unauthorized("the wallet was locked", "l2proxy unlock"))

    async def close(self) -> None:
        """Take back every question and end what waits for one."""
        await self.approvals.close()
        await self.answers.close()
        await self.audit.close()


def open_authority(
    owner: Database,
    chain: Database,
    data: Path,
    notice: Callable[[str], None],
    limits: LimitSettings | None = None,
    clock: Callable[[], float] = time.time,
) -> Authority:
    """Return the authority over the two databases of a data directory; `notice` prints one line for the owner."""
    limits = limits or LimitSettings()
    permissions = Permissions(owner.space("permissions"), owner.space("sites"), clock)
    tokens = Tokens(owner.space("tokens"), clock)
    audit = AuditLog(owner.space("audit"), clock)
    rules = RuleBook(owner.space("rules"), owner.space("rule uses"), clock)
    notices = Notices(notice, data)
    slots = Slots(permissions.is_connected, limits.questions, limits.questions_per_origin, clock)
    approvals = Approvals(audit, rules, slots, notices, limits.question_deadline, clock)
    budgets = Budgets(Ledger(chain.space("budgets"), clock), permissions, notices.refused)
    invocations = Invocations(chain.space("idempotency"), budgets, clock)

    def revoked(origin: Origin) -> None:
        approvals.withdraw_of(origin, Unauthorized(f"a permission of {origin} was revoked"))

    permissions.on_revoked(revoked)
    tokens.on_revoked(lambda name: _revoke_token(permissions, revoked, name))
    doorkeeper = Doorkeeper(permissions, approvals, notices)
    return Authority(
        audit, permissions, tokens, rules, notices, approvals, budgets, invocations, doorkeeper, AnswersLink()
    )


def _revoke_token(permissions: Permissions, revoked: Callable[[Origin], None], name: str) -> None:
    """Take what a revoked token held, so that a later token of its name begins with nothing."""
    origin = Origin.token(name)
    if not permissions.disconnect(origin):
        revoked(origin)
