"""`l2proxy audit`: the record of everything decided."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from proxy.cli.session import Session, printable, session_options


@click.group()
def audit() -> None:
    """The record of everything decided."""


@audit.command()
@click.option(
    "--head", is_flag=True, help="Print the newest entry's number and hash: keep it, `verify` holds the log to it."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="How many entries, the newest ones.")
@session_options
def show(session: Session, head: bool, limit: int) -> None:
    """Show what was decided, by whom, and the digest of what it was about."""
    if head:
        session.show(session.call("admin_auditHead"), lambda seen: str(seen["head"]))
        return
    session.show(session.call("admin_auditShow", {"limit": limit}), _rows)


@audit.command()
@click.option("--head", metavar="NUMBER:HASH", help="A head that was shown before: the log must lead through it.")
@session_options
def verify(session: Session, head: str | None) -> None:
    """Check that no entry was changed or removed."""
    answer = session.call("admin_auditVerify", {"head": head})
    session.show(answer, lambda seen: f"{seen['entries']} entries, none changed ({seen['head']})")


def _rows(entries: list[dict[str, Any]]) -> str:
    return "\n".join(printable(_line(entry)) for entry in entries) or "nothing was decided yet"


def _line(entry: dict[str, Any]) -> str:
    """Return one entry as a line: number, time, what happened, who decided, about whom and what."""
    when = f"{datetime.fromtimestamp(entry['time']).astimezone():%Y-%m-%d %H:%M:%S}"
    event = f"{entry['kind']} {entry['decision']}ed" if "decision" in entry else entry["event"]
    by = " ".join(str(entry[name]) for name in ("source", "id") if name in entry)
    known = (
        "n",
        "time",
        "previous",
        "hash",
        "event",
        "decision",
        "kind",
        "source",
        "id",
        "digest",
        "origin",
        "summary",
        "method",
    )
    rest = ", ".join(f"{name} {_text(value)}" for name, value in entry.items() if name not in known)
    about = ": ".join(part for part in (entry.get("origin", ""), entry.get("summary", ""), rest) if part)
    return f"{entry['n']:>6}  {when}  {event} by {by}" + (f" — {about}" if about else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
