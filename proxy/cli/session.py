"""What every command shares: the data directory, `--json`, one way to call the daemon, exit codes.

A command parses its arguments, asks `Session.call("admin_…", params)` and prints with `Session.show`. The call goes over
admin.ipc while a daemon holds the data directory; otherwise the same handler runs in this process under the directory's
lock (rpc.md, "Command line"). Exit codes: 0 ok, 1 failed, 2 usage, 3 refused, 4 no daemon. Never print a secret.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from middleware.errors import RpcError
from proxy.cli import DATA, JSON
from proxy.config import default_data_directory
from proxy.storage import StorageError

FAILED, USAGE, REFUSED, NO_DAEMON = 1, 2, 3, 4
LONGEST_SECRET = 4096  # characters
A_FILE = click.Path(readable=False, allow_dash=True)  # as it is given; shells complete it
UNCUT = 10_000  # columns of a table that no terminal shows: every row stays one line

_COMMAND = re.compile(r"(`l2proxy (?!demo|completion)(?![^`]* --data )[a-z][^`\n]*)`")
Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A command that cannot go on: one sentence on standard error and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it on the class and reads it on the instance

    def show(self, file: Any = None) -> None:
        """Print the sentence, with what a terminal might obey escaped: it may quote foreign text."""
        click.echo(printable(f"l2proxy: {self.format_message()}"), err=True, file=file)


def where(data: Path) -> str:
    """Return how a command names a data directory: ` --data DIR`, or nothing for the usual one."""
    return "" if data == default_data_directory().absolute() else f" --data {shlex.quote(str(data))}"


class NoDaemon(Failure):
    """The command needs a running daemon."""

    def __init__(self, data: Path) -> None:
        super().__init__(f"no daemon runs on {data}; start one with `l2proxy run{where(data)}`", NO_DAEMON)


@dataclass(frozen=True)
class Session:
    """One invocation of the command line."""

    data: Path
    json: bool

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, live: bool = False) -> Any:
        """Return the result of an admin method; `live`: only a running daemon can answer it (exit 4 without one).

        Raises `Failure` with the error's sentence; a refusal (4001, 4100) exits 3, everything else 1.
        """
        from proxy.app.administration import call_admin

        try:
            return asyncio.run(call_admin(self.data, method, dict(params or {}), live=live))
        except RpcError as error:
            raise Failure(self.told(error.message), REFUSED if error.code in (4001, 4100) else FAILED) from error
        except ConnectionError as error:
            raise NoDaemon(self.data) from error
        except StorageError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            where = error.filename or self.data
            raise Failure(f"the data directory {self.data} cannot be used: {where}: {because(error)}") from error

    def told(self, text: str) -> str:
        """Return `text` with the data directory in each `l2proxy …` it says to type: as it stands it would mean another one."""
        return _COMMAND.sub(lambda command: f"{command[1]}{where(self.data)}`", text)

    def show(self, value: Any, human: Callable[[Any], Any] | None = None) -> None:
        """Print `value` as JSON for programs, or what `human` makes of it (a rich renderable or text) for people."""
        if self.json or human is None:
            click.echo(json.dumps(value, ensure_ascii=False))
            return
        shown = human(value)
        if isinstance(shown, str):
            click.echo(self.told(shown))
        elif sys.stdout is not None:
            terminal = sys.stdout.isatty()
            Console(file=sys.stdout, width=None if terminal else UNCUT).print(shown)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> Any:
    """Return a table for people, or the sentence `empty` when there are no rows. Cells are plain text, never markup."""
    if not rows:
        return empty
    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, overflow="fold")  # an address or an id is never cut
    for row in rows:
        shown.add_row(*(escape(printable(str(cell))) for cell in row))
    return shown


def printable(text: str) -> str:
    """Return `text` with every character a terminal might obey (C0, C1, bidi controls) escaped (hardening.md 19)."""
    return "".join(c if c.isprintable() or c == " " else f"\\u{ord(c):04x}" for c in text)


def because(error: OSError | UnicodeDecodeError) -> str:
    """Return what went wrong with a file, for a sentence that names it already."""
    return "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


def data_not_needed(command: Command) -> Command:
    """Add a `--data DIR` that changes nothing: programs give it to every command (rpc.md, "Command line")."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        expose_value=False,
        help="As every command takes it; this one reads and writes no data directory.",
    )(command)


def session_options(command: Command) -> Command:
    """Add `--data DIR` and `--json` to a command, which may stand before its name too, and hand it a `Session` first."""

    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="L2PROXY_DATA",
        default=None,
        help="Data directory (or L2PROXY_DATA).",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
    @functools.wraps(command)
    def run(*args: Any, data: Path | None, as_json: bool, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        if ctx.get_parameter_source("data") is not ParameterSource.COMMANDLINE:
            data = ctx.meta.get(DATA) or data  # given before the command's name, it beats the environment all the same
        session = Session((data or default_data_directory()).absolute(), as_json or ctx.meta.get(JSON, False))
        return command(session, *args, **kwargs)

    return run  # type: ignore[return-value]


def read_secret(source: str, what: str) -> str:
    """Return a password or phrase from a file, or the next line of standard input (`-`). Never from an argument."""
    try:
        if source == "-":
            text = sys.stdin.readline(LONGEST_SECRET + 1)
        else:
            with Path(source).open(encoding="utf-8") as file:  # perhaps a descriptor, or a device without an end
                text = file.read(LONGEST_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"the {what} cannot be read from {source}: {because(error)}") from error
    if len(text) > LONGEST_SECRET:
        raise Failure(f"the {what} in {source} is longer than {LONGEST_SECRET} characters; is it the right file?")
    secret = text.strip("\r\n")
    if not secret.strip():
        raise Failure(f"the {what} file {source} is empty")
    return secret
