"""`l2proxy doctor`: one line a finding, and what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from proxy.cli.session import FAILED, Failure, Session, session_options, table

MARKS = {"ok": "ok", "warn": "--", "fail": "!!"}


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings (TOML); else DIR/config.toml.")
@click.option(
    "--l1", metavar="URL|SOCKET", multiple=True, help="A node to look at instead of the config's; repeatable."
)
@session_options
def doctor(session: Session, config_file: Path | None, l1: tuple[str, ...]) -> None:
    """Check this machine, the data directory, the L1 nodes and the daemon; each finding says what to do.

    Exit code 1 when something must be mended (!!); what you should know (--) and what is well (ok) are 0.
    """
    rows = asyncio.run(_rows(session, config_file, l1))
    session.show(
        rows, lambda found: table(["", "check", "finding"], [line for row in found for line in _lines(row)], "")
    )
    broken = sum(row["level"] == "fail" for row in rows)
    if broken:
        things = "one thing must be mended" if broken == 1 else f"{broken} things must be mended"
        raise Failure(f"{things}; see the lines marked !!", FAILED)


async def _rows(session: Session, config_file: Path | None, urls: tuple[str, ...]) -> list[dict[str, Any]]:
    from proxy.app.doctor.examination import examine

    found = [asdict(finding) async for finding in examine(session.data, config_file, urls)]
    return [row | {"do": session.told(row["do"])} for row in found]


def _lines(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the line of a finding, and the line of what to do about it."""
    finding = (MARKS[row["level"]], row["check"], row["finding"])
    return [finding, ("", "", f"→ {row['do']}")] if row["do"] else [finding]
