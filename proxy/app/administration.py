"""One admin call of the command line: to the daemon that holds the data directory, else in this process under its lock."""

from __future__ import annotations

import asyncio
import shlex
import time
from pathlib import Path
from typing import Any

from middleware.errors import RpcError
from proxy.config import Config, ConfigError, load
from proxy.server.admin_client import call_admin_socket
from proxy.server.socket import socket_path
from proxy.storage.directory import DataDirectory, DirectoryInUse

ADMIN_SOCKET = "admin.ipc"
STATUS = "admin_status"  # what a daemon that does not hang answers at once
PATIENCE = 10.0  # seconds for another command to finish, or a daemon to start or stop
LOOK_AGAIN = 0.1  # the lock belongs to another process: there is no event to wait for


async def call_admin(data: Path, method: str, params: dict[str, Any], *, live: bool = False) -> Any:
    """Return the result of an admin method.

    Waits for another command on the directory, and for a daemon that starts or stops. Raises `RpcError` for the method's
    error, `ConnectionError` when `live` and no daemon runs, `StorageError` and `OSError` for what cannot be read or written.
    """
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            at_once = PATIENCE if method == STATUS else None
            return await call_admin_socket(socket_path(data, ADMIN_SOCKET), method, params, at_once)
        except ConnectionRefusedError:
            if live:
                raise
        except (ConnectionResetError, BrokenPipeError) as error:
            raise RpcError(-32603, "the daemon ended before it answered; look whether it was done") from error
        try:
            return await _offline(data, method, params)
        except DirectoryInUse as error:
            if time.monotonic() > patience:
                raise RpcError(-32603, f"{error}; try again in a moment") from error
        await asyncio.sleep(LOOK_AGAIN)


async def _offline(data: Path, method: str, params: dict[str, Any]) -> Any:
    from middleware.waist import OWNER, Context
    from proxy.app.ground import offline_handlers, open_ground

    directory = DataDirectory(data)
    if method != "admin_init" and not directory.exists:
        raise RpcError(
            -32602,
            f"there is nothing in {data} yet; `l2proxy init --data {shlex.quote(str(data))}` makes a keystore there",
        )
    directory.lock()
    try:
        ground = open_ground(directory, _config(data), lambda _: None)
        handlers = offline_handlers(ground)
        if method not in handlers:
            raise ConnectionRefusedError(f"{method} needs a running daemon")
        return await handlers[method](params, Context(OWNER))
    finally:
        directory.release()


def _config(data: Path) -> Config:
    file = data / "config.toml"
    try:
        return load(file) if file.exists() else Config()
    except ConfigError as error:
        raise RpcError(-32602, str(error)) from error
