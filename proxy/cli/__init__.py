"""The command line. Each command lives in a module of its own and is loaded when it is used."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import click

COMMANDS = {
    "demo": ("proxy.cli.demo:demo", "Run the whole journey on an embedded L1 and check every wei."),
    "init": ("proxy.cli.init:init", "Create the keystore of a data directory."),
    "run": ("proxy.cli.run:run", "Run the daemon."),
    "status": ("proxy.cli.status:status", "Show what the daemon is doing."),
    "doctor": ("proxy.cli.status:doctor", "Check this machine and data directory, and say what to do."),
    "config": ("proxy.cli.configuration:config", "Show the settings in force."),
    "lock": ("proxy.cli.unlock:lock", "Drop the main accounts' keys from memory."),
    "unlock": ("proxy.cli.unlock:unlock", "Unlock the accounts of a running daemon."),
    "account": ("proxy.cli.account:account", "The owner's main accounts."),
    "plugin": ("proxy.cli.plugin:plugin", "Layer-2 plugins: add, list, info, remove, logs, check."),
    "site": ("proxy.cli.site:site", "Web pages that may use this proxy."),
    "permission": ("proxy.cli.permission:permission", "What sites and tokens may do."),
    "approval": ("proxy.cli.approval:approval", "Questions waiting for the owner."),
    "rule": ("proxy.cli.rule:rule", "Answers given in advance."),
    "token": ("proxy.cli.token:token", "Named bearer tokens for programs."),
    "audit": ("proxy.cli.audit:audit", "The record of everything decided."),
    "completion": ("proxy.cli.configuration:completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used: `l2proxy --help` loads nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l2proxy")
def cli() -> None:
    """A local daemon between dapps and an Ethereum node, with sandboxed layer-2 plugins.

    The first minute: `l2proxy demo`. Then `l2proxy init`, `l2proxy run`, and point a dapp's RPC URL at
    http://127.0.0.1:8645. Every command takes --data DIR (or L2PROXY_DATA) and --json.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; the entry point of the `l2proxy` command."""
    try:
        return cli.main(arguments, prog_name="l2proxy")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return sys.exit(128 + signal.SIGPIPE)
