"""Where the commands of the wallet get passwords from: a prompt, a file, a descriptor (`/dev/fd/N`), `-` for standard
input. Never an argument or the environment (security.md 16).
"""

from __future__ import annotations

import sys

import click

from proxy.cli.session import read_secret


def password(
    source: str | None, what: str = "password", *, confirm: bool = False, option: str = "--password-file"
) -> str:
    """Return the password from `source`, or from a prompt where there is a terminal; else it is a usage error (exit 2)."""
    if source is not None:
        return read_secret(source, what)
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"there is no terminal to ask for the {what}; give it with {option} FILE (- for standard input)"
        )
    text: str = click.prompt(what.capitalize(), hide_input=True, confirmation_prompt=confirm, err=True)
    return text
