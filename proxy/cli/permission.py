"""`l2proxy permission`: what sites, programs and the socket may do."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.scope import PluginScope, permission_lines
from proxy.cli.session import Session, printable, session_options


@click.group()
def permission() -> None:
    """What sites and tokens may do."""


@permission.command("list")
@session_options
def list_(session: Session) -> None:
    """List every permission that is held."""
    session.show(session.call("admin_permissionList"), _rows)


@permission.command()
@click.argument("origin")
@click.option(
    "--allow-plugin", "plugins", multiple=True, type=PluginScope(), help="ID alone: its state and all actions."
)
@click.option("--accounts", type=click.IntRange(0, 10_000), default=0, help="Let it use the first N accounts.")
@session_options
def grant(session: Session, origin: str, plugins: tuple[dict[str, Any], ...], accounts: int) -> None:
    """Grant without being asked: ORIGIN is a page, `socket`, or token:NAME.

    Payments still need a budget, a rule or your approval.
    """
    params = {"origin": origin, "allowPlugins": list(plugins), "accounts": accounts}
    session.show(session.call("admin_permissionGrant", params), _rows)


@permission.command()
@click.argument("target", metavar="ORIGIN|ID")
@click.option("--capability", metavar="NAME", help="eth_accounts, l2_invoke or l2_getState; else all of them.")
@click.option("--plugin", metavar="PLUGIN", help="Only what concerns this plugin.")
@session_options
def revoke(session: Session, target: str, capability: str | None, plugin: str | None) -> None:
    """Take a permission back, from the very next call on.

    Names one permission by the ID that `permission list` shows, or all of an origin.
    """
    answer = session.call("admin_permissionRevoke", {"target": target, "capability": capability, "plugin": plugin})
    session.show(answer, lambda done: f"revoked; {done['origin']} holds {len(done['left'])} permissions now")


def _rows(held: list[dict[str, Any]]) -> str:
    return "\n".join(printable(line) for line in permission_lines(held)) or "nobody holds a permission"
