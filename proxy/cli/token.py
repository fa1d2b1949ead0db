"""`l2proxy token`: named bearer tokens for programs. The text of a token is shown once and kept nowhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from proxy.cli.scope import PluginScope
from proxy.cli.session import Session, session_options, table


@click.group()
def token() -> None:
    """Named bearer tokens for programs."""


@token.command()
@click.argument("name")
@click.option(
    "--allow-plugin", "plugins", multiple=True, type=PluginScope(), help="ID alone: its state and all actions."
)
@click.option("--accounts", type=click.IntRange(0, 10_000), default=0, help="Let it use the first N accounts.")
@click.option("--origin", help="The one page that may use it; without, programs that send no Origin.")
@click.option(
    "--expires", type=click.IntRange(1, 10**10), metavar="SECONDS", help="Let it end after this many seconds."
)
@session_options
def new(
    session: Session,
    name: str,
    plugins: tuple[dict[str, Any], ...],
    accounts: int,
    origin: str | None,
    expires: int | None,
) -> None:
    """Make a token; without flags it may only call what is passed through to the L1 node.

    Put the URL where a library takes an RPC URL, or send the token as `Authorization: Bearer …`.
    """
    params = {"name": name, "allowPlugins": list(plugins), "accounts": accounts, "origin": origin, "expires": expires}
    session.show(session.call("admin_tokenNew", params), _made)


@token.command("list")
@session_options
def list_(session: Session) -> None:
    """List the tokens, never their text."""
    session.show(session.call("admin_tokenList"), _rows)


@token.command()
@click.argument("name")
@session_options
def revoke(session: Session, name: str) -> None:
    """Take a token back, at once."""
    session.show(session.call("admin_tokenRevoke", {"name": name}), lambda done: f"token {done['name']} is revoked")


def _made(made: dict[str, Any]) -> str:
    return f"token {made['name']}, shown this once:\n\n  {made['token']}\n  {made['url']}\n"


def _rows(tokens: list[dict[str, Any]]) -> Any:
    rows = [
        [
            entry["name"],
            entry["origin"] or "programs",
            "expired" if entry["expired"] else _date(entry["expires"]),
            ", ".join(held["parentCapability"] for held in entry["permissions"]) or "reads the chain",
        ]
        for entry in tokens
    ]
    return table(["Name", "Used by", "Until", "Holds"], rows, "there are no tokens")


def _date(seconds: int | None) -> str:
    return "you revoke it" if seconds is None else f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
