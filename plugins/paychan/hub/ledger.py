"""The hub's book on disk: channels as L1 shows them, the vouchers both ways, payments, withdrawals, closes.

SQLite with synchronous=FULL: what a transaction of this file has written is on disk before any message about it leaves.
Amounts are stored as decimal text, since wei exceed 64 bits. Nothing here decides; `book.py` does.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .contract import OnChain

_SCHEMA = """
create table if not exists facts (name text primary key, value text not null);
create table if not exists channels (
  id text primary key, owner text not null, signer text not null, status text not null, closes_at text not null,
  user_in text not null, hub_in text not null, user_out text not null, sent text not null, received text not null);
create index if not exists channels_by_owner on channels (owner);
create table if not exists sides (
  channel text primary key, session text,
  sent_nonce integer not null default 0, sent_amount text not null default '0', sent_order text, sent_signature text,
  received_nonce integer not null default 0, received_amount text not null default '0', received_order text,
  received_signature text, credited_nonce integer not null default 0,
  authorised text not null default '0', deadline integer not null default 0, authorised_signature text,
  final_sent text, final_received text, final_user text, final_hub text, final_time integer not null default 0);
create table if not exists payments (
  channel text not null, nonce integer not null, amount text not null, recipient text not null, value text not null,
  signature text not null, outcome text not null, reason text not null, primary key (channel, nonce));
create table if not exists credits (
  channel text not null, nonce integer not null, amount text not null, "order" text not null, signature text not null,
  sender text not null, value text not null, kind text not null, primary key (channel, nonce));
create table if not exists evidence (
  channel text not null, nonce integer not null, amount text not null, "order" text not null, signature text not null,
  primary key (channel, nonce, amount, "order"));
"""


@dataclass(frozen=True)
class Voucher:
    """A cumulative promise with its signature; bytes fields are 0x data."""

    nonce: int
    amount: int
    order: str
    signature: str

    def to_json(self) -> dict[str, Any]:
        """Return the form in which it travels."""
        return {"nonce": self.nonce, "amount": str(self.amount), "order": self.order, "signature": self.signature}


@dataclass(frozen=True)
class Side:
    """What a user and the hub have promised each other in one channel."""

    channel: str
    session: str | None
    sent_nonce: int
    sent_amount: int
    sent_order: str | None
    sent_signature: str | None
    received_nonce: int
    received_amount: int
    received_order: str | None
    received_signature: str | None
    credited_nonce: int
    authorised: int
    deadline: int
    authorised_signature: str | None
    final_sent: str | None
    final_received: str | None
    final_user: str | None
    final_hub: str | None
    final_time: int

    @property
    def sent(self) -> Voucher | None:
        """The user's newest voucher."""
        if self.sent_order is None or self.sent_signature is None:
            return None
        return Voucher(self.sent_nonce, self.sent_amount, self.sent_order, self.sent_signature)

    @property
    def received(self) -> Voucher | None:
        """The hub's newest voucher for the user."""
        if self.received_order is None or self.received_signature is None:
            return None
        return Voucher(self.received_nonce, self.received_amount, self.received_order, self.received_signature)


_AMOUNTS = {"sent_amount", "received_amount", "authorised"}
_SIDE_FIELDS = tuple(field.name for field in fields(Side))


class Ledger:
    """The database of one hub. Not to be shared between processes: opening takes an exclusive lock."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma locking_mode=exclusive")
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written together and synced, or not at all."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def fact(self, name: str) -> str | None:
        """Return a remembered value."""
        row = self._db.execute("select value from facts where name = ?", (name,)).fetchone()
        return None if row is None else str(row["value"])

    def remember(self, name: str, value: str) -> None:
        """Remember a value."""
        self._db.execute("insert or replace into facts values (?, ?)", (name, value))

    def put_channel(self, channel: str, seen: OnChain) -> None:
        """Record a channel as L1 shows it."""
        amounts = (seen.user_in, seen.hub_in, seen.user_out, seen.sent, seen.received)
        row = (channel, seen.owner.lower(), seen.signer.lower(), seen.status, str(seen.closes_at), *map(str, amounts))
        self._db.execute("insert or replace into channels values (?,?,?,?,?,?,?,?,?,?)", row)
        self._db.execute("insert or ignore into sides (channel) values (?)", (channel,))

    def channel(self, channel: str) -> OnChain | None:
        """Return a channel as last recorded."""
        return _on_chain(self._db.execute("select * from channels where id = ?", (channel,)).fetchone())

    def channels_in(self, status: str) -> list[str]:
        """Return the ids of channels in a status."""
        rows = self._db.execute("select id from channels where status = ?", (status,))
        return [row["id"] for row in rows]

    def channels_of(self, owner: str) -> list[str]:
        """Return the ids of an owner's channels that are not closed."""
        query = "select id from channels where owner = ? and status != 'closed'"
        return [row["id"] for row in self._db.execute(query, (owner.lower(),))]

    def side(self, channel: str) -> Side:
        """Return the promises of a channel. Raises KeyError for an unknown one."""
        row = self._db.execute("select * from sides where channel = ?", (channel,)).fetchone()
        if row is None:
            raise KeyError(channel)
        values: dict[str, Any] = {name: int(row[name]) if name in _AMOUNTS else row[name] for name in _SIDE_FIELDS}
        return Side(**values)

    def change(self, side: Side, **changes: Any) -> Side:
        """Write changed fields of a side; return it changed."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        values = [str(value) if name in _AMOUNTS else value for name, value in changes.items()]
        self._db.execute(f"update sides set {columns} where channel = ?", (*values, side.channel))  # noqa: S608 - our names
        return replace(side, **changes)

    def put_payment(self, channel: str, voucher: Voucher, to: str, value: int, outcome: str, reason: str) -> None:
        """Record what became of a user's voucher."""
        row = (channel, voucher.nonce, str(voucher.amount), to, str(value), voucher.signature, outcome, reason)
        self._db.execute("insert into payments values (?,?,?,?,?,?,?,?)", row)

    def payment(self, channel: str, nonce: int) -> dict[str, Any] | None:
        """Return the record of a payment."""
        row = self._db.execute("select * from payments where channel = ? and nonce = ?", (channel, nonce)).fetchone()
        return None if row is None else dict(row)

    def put_credit(self, channel: str, voucher: Voucher, sender: str, value: int, kind: str) -> None:
        """Record a voucher of the hub for a user."""
        row = (channel, voucher.nonce, str(voucher.amount), voucher.order, voucher.signature, sender, str(value), kind)
        self._db.execute("insert into credits values (?,?,?,?,?,?,?,?)", row)

    def credits_after(self, channel: str, nonce: int, limit: int) -> list[dict[str, Any]]:
        """Return credits with a higher nonce, oldest first."""
        query = "select * from credits where channel = ? and nonce > ? order by nonce limit ?"
        return [dict(row) for row in self._db.execute(query, (channel, nonce, limit))]

    def keep_evidence(self, channel: str, voucher: Voucher) -> None:
        """Keep a second, different voucher at a nonce that was used: proof that its signer broke the rules."""
        row = (channel, voucher.nonce, str(voucher.amount), voucher.order, voucher.signature)
        self._db.execute("insert or ignore into evidence values (?,?,?,?,?)", row)


def _on_chain(row: sqlite3.Row | None) -> OnChain | None:
    if row is None:
        return None
    amounts = [int(row[name]) for name in ("user_in", "hub_in", "user_out", "sent", "received")]
    return OnChain(row["owner"], row["status"], int(row["closes_at"]), row["signer"], *amounts)
