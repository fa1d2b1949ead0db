"""One embedded L1 from start to end: private socket, node, doors, ready line, and the reasons to stop.

It outlives the daemon that started it and stops by itself when told by a signal, or when its socket is gone: then its directory was
removed or another took its place, and nobody could reach it any more. The state of the chain ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.server import Server
from proxy.upstream.embedded.unix_socket import bind_private
from proxy.upstream.embedded.wire import quantity

_LOOK_EVERY = 1.0  # seconds between looks whether the socket is still there; the kernel tells nobody when it goes


class StartError(Exception):
    """The node cannot start; the text is one sentence for the person who started it."""


@dataclass(frozen=True)
class Options:
    """How to run: socket path, balances in wei by address, HTTP port (None: no HTTP).

    `ready_fd` gets the ready line as well as standard output; `lock_fd` holds the starter's lock and is let go just before.
    """

    socket: Path
    fund: Mapping[bytes, int]
    port: int | None = None
    ready_fd: int | None = None
    lock_fd: int | None = None


def pid_file(socket: Path) -> Path:
    """Return where the process of a socket writes its pid."""
    return socket.with_suffix(".pid")


def check_directory(directory: Path) -> None:
    """Refuse a directory for sockets that others could enter. Raises StartError."""
    try:
        found = directory.stat()
    except OSError:
        raise StartError(f"the directory {directory} does not exist: make it with mode 0700") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(f"the directory {directory} must be yours alone: chmod 700 {directory}")


async def run(options: Options) -> None:
    """Serve until a signal comes or the socket goes. Raises StartError."""
    # First of all: whoever saw the ready line may send a signal at once.
    ended = _on_signals()
    check_directory(options.socket.parent)
    await _expect_free(options.socket)
    listener, born = _bind(options.socket)
    server = Server(Node(options.fund))
    async with AsyncExitStack() as closing:
        closing.callback(_clear, options.socket, born)
        closing.push_async_callback(server.close)
        await server.open_socket(listener)
        port = None if options.port is None else await _open_http(server, options.port, closing)
        await _announce(server, options, port)
        await _until(ended, options.socket, born)


def _bind(path: Path) -> tuple[socket.socket, os.stat_result]:
    """Bind the socket and write the pid file; returns what tells this socket from a later one at the same path."""
    try:
        listener = bind_private(path)
        pid_file(path).write_text(f"{os.getpid()}\n")
        return listener, path.stat()
    except OSError as error:
        raise StartError(f"{path} cannot be served: {error.strerror or error}") from None


async def _open_http(server: Server, port: int, closing: AsyncExitStack) -> int:
    # Imported here because aiohttp takes long and few ask for this door.
    from proxy.upstream.embedded.http_door import open_http

    try:
        runner, taken = await open_http(server.ask, port)
    except OSError as error:
        raise StartError(f"port {port} on 127.0.0.1 cannot be served: {error.strerror}; choose another, or 0") from None
    closing.push_async_callback(runner.cleanup)
    return taken


async def _expect_free(path: Path) -> None:
    """Remove a socket nobody listens on; refuse to replace one that somebody does."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StartError(f"{path} exists and is no socket; move it away")
        _, writer = await asyncio.open_unix_connection(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError as error:
        raise StartError(f"{path} cannot be tried: {error.strerror}") from None
    else:
        writer.close()
        raise StartError(f"another process already serves {path}")


async def _announce(server: Server, options: Options, port: int | None) -> None:
    genesis = await server.ask(b'{"jsonrpc":"2.0","id":0,"method":"eth_getBlockByNumber","params":["0x0",false]}')
    line = json.dumps(
        {
            "ready": True,
            "socket": str(options.socket),
            "http": None if port is None else f"http://127.0.0.1:{port}",
            "pid": os.getpid(),
            "chainId": quantity(CHAIN_ID),
            "genesis": json.loads(genesis or b"")["result"]["hash"],
        }
    )
    if options.lock_fd is not None:
        os.close(options.lock_fd)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if options.ready_fd is not None:
        os.write(options.ready_fd, line.encode() + b"\n")
        os.close(options.ready_fd)


def _on_signals() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def _until(ended: asyncio.Event, path: Path, born: os.stat_result) -> None:
    """Return when a signal came, or when the socket at `path` is no longer the one that was born there."""
    while not ended.is_set():
        if not _is_ours(path, born):
            sys.stderr.write(f"ending: {path} is gone\n")
            return
        try:
            await asyncio.wait_for(ended.wait(), _LOOK_EVERY)
        except TimeoutError:
            continue


def _is_ours(path: Path, born: os.stat_result) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (born.st_dev, born.st_ino)


def _clear(path: Path, born: os.stat_result) -> None:
    """Remove socket and pid file, unless another process has put its own there."""
    if _is_ours(path, born):
        path.unlink()
        pid_file(path).unlink(missing_ok=True)


def serve(options: Options) -> None:
    """Run until ended, in an event loop of its own. Raises StartError."""
    asyncio.run(run(options))
