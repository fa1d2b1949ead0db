"""How a page becomes known to the owner: one "connect this site?" question nobody waits for, and lines about refusals."""

from __future__ import annotations

from middleware.errors import AlreadyPending, LimitExceeded
from middleware.questions import Facts, Question, digest_of
from middleware.waist import Origin
from proxy.authority.approvals import Approvals
from proxy.authority.notices import Notices
from proxy.authority.permissions import Permissions


class Doorkeeper:
    """What the permission link needs of the owner."""

    def __init__(self, permissions: Permissions, approvals: Approvals, notices: Notices) -> None:
        self._permissions, self._approvals, self._notices = permissions, approvals, notices

    def ask_to_connect(self, origin: Origin) -> bool:
        """Put one question in the queue, unless something of this page waits there or there is no slot; tell whether."""
        if any(opened.question.origin == origin for opened in self._approvals.list()):
            return False
        question = Question(
            origin=origin,
            kind="connect",
            summary=f"connect {origin}: it may then read the chain through this proxy, and ask for more",
            digest=digest_of({"kind": "connect", "origin": str(origin)}),
            facts=Facts("connect", always_ask=True),
            apply=lambda _: self._permissions.connect(origin),
        )
        try:
            self._approvals.post(question)
        except (AlreadyPending, LimitExceeded):
            return False  # the page is answered 4100 either way; the owner has enough to read
        return True

    def refused(self, origin: Origin, method: str, reason: str, grant: tuple[str, ...]) -> None:
        """Print a line about a refusal."""
        self._notices.refused(origin, method, reason, grant)
