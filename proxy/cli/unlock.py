"""`l2proxy unlock` and `l2proxy lock`: the main accounts of a running daemon."""

from __future__ import annotations

import click

from proxy.cli.passwords import password
from proxy.cli.session import A_FILE, Failure, Session, session_options


@click.command()
@click.option("--password-file", metavar="F", type=A_FILE, help="Password of the keystore (- for standard input).")
@session_options
def unlock(session: Session, password_file: str | None) -> None:
    """Unlock the accounts of a running daemon. Unlocking is not approving: every use is still asked."""
    if not session.call("admin_accountList", live=True):  # no password is asked for in vain
        raise Failure(session.told("there are no accounts yet; `l2proxy init` makes them"))
    answer = session.call("admin_unlock", {"password": password(password_file)}, live=True)
    session.show(answer, lambda value: f"unlocked: {', '.join(value['accounts'])}")


@click.command()
@session_options
def lock(session: Session) -> None:
    """Drop the main accounts' keys from the daemon's memory, now."""
    session.show(session.call("admin_lock", live=True), lambda _: "locked")
