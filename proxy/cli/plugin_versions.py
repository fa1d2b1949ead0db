"""`l2proxy plugin update` and `rollback`: another version, shown with what it changes before it is taken (hardening.md 25)."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.plugin_shown import PURPOSE, absolute, shown, terminal
from proxy.cli.session import A_FILE, Session, printable, session_options


@click.command()
@click.argument("id")
@click.argument("source", type=A_FILE, required=False)
@click.option(
    "--sha256", metavar="HEX", help="Digest of the archive, wheel or tarball; like #sha256=HEX behind SOURCE."
)
@click.option("--hub", metavar="URL", help="Another hub than the manifest's; needed for private addresses.")
@click.option("--gateway", "gateways", metavar="[NAME:]CHAIN=ADDRESS", multiple=True, help="Another gateway address.")
@click.option(
    "--grant", "grants", metavar="all|NAME,…", multiple=True, help="What it may have that is new or means more."
)
@click.option(
    "--yes", is_flag=True, help="Take it without being asked, as with --grant and where there is no terminal."
)
@session_options
def update(
    session: Session,
    id: str,  # noqa: A002
    source: str | None,
    sha256: str | None,
    hub: str | None,
    gateways: tuple[str, ...],
    grants: tuple[str, ...],
    yes: bool,
) -> None:
    """Take another version of a plugin, from SOURCE or (a directory) from where it came.

    Its store is kept and a snapshot of it taken. What is new or means more than before is granted only if you say so;
    actions that changed lose what sites and rules had for them. Naming the version is taking it: a terminal asks once more.
    """
    chosen = [name.strip() for text in grants for name in text.split(",") if name.strip()]
    params: dict[str, Any] = {"id": id, "hub": hub, "gateways": list(gateways), "grants": chosen}
    if source is not None:
        params["source"] = absolute(source, sha256)
    found = session.call("admin_pluginUpdate", params)
    if not session.json:
        click.echo(shown(found, None, hub, gateways))
        click.echo(_changes(found))
    if terminal() and not (yes or chosen or session.json):
        asked = [name for name in found["asksAgain"] if name not in found["grants"]]
        params["grants"] = chosen + [name for name in asked if click.confirm(f"Allow it to {PURPOSE[name]}? [{name}]")]
        click.confirm("Take this version?", abort=True)
    taken = session.call("admin_pluginUpdate", {**params, "source": found["source"], "digest": found["digest"]})
    session.show(
        taken,
        lambda value: f"{value['id']} is {value['version']} now; `l2proxy plugin rollback {value['id']}` undoes it",
    )


@click.command()
@click.argument("id")
@click.option("--store", is_flag=True, help="Put back its data of then as well; the data of now is kept beside it.")
@click.option("--yes", is_flag=True, help="Go back without being asked, as where there is no terminal.")
@session_options
def rollback(session: Session, id: str, store: bool, yes: bool) -> None:  # noqa: A002
    """Go back to the version before the last update.

    Its store stays as it is now, unless --store: then it does not sign with its own keys until it has resynchronised.
    It keeps only what both versions were granted.
    """
    found = session.call("admin_pluginRollback", {"id": id, "store": store})
    if not session.json:
        click.echo(printable(f"  source   {found['source']}"))
        click.echo(printable(f"  digest   {found['digest']}"))
        click.echo(_changes(found))
    if terminal() and not (yes or session.json):
        click.confirm("Go back to this version?", abort=True)
    taken = session.call("admin_pluginRollback", {"id": id, "store": store, "digest": found["digest"]})
    session.show(taken, lambda value: f"{value['id']} is {value['version']} again")


def _changes(found: dict[str, Any]) -> str:
    lines = [f"  changes  {sentence}" for sentence in found["changes"]]
    lines.append(f"  keeps    {', '.join(found['grants']) or 'no grant'}")
    if missing := [name for name in found["asksAgain"] if name not in found["grants"]]:
        lines.append(f"  not granted unless you name it: {', '.join(missing)}")
    return "\n".join(printable(line) for line in lines)
