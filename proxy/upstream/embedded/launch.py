"""Starting the embedded L1 and finding the one that runs: `ensure(directory, fund)`.

The daemon and the demo call it. The node becomes a process of its own session with no descriptor of the caller's, so it outlives a
killed daemon, and the next `ensure` for the same directory finds it again. Linux only: peers are known by SO_PEERCRED and pidfd.
Must never import py-evm, nor end a process that is not the node of this directory.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path

from proxy.upstream.embedded.arguments import fund_argument
from proxy.upstream.embedded.ending import end, stale_pid
from proxy.upstream.embedded.unix_socket import peer

SOCKET_NAME = "dev-l1.ipc"
_LONGEST_SOCKET_PATH = 100
_START_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.02


class EmbeddedError(Exception):
    """The embedded L1 cannot be started or does not answer; the text is for the owner."""


@dataclass(frozen=True)
class EmbeddedNode:
    """A running embedded L1."""

    socket: Path
    pid: int

    async def stop(self) -> None:
        """End the process and wait until it is gone; nothing happens if it is gone already."""
        await end(self.pid, self.socket)


def socket_path(directory: Path) -> Path:
    """Return where the node of a directory listens.

    That is in it, or, where the path would be too long for a socket, in a directory of its own under the runtime directory.
    """
    path = directory.absolute() / SOCKET_NAME
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    mark = sha256(os.fsencode(path.parent)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        path = Path(runtime) / f"l2proxy-{mark}" / SOCKET_NAME
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
    return Path(tempfile.gettempdir()) / f"l2proxy-{os.geteuid()}-{mark}" / SOCKET_NAME


async def ensure(directory: Path, fund: Mapping[str, int]) -> EmbeddedNode:
    """Return the running embedded L1 of a directory, started if none answers.

    `fund` gives balances in wei by 0x address. A node that runs already keeps its chain; addresses it has never seen get their sum.
    Of several calls at once, in one process or many, one starts it. Raises EmbeddedError.
    """
    path = socket_path(directory)
    for folder in (directory, path.parent):
        _private_directory(folder)
    async with _locked(path.with_suffix(".lock")) as lock:
        node = await _running(path)
        if node is None:
            stale = stale_pid(path)
            if stale is not None:
                await end(stale, path)
            return await _start(path, fund, lock)
        await _top_up(node, fund)
        return node


def _private_directory(folder: Path) -> None:
    """Make a directory of mode 0700, or check the one that is there: others must not be able to plant a socket in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise EmbeddedError(f"the directory {folder} cannot be used: {error.strerror}") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EmbeddedError(f"the directory {folder} must be yours alone: chmod 700 {folder}")


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Hold a lock file, waiting for whoever holds it; yields its descriptor. The kernel frees it when all its holders are gone."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        await _lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


async def _lock(descriptor: int) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not _try_lock(descriptor):  # noqa: ASYNC110 -- the kernel tells nobody when a lock is let go
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise EmbeddedError(f"another process has been starting the embedded L1 for {_START_SECONDS:.0f} s") from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _running(path: Path) -> EmbeddedNode | None:
    """Return the node that answers on a socket, or None where nobody listens. Raises EmbeddedError for anything between."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            version, pid = await _ask_the_living(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, ValueError, TimeoutError):
        raise EmbeddedError(f"the process that listens on {path} does not answer; end it and start again") from None
    if not isinstance(version, str) or "eth-tester" not in version:
        raise EmbeddedError(f"{path} is served by another program; end it and start again")
    return EmbeddedNode(path, pid)


async def _ask_the_living(path: Path) -> tuple[object, int]:
    """Ask for the version, again where a dying process took the question with it: soon it takes none."""
    while True:
        try:
            return await _ask(path, "web3_clientVersion", [])
        except (ConnectionResetError, BrokenPipeError):
            await asyncio.sleep(_POLL_SECONDS)


async def _ask(path: Path, method: str, params: list[object]) -> tuple[object, int]:
    """Ask one question; returns the result and the pid of who answered. Raises OSError, ValueError or EmbeddedError."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        pid, uid = peer(writer.get_extra_info("socket"))
        if uid != os.geteuid():
            raise PermissionError("the socket is served by another user")
        writer.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError("closed without an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise EmbeddedError(f"the embedded L1 refused {method}: {answer['error']['message']}")
    return answer["result"], pid


async def _top_up(node: EmbeddedNode, fund: Mapping[str, int]) -> None:
    """Give addresses that hold nothing and have sent nothing their sum, as genesis would have."""
    for address, wei in fund.items():
        balance, _ = await _ask(node.socket, "eth_getBalance", [address, "latest"])
        sent, _ = await _ask(node.socket, "eth_getTransactionCount", [address, "latest"])
        if (balance, sent) == ("0x0", "0x0"):
            await _ask(node.socket, "anvil_setBalance", [address, hex(wei)])


async def _start(path: Path, fund: Mapping[str, int], lock: int) -> EmbeddedNode:
    """Start the process and wait for its ready line. Raises EmbeddedError with the last line of its log.

    The process shares the lock until it answers, so a starter that dies meanwhile leaves no gap for a second start.
    """
    log = path.with_suffix(".log")
    ready, ready_end = os.pipe()
    with os.fdopen(ready, "rb", buffering=0) as pipe:
        try:
            process = _spawn(path, fund, log, ready_end, lock)
        except OSError as error:
            raise EmbeddedError(f"the embedded L1 cannot be started: {error.strerror}") from None
        finally:
            os.close(ready_end)
        # It forks and ends at once; only its child goes on. Waiting for it here leaves no zombie behind.
        await asyncio.to_thread(process.wait)
        line = await _ready_line(pipe)
    if not line:
        raise EmbeddedError(f"the embedded L1 did not start: {_last_line(log)}")
    return EmbeddedNode(path, int(json.loads(line)["pid"]))


def _spawn(path: Path, fund: Mapping[str, int], log: Path, ready: int, lock: int) -> subprocess.Popen[bytes]:
    # -P: the child must not import what happens to lie in its working directory.
    command = [sys.executable, "-P", "-m", "proxy.upstream.embedded", "--detach", "--socket", str(path)]
    command += ["--ready-fd", str(ready), "--lock-fd", str(lock)]
    command += [part for address, wei in fund.items() for part in ("--fund", fund_argument(address, wei))]
    output = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 -- no shell, and every word is ours or checked by the child
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(ready, lock),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(output)


async def _ready_line(pipe: FileIO) -> bytes:
    """Read the ready line; empty where the process ended instead. Raises EmbeddedError when it takes too long."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        return await asyncio.wait_for(reader.readline(), _START_SECONDS)
    except TimeoutError:
        raise EmbeddedError(f"the embedded L1 was not ready within {_START_SECONDS:.0f} s") from None
    finally:
        transport.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"it ended without a word (see {log})"
