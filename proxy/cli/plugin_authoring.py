"""`l2proxy plugin check`: is this directory a plugin that would install, and does its code do what its manifest says?

Runs without a daemon and without a data directory. The code is read in a plugin process with the limits of a real one,
never in this one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from proxy.cli.session import Failure, Session, session_options


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@session_options
def check(session: Session, directory: Path) -> None:
    """Say whether the plugin in DIRECTORY would install.

    Validates its manifest and compares the actions it declares with those of its code.
    """
    from middleware.methods import MethodClass, MethodTable
    from proxy.host.declarations import declared_by_code, differences
    from proxy.host.installer import check_package
    from proxy.wallet import paths

    table = MethodTable()

    def allowed(method: str) -> bool:
        return table.classify(method) is MethodClass.PASS and not method.startswith("eth_send")

    try:
        inspected = check_package(str(directory.absolute()), paths, allowed)
        found = asyncio.run(declared_by_code(inspected.folder, inspected.manifest))
    except ValueError as error:
        raise Failure(str(error)) from None
    wrong = differences(inspected.manifest, found)
    if wrong:
        raise Failure(f"{inspected.manifest.id}: " + "; ".join(wrong))
    shown: dict[str, Any] = {"id": inspected.manifest.id, "digest": inspected.digest, "actions": len(found)}
    session.show(shown, lambda value: f"{value['id']} would install: actions {value['actions']}, {value['digest']}")
