"""`l2proxy run`: the daemon in the foreground."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Literal

import click
import msgspec

from middleware.errors import RpcError
from middleware.loading import BadEntry
from proxy.app.options import RunOptions, StartRefused
from proxy.cli.session import (
    A_FILE,
    FAILED,
    REFUSED,
    USAGE,
    Failure,
    Session,
    because,
    printable,
    read_secret,
    session_options,
)
from proxy.config import Config, ConfigError, load
from proxy.storage import StorageError
from proxy.storage.directory import DirectoryInUse


@click.command()
@click.option("--dev", is_flag=True, help="Developer defaults; the embedded L1 unless --l1 is given.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings (TOML); else DIR/config.toml.")
@click.option("--l1", metavar="URL|SOCKET|dev", help="The L1 node to ask; beats the config.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the dapp listener (0: any free one).")
@click.option("--console-port", type=click.IntRange(0, 65535), help="Port of the owner's console (0: any free one).")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Lines on standard error; beats [log] format.")
@click.option(
    "--password-file", metavar="F", type=A_FILE, help="File or descriptor (/dev/fd/N) with the password; - for stdin."
)
@click.option(
    "--allow-unsandboxed",
    metavar="PLUGIN",
    multiple=True,
    help="Let this plugin run where it cannot be sandboxed: ID, or ID@sha256:… for that digest alone. Repeatable.",
)
@session_options
def run(
    session: Session,
    dev: bool,
    config_file: Path | None,
    l1: str | None,
    port: int | None,
    console_port: int | None,
    log_format: Literal["text", "json"] | None,
    password_file: str | None,
    allow_unsandboxed: tuple[str, ...],
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Dapps reach it at http://127.0.0.1:8645 (and ws://). Questions to you appear on standard error with the command
    that answers them. With --json the first line of standard output names every door, once all of them answer.
    """
    config = _config(session, config_file)
    if log_format is not None:
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, format=log_format))
    urls = [l1] if l1 else (config.l1.urls or (["dev"] if dev else []))
    if not urls:
        raise Failure(
            "no L1 node is configured: say `l2proxy run --l1 http://127.0.0.1:8545` (or ws://, or a socket path), "
            "`l2proxy run --dev` for an embedded one, or put urls under [l1] in "
            f"{session.data}/config.toml",
            USAGE,
        )
    options = RunOptions(
        data=session.data,
        config=config,
        urls=tuple(urls),
        dev=dev,
        port=config.listen.port if port is None else port,
        console_port=config.listen.console_port if console_port is None else console_port,
        password=_password(session, password_file),
        json=session.json,
        allow_unsandboxed=allow_unsandboxed,
    )
    try:
        _serve(options)
    except Failure as failure:
        if config.log.format != "json":
            raise
        from proxy.app.logs import OWNER

        logging.getLogger(OWNER).log(logging.ERROR, failure.message)  # the last line is an object like all others
        sys.exit(failure.exit_code)


def _serve(options: RunOptions) -> None:
    """Run the daemon; raise `Failure` for whatever keeps it from starting."""
    from proxy.app.daemon import serve  # the whole daemon: not for --help and completion

    try:
        serve(options, notice=lambda line: click.echo(printable(line), err=True))
    except BadEntry as error:
        raise Failure(str(error), USAGE) from error
    except StartRefused as error:
        raise Failure(str(error), REFUSED) from error
    except RpcError as error:
        raise Failure(error.message, FAILED) from error
    except (ConfigError, DirectoryInUse, StorageError) as error:
        raise Failure(str(error), FAILED) from error
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{about}{because(error)}", FAILED) from error


def _config(session: Session, file: Path | None) -> Config:
    default = session.data / "config.toml"
    try:
        if file is not None:
            return load(file)
        return load(default) if default.exists() else Config()
    except ConfigError as error:
        raise Failure(str(error), USAGE) from error


def _password(session: Session, file: str | None) -> str | None:
    if file is not None:
        return read_secret(file, "password")
    if (session.data / "keystore.json").exists() and sys.stdin.isatty() and not os.environ.get("CI"):
        entered: str = click.prompt("Password", hide_input=True, default="", show_default=False, err=True)
        return entered or None
    return None
