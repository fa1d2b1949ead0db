"""`l2proxy audit`: the record of everything decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from proxy.cli.session import Session, session_options, table


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


def _rows(entries: list[dict[str, Any]]) -> Any:
    return table(
        ["N", "When", "Event", "Who decided", "What"], [_row(entry) for entry in entries], "nothing was decided yet"
    )


def _row(entry: dict[str, Any]) -> list[str]:
    when = f"{datetime.fromtimestamp(entry['time']).astimezone():%Y-%m-%d %H:%M:%S}"
    decided = f"{entry.get('decision', '')} {entry['event']}".strip()
    source = " ".join(str(entry[name]) for name in ("source", "id") if name in entry)
    known = ("n", "time", "previous", "hash", "event", "decision", "source", "id", "digest")
    what = entry.get("summary") or ", ".join(f"{name} {value}" for name, value in entry.items() if name not in known)
    return [str(entry["n"]), when, decided, source, what]
