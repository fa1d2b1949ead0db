"""One admin call of the command line: to the daemon that holds the data directory, else in this process under its lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from middleware.errors import RpcError
from proxy.server.admin_client import call_admin_socket
from proxy.server.socket import socket_path
from proxy.storage.directory import DataDirectory, DirectoryInUse

ADMIN_SOCKET = "admin.ipc"


async def call_admin(data: Path, method: str, params: dict[str, Any], *, live: bool = False) -> Any:
    """Return the result of an admin method.

    Raises `RpcError` for its error, `ConnectionError` when `live` and no daemon runs, `DirectoryInUse` while a daemon
    starts or stops on the directory.
    """
    try:
        return await call_admin_socket(socket_path(data, ADMIN_SOCKET), method, params)
    except ConnectionError:
        if live:
            raise
    return await _offline(data, method, params)


async def _offline(data: Path, method: str, params: dict[str, Any]) -> Any:
    from middleware.waist import OWNER, Context
    from proxy.app.ground import offline_handlers, open_ground
    from proxy.config import Config

    directory = DataDirectory(data)
    if method != "admin_init" and not directory.exists:
        raise RpcError(-32602, f"there is nothing in {data} yet; `l2proxy init --data {data}` makes a keystore there")
    try:
        directory.lock()
    except DirectoryInUse as error:
        raise RpcError(-32603, f"{error}; it is starting or stopping, try again in a moment") from error
    try:
        ground = open_ground(directory, Config(), lambda _: None)
        handlers = offline_handlers(ground)
        if method not in handlers:
            raise ConnectionRefusedError(f"{method} needs a running daemon")
        return await handlers[method](params, Context(OWNER))
    finally:
        directory.release()
