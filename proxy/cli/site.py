"""`l2proxy site`: the web pages that may use this proxy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from proxy.cli.session import Session, session_options, table


@click.group()
def site() -> None:
    """Web pages that may use this proxy."""


@site.command("list")
@session_options
def list_(session: Session) -> None:
    """List the connected pages."""
    session.show(session.call("admin_siteList"), _rows)


@site.command()
@click.argument("origin")
@session_options
def connect(session: Session, origin: str) -> None:
    """Let a page read the chain through this proxy, and ask you for more.

    ORIGIN is scheme://host or scheme://host:port, as the browser shows it: https://app.example
    """
    answer = session.call("admin_siteConnect", {"origin": origin})
    session.show(answer, lambda done: f"{done['origin']} is connected")


@site.command()
@click.argument("origin")
@session_options
def disconnect(session: Session, origin: str) -> None:
    """Take everything from a page, with what it holds."""
    answer = session.call("admin_siteDisconnect", {"origin": origin})
    session.show(answer, lambda done: f"{done['origin']} is no longer connected")


def _rows(sites: list[dict[str, Any]]) -> Any:
    rows = [
        [entry["origin"], _date(entry["connected"]), ", ".join(entry["permissions"]) or "reads the chain"]
        for entry in sites
    ]
    return table(["Origin", "Since", "Holds"], rows, "no page is connected")


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
