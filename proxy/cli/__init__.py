"""The command line. Each command lives in a module of its own and is loaded when it is used."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

COMMANDS = {
    "demo": ("proxy.cli.demo:demo", "Run the whole journey on an embedded L1 and check every wei."),
    "init": ("proxy.cli.init:init", "Create the keystore of a data directory."),
    "run": ("proxy.cli.run:run", "Run the daemon."),
    "status": ("proxy.cli.status:status", "Show what the daemon is doing."),
    "doctor": ("proxy.cli.doctor:doctor", "Check machine, data directory, nodes and daemon, and say what to do."),
    "config": ("proxy.cli.configuration:config", "Show the settings in force."),
    "lock": ("proxy.cli.unlock:lock", "Drop the main accounts' keys from memory."),
    "unlock": ("proxy.cli.unlock:unlock", "Unlock the accounts of a running daemon."),
    "account": ("proxy.cli.account:account", "The owner's main accounts."),
    "plugin": ("proxy.cli.plugin:plugin", "Layer-2 plugins: add, update, list, info, remove, logs, check."),
    "site": ("proxy.cli.site:site", "Web pages that may use this proxy."),
    "permission": ("proxy.cli.permission:permission", "What sites and tokens may do."),
    "approval": ("proxy.cli.approval:approval", "Questions waiting for the owner."),
    "rule": ("proxy.cli.rule:rule", "Answers given in advance."),
    "token": ("proxy.cli.token:token", "Named bearer tokens for programs."),
    "audit": ("proxy.cli.audit:audit", "The record of everything decided."),
    "completion": ("proxy.cli.configuration:completion", "Print the completion script of a shell."),
}

# Where options given before the command's name are kept for it.
DATA, JSON = "l2proxy.data", "l2proxy.json"


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Have a usage error said in one line; only a group called without a command shows its whole help."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        from proxy.cli.session import USAGE, Failure

        said = " ".join(error.format_message().split()).rstrip(".")
        path = "l2proxy" if error.ctx is None else error.ctx.command_path
        raise Failure(f"{said[:1].lower()}{said[1:]} (`{path} --help` shows how)", USAGE) from error


class LazyGroup(click.Group):
    """A group that imports a command when it is used: `l2proxy --help` loads nothing."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with one_sentence():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with one_sentence():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what may follow; like help, without loading any command."""
        names = [
            CompletionItem(name, help=summary) for name, (_, summary) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l2proxy")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="As behind the command.")
@click.option("--json", "as_json", is_flag=True, help="As behind the command.")
@click.pass_context
def cli(ctx: click.Context, data: Path | None, as_json: bool) -> None:
    """A local daemon between dapps and an Ethereum node, with sandboxed layer-2 plugins.

    The first minute: `l2proxy demo`. Then `l2proxy init`, `l2proxy run`, and point a dapp's RPC URL at
    http://127.0.0.1:8645. Every command takes --data DIR (or L2PROXY_DATA) and --json, before it or behind it.
    """
    ctx.meta[DATA], ctx.meta[JSON] = data, as_json


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; the entry point of the `l2proxy` command."""
    try:
        return cli.main(arguments, prog_name="l2proxy")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return sys.exit(128 + signal.SIGPIPE)
    except Exception as error:  # noqa: BLE001 - the last resort of a person at a terminal
        return sys.exit(_unexpected(error))


def _unexpected(error: Exception) -> int:
    """Say in one sentence what no command foresaw; the whole of it stands behind L2PROXY_TRACEBACK=1."""
    if os.environ.get("L2PROXY_TRACEBACK"):
        raise error
    from proxy.cli.session import FAILED, because, printable

    if isinstance(error, OSError):
        said = f"{error.filename or 'the output'} cannot be read or written: {because(error)}"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written will not be at exit either
    else:
        said = f"{type(error).__name__}: {error}; L2PROXY_TRACEBACK=1 shows where, please report that"
    click.echo(printable(f"l2proxy: {said}"), err=True)
    return FAILED
