"""The doctor's round: what is looked at, in which order, with and without a running daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from middleware.errors import RpcError
from proxy.app.administration import ADMIN_SOCKET, PATIENCE, STATUS
from proxy.app.doctor import directory, machine, nodes, running
from proxy.app.doctor.finding import Finding, fail, ok
from proxy.config import Config, ConfigError, load
from proxy.server.admin_client import call_admin_socket
from proxy.server.socket import socket_path
from proxy.storage.directory import DataDirectory


async def examine(data: Path, config_file: Path | None, urls: Sequence[str]) -> AsyncIterator[Finding]:
    """Yield every finding; `urls` beat those of the config, `config_file` the one of the data directory."""
    config, findings = _config(data, config_file)
    for finding in (*machine.look(config), *findings):
        yield finding
    sound = True
    for finding in directory.look(data):
        sound = sound and finding.level != "fail"
        yield finding
    status, trouble = await _status(data)
    if status is not None:
        for finding in running.look(status):
            yield finding
    elif trouble is not None:
        yield trouble
    else:
        if sound:
            for finding in directory.look_inside(data):
                yield finding
        yield machine.look_at_port(config.listen.port)
        yield ok("daemon", "none runs on this data directory; `l2proxy run` starts one")
    asked = urls or config.l1.urls
    if asked or status is None:  # a daemon may have been told its nodes by --l1: its own words stand above
        async for finding in nodes.look(asked, DataDirectory(data).pin, config.l1.stale_after):
            yield finding


def _config(data: Path, config_file: Path | None) -> tuple[Config, list[Finding]]:
    file = config_file or data / "config.toml"
    if config_file is None and not file.exists():
        return Config(), [ok("config", f"none at {file}: every setting has its default")]
    try:
        return load(file), [ok("config", str(file))]
    except ConfigError as error:
        return Config(), [fail("config", str(error), "mend it; until then nothing starts with it")]


async def _status(data: Path) -> tuple[dict[str, Any] | None, Finding | None]:
    try:
        return await call_admin_socket(socket_path(data, ADMIN_SOCKET), STATUS, {}, PATIENCE), None
    except ConnectionRefusedError:
        return None, None
    except (RpcError, OSError) as error:
        return None, fail("daemon", f"it does not say how it is: {error}", "look at its log, or start it again")
