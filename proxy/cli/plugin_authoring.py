"""`l2proxy plugin check`: is this directory a plugin that would install, and does its code do what its manifest says?

Runs without a daemon and without a data directory. The code is read in a plugin process with the limits of a real one,
never in this one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.session import Failure, Session, session_options

if TYPE_CHECKING:
    from proxy.host.inspection import Inspected
    from proxy.host.manifest import Action


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@session_options
def check(session: Session, directory: Path) -> None:
    """Say whether the plugin in DIRECTORY would install.

    Validates its manifest and compares the actions it declares with those of its code.
    """
    from proxy.host.declarations import differences

    inspected, found = asyncio.run(_read(directory.absolute()))
    wrong = differences(inspected.manifest, found)
    if wrong:
        raise Failure(f"{inspected.manifest.id}: " + "; ".join(wrong))
    shown: dict[str, Any] = {"id": inspected.manifest.id, "digest": inspected.digest, "actions": len(found)}
    session.show(shown, lambda value: f"{value['id']} would install: actions {value['actions']}, {value['digest']}")


async def _read(directory: Path) -> tuple[Inspected, list[Action]]:
    """Return the plugin as it would be installed, and the actions its code declares. Raises Failure."""
    from middleware.methods import MethodClass, MethodTable
    from proxy.host.declarations import declared_by_code
    from proxy.host.indexes import Indexes
    from proxy.host.inspection import inspect_source, laid_out
    from proxy.wallet import paths

    table = MethodTable()

    def allowed(method: str) -> bool:
        return table.classify(method) is MethodClass.PASS and not method.startswith("eth_send")

    try:
        inspected = await inspect_source(str(directory), paths, allowed, Indexes())
        with laid_out(inspected.files) as folder:
            return inspected, await declared_by_code(folder, inspected.manifest)
    except ValueError as error:
        raise Failure(str(error)) from None
