"""`l2proxy status` and `l2proxy doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Group

from middleware.errors import RpcError
from proxy.cli.session import FAILED, Failure, NoDaemon, Session, session_options, table
from proxy.config import ConfigError, load

Finding = tuple[str, bool, str]


@click.command()
@session_options
def status(session: Session) -> None:
    """Show what the daemon is doing: doors, L1, accounts, questions, plugins."""
    session.show(session.call("admin_status", live=True), _shown)


def _shown(value: dict[str, Any]) -> Group:
    l1, doors, accounts = value["l1"], value["doors"], value["accounts"]
    head = "no block yet" if l1["head"] is None else f"block {int(l1['head'], 16)}"
    lines = [
        ("daemon", f"pid {value['pid']}"),
        ("dapps", f"{doors['dapp']}  {doors['ws']}"),
        ("programs", doors["ipc"]),
        (
            "L1",
            f"chain {int(l1['chainId'], 16)}, {head}, {l1['client'] or 'unknown node'}{', dev' if l1['dev'] else ''}",
        ),
        ("nodes", ", ".join(l1["nodes"])),
        *([("trouble", l1["trouble"])] if l1["trouble"] else []),
        ("accounts", f"{accounts['count']}, {'locked' if accounts['locked'] else 'unlocked'}"),
        ("questions", f"{value['questions']} waiting" + (" (l2proxy approval list)" if value["questions"] else "")),
        ("callers", f"{value['sites']} sites connected, {value['tokens']} tokens"),
    ]
    plugins = [
        (
            plugin["id"],
            plugin["version"],
            plugin["status"],
            plugin["sandbox"],
            plugin.get("hub", ""),
            plugin.get("why", ""),
        )
        for plugin in value["plugins"]
    ]
    columns = ["plugin", "version", "status", "sandbox", "hub", "why"]
    return Group(table(["", ""], lines, ""), "", table(columns, plugins, "no plugins are installed"))


@click.command()
@session_options
def doctor(session: Session) -> None:
    """Check this machine, the data directory and the daemon; each finding says what to do."""
    findings = [*_machine(), *_directory(session), *_daemon(session)]
    rows = [{"check": check, "ok": ok, "finding": finding} for check, ok, finding in findings]
    session.show(
        rows,
        lambda value: table(
            ["", "check", "finding"], [("ok" if r["ok"] else "!!", r["check"], r["finding"]) for r in value], ""
        ),
    )
    if not all(ok for _, ok, _ in findings):
        raise Failure("something needs attention; see the lines marked !!", FAILED)


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    yield "python", (3, 11) <= sys.version_info[:2] < (3, 13), f"{version} (3.11 and 3.12 are tested)"
    linux = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    yield "system", linux, f"{platform.system()} {platform.machine()}" + ("" if linux else ": plugins need Linux")


def _directory(session: Session) -> Iterator[Finding]:
    data = session.data
    if not data.exists():
        yield "data directory", False, f"{data} does not exist; `l2proxy init --data {data}` makes it"
        return
    mode = stat.S_IMODE(data.stat().st_mode)
    mine = data.stat().st_uid == os.getuid()
    yield (
        "data directory",
        mode & 0o077 == 0 and mine,
        f"{data}, mode {mode:04o}" + ("" if mode & 0o077 == 0 and mine else f"; `chmod 700 {data}` keeps others out"),
    )
    keystore = data / "keystore.json"
    yield "keystore", keystore.exists(), str(keystore) if keystore.exists() else "none; `l2proxy init` makes one"
    free = shutil.disk_usage(data).free
    yield "disk", free > 2**30, f"{free // 2**20} MiB free" + ("" if free > 2**30 else "; plugins and logs need room")
    config = data / "config.toml"
    if config.exists():
        try:
            load(config)
            yield "config", True, str(config)
        except ConfigError as error:
            yield "config", False, str(error)


def _daemon(session: Session) -> Iterator[Finding]:
    try:
        value = session.call("admin_status", live=True)
    except NoDaemon as none:
        yield "daemon", False, none.format_message()
        return
    except RpcError as error:
        yield "daemon", False, error.message
        return
    yield "daemon", True, f"pid {value['pid']}, {value['doors']['dapp']}"
    l1 = value["l1"]
    yield "L1", l1["trouble"] is None and l1["head"] is not None, l1["trouble"] or f"chain {int(l1['chainId'], 16)}"
    yield "accounts", value["accounts"]["count"] > 0, f"{value['accounts']['count']} accounts"
    for plugin in value["plugins"]:
        fine = plugin["status"] in ("running", "starting", "stopped")
        yield f"plugin {plugin['id']}", fine, f"{plugin['status']} {plugin.get('why', '')}".strip()
