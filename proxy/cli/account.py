"""`l2proxy account`: list, new, import, export of the owner's main accounts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from proxy.cli.passwords import password
from proxy.cli.session import A_FILE, Failure, Session, session_options, table

MAX_KEY_FILE = 64 * 1024  # characters

_PASSWORD = click.option(
    "--password-file", metavar="F", type=A_FILE, help="Password of the keystore (- for standard input)."
)


@click.group()
def account() -> None:
    """The owner's main accounts."""


@account.command("list")
@session_options
def list_(session: Session) -> None:
    """Show the accounts, with their balances while a daemon runs."""
    from middleware.amounts import ether

    def told(accounts: list[dict[str, Any]]) -> Any:
        rows = [
            (
                entry["address"],
                f"m/44'/60'/0'/0/{entry['index']}" if entry["index"] is not None else "imported",
                ether(int(entry["balance"], 16)) if entry["balance"] is not None else "unknown (no node)",
            )
            for entry in accounts
        ]
        return table(("address", "path", "balance"), rows, "no accounts; `l2proxy init` makes the first")

    session.show(session.call("admin_accountList"), told)


@account.command()
@_PASSWORD
@session_options
def new(session: Session, password_file: str | None) -> None:
    """Add the phrase's next account."""
    made = session.call("admin_accountNew", {"password": password(password_file)})
    session.show(made, lambda value: f"account {value['index']} is {value['address']}")


@account.command("import")
@click.argument("file", type=A_FILE)
@_PASSWORD
@click.option(
    "--key-password-file", metavar="F", type=A_FILE, help="Password of the V3 file, where it has one of its own."
)
@session_options
def import_(session: Session, file: str, password_file: str | None, key_password_file: str | None) -> None:
    """Add the key in FILE (- for standard input): V3 keystore JSON, or 64 hex digits."""
    if file == "-" and "-" in (password_file, key_password_file):
        raise click.UsageError("the key and a password cannot both come from standard input")
    text = _key_text(file)
    params = {"file": text, "password": password(password_file, "password of the keystore")}
    if text.lstrip().startswith("{"):
        params["filePassword"] = password(key_password_file, "password of the key file", option="--key-password-file")
    session.show(session.call("admin_accountImport", params), lambda value: f"imported {value['address']}")


@account.command()
@click.argument("address")
@click.option("--out", metavar="F", type=A_FILE, required=True, help="The new file (0600); - for standard output.")
@_PASSWORD
@click.option(
    "--export-password-file", metavar="F", type=A_FILE, help="Password of the file; without it, that of the keystore."
)
@session_options
def export(
    session: Session, address: str, out: str, password_file: str | None, export_password_file: str | None
) -> None:
    """Write the key of ADDRESS to a new V3 keystore file."""
    own = password(password_file, "password of the keystore")
    sealed_with = own if export_password_file is None else password(export_password_file)
    if out != "-" and Path(out).exists():
        raise Failure(f"{out} exists already; --out takes a new file")
    params = {"address": address, "password": own, "exportPassword": sealed_with}
    document = session.call("admin_accountExport", params)["keystore"]
    if out == "-":
        click.echo(json.dumps(document))
        return
    _write_new(out, document)
    session.show({"address": address, "file": out}, lambda value: f"{value['address']} is in {value['file']}")


def _key_text(file: str) -> str:
    """Return the text of a key file, of which no real one is long."""
    try:
        if file == "-":
            text = sys.stdin.read(MAX_KEY_FILE + 1)
        else:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is no key file: it is not text") from error
    if len(text) > MAX_KEY_FILE:
        raise Failure(f"{file} is no key file: it is longer than {MAX_KEY_FILE} characters")
    return text


def _write_new(out: str, document: dict[str, Any]) -> None:
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Failure(f"the key cannot be written to {out}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        json.dump(document, written)
        written.write("\n")
        written.flush()
        os.fsync(written.fileno())
