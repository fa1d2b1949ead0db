"""`l2proxy plugin remove`: what becomes of the plugin's store is the owner's word, and asked on a terminal (plugin.md).

The store may be the only way to what is locked on L1, so that it is kept wherever nobody says otherwise, and always while
something is locked (hardening.md 26).
"""

from __future__ import annotations

from typing import Any

import click

from middleware.amounts import ether
from proxy.cli.plugin_shown import terminal
from proxy.cli.session import Session, printable, session_options


@click.command()
@click.argument("id")
@click.option("--delete-store", is_flag=True, help="Delete its data as well; refused while something is locked on L1.")
@click.option("--keep-store", is_flag=True, help="Keep its data without being asked (as where there is no terminal).")
@click.option("--release", is_flag=True, help="Let another source take its id and key path.")
@session_options
def remove(session: Session, id: str, delete_store: bool, keep_store: bool, release: bool) -> None:  # noqa: A002
    """Stop a plugin, revoke every permission for it, and forget it.

    On a terminal you are asked what becomes of its store; else it is kept. It is found again when the same source is added.
    """
    if delete_store and keep_store:
        raise click.UsageError("--delete-store and --keep-store cannot both be")
    if not delete_store and not keep_store and not release and not session.json and terminal():
        delete_store = _asked(session.call("admin_pluginRemove", {"id": id, "look": True}))
    params = {"id": id, "deleteStore": delete_store, "release": release}
    removed = session.call("admin_pluginRemove", params)
    session.show(removed, lambda value: f"{value['id']} is removed; its store is {value['store']}")


def _asked(found: dict[str, Any]) -> bool:
    """Ask the owner; return whether the store goes too. Aborts where the plugin shall stay."""
    for row in found["locked"]:
        click.echo(printable(f"  gateway {row['gateway']}: {_amount(row)} (by {row['source']})"))
    if found["locked"] or found["paidIn"]:
        click.echo("  Something of yours is still locked on L1, and its store may be the only way to it: it is kept.")
        click.confirm("Remove the plugin and keep its store?", abort=True)
        return False
    if not found["known"]:
        click.echo(
            "  No daemon runs, so that nobody can say whether something is still locked on L1: its store is kept."
        )
        click.confirm("Remove the plugin and keep its store?", abort=True)
        return False
    kept, gone = "keep", "delete"
    answer = click.prompt("Nothing is locked on L1. Its store", type=click.Choice([kept, gone]), default=kept)
    return bool(answer == gone)


def _amount(row: dict[str, Any]) -> str:
    locked, pending = int(row["locked"], 16), int(row["pending"], 16)
    if row["asset"] == "ETH":
        return f"{ether(locked)} locked, {ether(pending)} on the way"
    return f"{locked} units of token {row['asset']} locked, {pending} on the way"
