"""`l2proxy config show` and `l2proxy completion`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
import msgspec
from click.shell_completion import get_completion_class

from proxy.cli.session import USAGE, Failure, Session, data_not_needed, session_options, table
from proxy.config import Config, ConfigError, load
from proxy.upstream.addresses import shown


@click.group()
def config() -> None:
    """The settings in force."""


@config.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings (TOML); else DIR/config.toml.")
@session_options
def show(session: Session, config_file: Path | None) -> None:
    """Show every setting with its value, the defaults included; URLs without userinfo and query, those of nodes without path."""
    file = config_file or session.data / "config.toml"
    try:
        settings = load(file) if config_file or file.exists() else Config()
    except ConfigError as error:
        raise Failure(str(error), USAGE) from error
    given = msgspec.to_builtins(settings)
    given["l1"]["urls"] = [_told(url) for url in settings.l1.urls]
    for index in ("pypi", "npm"):
        given["plugins"][index] = _without_userinfo(given["plugins"][index])
    session.show(given, lambda value: table(["setting", "value"], _rows(value), ""))


def _told(url: str) -> str:
    """Return an entry of `[l1] urls` without what may be a secret in it: userinfo, path and query (hardening.md 19)."""
    return shown(url) if "://" in url else url


def _without_userinfo(url: str) -> str:
    """Return the URL of a package index without the name and password of a private one, and without its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return shown(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _rows(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", msgspec.json.encode(value).decode()))
    return rows


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@data_not_needed
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object, for programs.")
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion script of SHELL (bash, zsh, fish); e.g. `l2proxy completion bash >> ~/.bashrc`."""
    from proxy.cli import JSON, cli

    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"there is no completion for {shell}", USAGE)
    script = kind(cli, {}, "l2proxy", "_L2PROXY_COMPLETE").source()
    click.echo(json.dumps({"shell": shell, "script": script}) if as_json or ctx.meta.get(JSON) else script)
