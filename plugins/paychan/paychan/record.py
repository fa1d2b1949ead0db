"""What the plugin must never forget about a channel, and what follows from it: balances.

One record, written whole in one atomic batch before any signature it led to leaves the process. All amounts are wei;
`sent` and `received` are cumulative since the channel opened.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

RECENT = 20  # payments shown in the state


@dataclass
class Pending:
    """A payment whose outcome the hub has not told yet. Its voucher may have left at any time."""

    nonce: int
    amount: int
    to: str
    value: int
    order: str
    key: str | None = None


@dataclass
class Received:
    """The hub's newest voucher for us."""

    nonce: int
    amount: int
    order: str
    signature: str


@dataclass
class Authorised:
    """The hub's consent to take money out, until it is executed or expires. `taken`: by sender, what this one takes."""

    total: int
    deadline: int
    signature: str
    sender: str
    amount: int
    operation: str | None = None
    idle: bool = False  # the owner refused, or the transaction failed: it may be proposed again


@dataclass
class Final:
    """An agreed close. From the moment it is written nothing is paid any more."""

    sent: int
    received: int
    user_signature: str | None = None
    hub_signature: str | None = None
    operation: str | None = None


@dataclass
class Record:
    """Everything about one channel."""

    channel: str
    signer: str
    signer_path: str
    session: str | None = None
    sent_nonce: int = 0
    sent_amount: int = 0
    pending: Pending | None = None
    received: Received | None = None
    authorised: Authorised | None = None
    final: Final | None = None
    closing_operation: str | None = None
    answered: int = 0  # received amount we last presented in a close
    recent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def received_amount(self) -> int:
        """Everything the hub ever promised us."""
        return self.received.amount if self.received else 0

    @property
    def received_nonce(self) -> int:
        """The nonce of the hub's newest voucher."""
        return self.received.nonce if self.received else 0

    def spendable(self, user_in: int, user_out: int) -> int:
        """Return what can be paid or taken out; a pending payment counts as paid, a consent as executed."""
        out = max(user_out, self.authorised.total if self.authorised else 0)
        waiting = self.pending.value if self.pending else 0
        return user_in + self.received_amount - self.sent_amount - waiting - out

    def covered(self, amount: int, hub_in: int) -> bool:
        """Whether the hub's part of the channel covers a promise of `amount` in all."""
        waiting = self.pending.value if self.pending else 0
        return amount <= hub_in + self.sent_amount + waiting

    def show(self, entry: dict[str, Any]) -> None:
        """Add a payment to the recent ones."""
        self.recent = [*self.recent, entry][-RECENT:]

    def to_text(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Record:
        """Read the stored form."""
        row = json.loads(text)
        parts: dict[str, Any] = {"pending": Pending, "received": Received, "authorised": Authorised, "final": Final}
        for name, kind in parts.items():
            if row[name] is not None:
                row[name] = kind(**row[name])
        return cls(**row)
