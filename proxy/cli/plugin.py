"""`l2proxy plugin`: add, list, info, logs, set-owner, set-cap; `update` and `rollback` stand in `plugin_versions`, `remove` in
`plugin_removing`, what authors need in `plugin_authoring`.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import click

from proxy.cli.plugin_authoring import check, pack_, test
from proxy.cli.plugin_removing import remove
from proxy.cli.plugin_shown import PURPOSE, absolute, shown, terminal
from proxy.cli.plugin_starting import new
from proxy.cli.plugin_versions import rollback, update
from proxy.cli.session import A_FILE, USAGE, Failure, Session, printable, session_options, table

FOLLOW_EVERY = 0.5  # seconds between two looks at a log


@click.group()
def plugin() -> None:
    """Layer-2 plugins: third-party code that runs in a process of its own."""


for _command in (check, update, rollback, remove, new, test, pack_):
    plugin.add_command(_command)


@plugin.command()
@click.argument("source", type=A_FILE)
@click.option(
    "--sha256", metavar="HEX", help="Digest of the archive, wheel or tarball; like #sha256=HEX behind SOURCE."
)
@click.option("--owner", metavar="ADDRESS", help="Main account it acts for (default: the first).")
@click.option("--hub", metavar="URL", help="Another hub than the manifest's; needed for private addresses.")
@click.option("--gateway", "gateways", metavar="[NAME:]CHAIN=ADDRESS", multiple=True, help="Another gateway address.")
@click.option("--grant", "grants", metavar="all|NAME,…", multiple=True, help="What it may have of what it asks for.")
@session_options
def add(
    session: Session,
    source: str,
    sha256: str | None,
    owner: str | None,
    hub: str | None,
    gateways: tuple[str, ...],
    grants: tuple[str, ...],
) -> None:
    """Install the plugin SOURCE: a directory, an archive with its sha256, pypi:NAME==VERSION or npm:NAME@VERSION.

    Shows what it asks for and, without --grant, asks you about each. `all` leaves out keys.export, transfer and
    eth_sendRawTransaction, which must be named. No code of the package runs before it is installed.
    """
    if not grants and not terminal():
        raise Failure("say --grant all or --grant NAME,… (there is no terminal to ask on)", USAGE)
    chosen = [name.strip() for text in grants for name in text.split(",") if name.strip()]
    params: dict[str, Any] = {"owner": owner, "hub": hub, "gateways": list(gateways)}
    found = session.call("admin_pluginInspect", {"source": absolute(source, sha256), "grants": chosen, **params})
    if not session.json:
        click.echo(shown(found, owner, hub, gateways))
    if not grants:
        chosen = [name for name in found["requests"] if click.confirm(f"Allow it to {PURPOSE[name]}? [{name}]")]
    params |= {"source": found["source"], "digest": found["digest"], "grants": chosen}
    added = session.call("admin_pluginAdd", params)
    session.show(added, lambda value: f"{value['id']} {value['version']} is installed for {value['owner']}")


@plugin.command("list")
@session_options
def list_(session: Session) -> None:
    """Show the installed plugins and what they are doing."""

    def told(rows: list[dict[str, Any]]) -> Any:
        cells = [(row["id"], row["version"], row["status"], row["owner"], row.get("why", "")) for row in rows]
        return table(
            ("id", "version", "status", "owner", ""), cells, "no plugin is installed; `l2proxy plugin add DIR`"
        )

    session.show(session.call("admin_pluginList"), told)


@plugin.command()
@click.argument("id")
@session_options
def info(session: Session, id: str) -> None:  # noqa: A002 - the argument's name on the command line
    """Show everything about one plugin."""
    session.show(session.call("admin_pluginInfo", {"id": id}), _told)


@plugin.command("set-owner")
@click.argument("id")
@click.argument("address")
@session_options
def set_owner(session: Session, id: str, address: str) -> None:  # noqa: A002
    """Have a plugin act for another main account."""
    changed = session.call("admin_pluginSetOwner", {"id": id, "owner": address})
    session.show(changed, lambda value: f"{value['id']} acts for {value['owner']}")


def _cap(amount: str, asset: str) -> str:
    """Return a cap for people; who took wei for ETH sees it here."""
    from middleware.approval import amount_text

    return f"{amount} of {asset}" + (f", in wei: {amount_text(int(amount), asset)}" if asset == "ETH" else "")


@plugin.command("set-cap")
@click.argument("id")
@click.argument("asset")
@click.argument("amount")
@session_options
def set_cap(session: Session, id: str, asset: str, amount: str) -> None:  # noqa: A002
    """Bound what of ASSET (ETH or a token's address) may be inside a plugin's gateways.

    AMOUNT is in the asset's smallest unit, for ETH in wei; `none` takes the bound away. What is inside already stays there.
    """
    if amount != "none" and not (amount.isascii() and amount.isdigit() and len(amount) <= 78):
        raise Failure(f"AMOUNT is a decimal number of the smallest unit, or none; not {printable(amount)}", USAGE)
    params = {"id": id, "asset": asset, "amount": None if amount == "none" else amount}
    changed = session.call("admin_pluginSetCap", params)
    caps = ", ".join(_cap(amount, asset) for asset, amount in changed["caps"].items()) or "without a cap"
    session.show(changed, lambda value: f"deposits of {value['id']} may come to: {caps}")


@plugin.command()
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Go on with what it says from now on.")
@click.option(
    "--lines", "-n", type=click.IntRange(1, 10_000), default=200, show_default=True, help="How many, the newest."
)
@session_options
def logs(session: Session, id: str, follow: bool, lines: int) -> None:  # noqa: A002
    """Show what a plugin said."""
    found = session.call("admin_pluginLogs", {"id": id, "limit": lines})
    if session.json and not follow:
        session.show(found["lines"])
        return
    _print(session, found["lines"])
    with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
        while follow:
            time.sleep(FOLLOW_EVERY)
            found = session.call("admin_pluginLogs", {"id": id, "after": found["cursor"], "limit": 10_000})
            _print(session, found["lines"])


def _print(session: Session, lines: list[str]) -> None:
    for line in lines:
        click.echo(json.dumps(line, ensure_ascii=False) if session.json else printable(line))


def _told(value: dict[str, Any]) -> str:
    lines = []
    for name, part in value.items():
        if isinstance(part, list | dict):
            text = json.dumps(part, ensure_ascii=False)
        else:
            # A sandbox of "none" is one that is missing; of a process that has not started nothing is known yet.
            text = {"sandbox": "-"}.get(name, "none") if part is None else str(part)
        lines.append(printable(f"{name:12} {text}"))
    return "\n".join(lines)
