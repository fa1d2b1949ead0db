"""`l2proxy init`: make the keystore of a data directory, from a new phrase or an existing one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from proxy.cli.passwords import password
from proxy.cli.session import A_FILE, Failure, Session, read_secret, session_options, where


@click.command()
@click.option(
    "--mnemonic-file", metavar="F", type=A_FILE, help="Take the BIP-39 phrase from this file (- for standard input)."
)
@click.option(
    "--mnemonic-out",
    metavar="F",
    type=A_FILE,
    help="Write a new phrase to this new file (0600) instead of showing it once.",
)
@click.option(
    "--password-file",
    metavar="F",
    type=A_FILE,
    help="Password of the keystore (- for standard input, after the phrase).",
)
@session_options
def init(session: Session, mnemonic_file: str | None, mnemonic_out: str | None, password_file: str | None) -> None:
    """Create the keystore of a data directory.

    Without --mnemonic-file a new phrase is made. It is shown once, or written to the file of --mnemonic-out: whoever has
    it has the accounts, and nobody can make it again.
    """
    from proxy.wallet.keystore import Keystore
    from proxy.wallet.phrases import PhraseError, check_phrase, new_phrase

    if mnemonic_file is not None and mnemonic_out is not None:
        raise click.UsageError("--mnemonic-file and --mnemonic-out exclude each other")
    if (keystore := Keystore(session.data / "keystore.json")).exists:
        raise Failure(f"there is a keystore at {keystore.path} already; it is left as it is")
    try:
        phrase = new_phrase() if mnemonic_file is None else check_phrase(read_secret(mnemonic_file, "phrase"))
    except PhraseError as error:
        raise Failure(str(error)) from error
    secret = password(password_file, confirm=True)
    _make_folder(session.data)
    with _kept(mnemonic_out, phrase):
        made: dict[str, Any] = session.call(
            "admin_init", {"phrase": phrase, "password": secret, "imported": mnemonic_file is not None}
        )
    if mnemonic_file is None and mnemonic_out is None:
        made["mnemonic"] = phrase
    if mnemonic_out is not None:
        made["mnemonicFile"] = mnemonic_out
    session.show(made, lambda value: _told(value, session.data))


def _make_folder(data: Path) -> None:
    """Make the data directory, or say in one sentence why it cannot be."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"the data directory {data} cannot be made: {error.strerror}") from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise Failure(f"the data directory {data} cannot be written to; give another with --data")


@contextlib.contextmanager
def _kept(target: str | None, phrase: str) -> Iterator[None]:
    """Have the phrase in a new file before there is a keystore; take the file away again when none came to be."""
    if target is None:
        yield
        return
    path = Path(target)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Failure(f"{target} exists already; --mnemonic-out takes a new file") from error
    except OSError as error:
        raise Failure(f"the phrase cannot be written to {target}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(phrase + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _told(made: dict[str, Any], data: Path) -> str:
    from proxy.app.administration import ADMIN_SOCKET
    from proxy.server.socket import socket_path

    lines = [f"account 0 is {made['address']}"]
    if "mnemonic" in made:
        lines += ["", "The recovery phrase, shown this once. Write it down; whoever has it has the accounts:", ""]
        lines += [f"    {made['mnemonic']}", ""]
    if "mnemonicFile" in made:
        lines.append(f"the recovery phrase is in {made['mnemonicFile']}; move it to a safe place")
    if socket_path(data, ADMIN_SOCKET).is_socket():  # a daemon runs on it already
        lines.append(f"next: l2proxy unlock{where(data)}")
    else:
        run = f"l2proxy run{where(data)}"
        lines.append(f"next: {run} --l1 URL, with the URL of your node; without one: {run} --dev")
    return "\n".join(lines)
