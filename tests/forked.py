"""Starts `python -m proxy …` and the hub by a fork of a process that has their imports behind it (a second each).

The journeys start a hundred daemons and commands; what they try begins where a process has its arguments. So each worker keeps
one process, the nursery, that only imports and forks; it hands each child the arguments, environment, directory and
descriptors that a new interpreter would have got, and tells the test by the child's connection how it ended. The children are
processes like any: own session, own pid, killed with a signal. Must never be used for a test of the start itself: those of
tests/cli and the demo's command go the whole way (`@pytest.mark.usefixtures("whole_starts")`).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = ("proxy", "plugins.paychan.hub")
IMPORTED = (
    "proxy.app.daemon",
    "proxy.cli.demo",
    "proxy.cli.init",
    "proxy.cli.plugin",
    "proxy.cli.run",
    "proxy.cli.token",
    "proxy.wallet.transactions",
    "plugins.paychan.hub.server",
    "plugins.paychan.hub.watch",
)
START = asyncio.create_subprocess_exec  # the real one
_STREAMS = ("stdin", "stdout", "stderr")


class Forked:
    """What asyncio.subprocess.Process is to a started program: the part of it the journeys use."""

    def __init__(self, pid: int, answer: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._pipes: list[asyncio.ReadTransport] = []
        self._code: int | None = None
        self._ended = asyncio.create_task(self._end(answer, writer))

    async def _end(self, answer: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (self._code,) = struct.unpack("i", await answer.readexactly(4))
        writer.close()

    async def read(self, name: str, descriptor: int) -> None:
        """Give the process a pipe's reading end as `stdout` or `stderr`."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        self._pipes.append(transport)
        setattr(self, name, reader)

    @property
    def returncode(self) -> int | None:
        return self._code

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and the nursery's word of it is on its way
            if self._code is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        await asyncio.shield(self._ended)
        assert self._code is not None
        return self._code

    async def communicate(self) -> tuple[bytes | None, bytes | None]:
        async def all_of(stream: asyncio.StreamReader | None) -> bytes | None:
            return None if stream is None else await stream.read()

        out, errors = await asyncio.gather(all_of(self.stdout), all_of(self.stderr))
        await self.wait()
        return out, errors


class Nursery:
    """The process that imports and forks, seen from the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._python_path = os.environ.get("PYTHONPATH")

    async def start(self, program: Any, *arguments: Any, **options: Any) -> Any:
        """Stand in for asyncio.create_subprocess_exec: our own programs are forked, every other is started."""
        named = [os.fspath(argument) for argument in arguments]
        known = program == sys.executable and named[:1] == ["-m"] and named[1:2] != [] and named[1] in MODULES
        if not known or options.get("stdin", asyncio.subprocess.DEVNULL) != asyncio.subprocess.DEVNULL:
            return await START(program, *arguments, **options)
        environment = dict(options.get("env") or os.environ)
        if environment.get("PYTHONPATH") != self._python_path:  # modules of the owner's: they are found at the start
            return await START(program, *arguments, **options)
        wanted = {"module": named[1], "arguments": named[2:], "environment": environment}
        given, kept, opened = self._descriptors(options)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(os.fspath(self.path))
            head = struct.pack("I", len(body := json.dumps(wanted | {"cwd": os.getcwd()}).encode()))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))]
            connection.sendmsg([head], rights)
            connection.sendall(body)
        finally:
            for descriptor in opened:
                os.close(descriptor)
        answer, writer = await asyncio.open_unix_connection(sock=connection)
        (pid,) = struct.unpack("i", await answer.readexactly(4))
        process = Forked(pid, answer, writer)
        for name, descriptor in kept.items():
            await process.read(name, descriptor)
        return process

    @staticmethod
    def _descriptors(options: dict[str, Any]) -> tuple[list[int], dict[str, int], list[int]]:
        """Return the child's three descriptors, our ends of its pipes, and what is to be closed here."""
        given, kept, opened = [], {}, []
        for number, name in enumerate(_STREAMS):
            wish = options.get(name, asyncio.subprocess.DEVNULL if name == "stdin" else None)
            if wish == asyncio.subprocess.PIPE:
                kept[name], end = os.pipe()
                opened.append(end)
            elif wish == asyncio.subprocess.DEVNULL:
                opened.append(end := os.open(os.devnull, os.O_RDWR))
            elif wish == asyncio.subprocess.STDOUT:
                end = given[1]
            else:
                end = number if wish is None else wish.fileno()
            given.append(end)
        return given, kept, opened


@contextlib.contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """Run a nursery that listens in `folder`."""
    path = folder / "nursery"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(os.fspath(path))
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno()), os.fspath(path)],
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
        )
    try:
        yield Nursery(path)
    finally:
        process.communicate()  # the end of its standard input is its end
        assert process.returncode == 0


def _serve(listening: socket.socket) -> dict[str, Any] | None:
    """Fork for each connection until standard input ends; return in a child what it shall be, in the nursery None."""
    watched = selectors.DefaultSelector()
    watched.register(sys.stdin, selectors.EVENT_READ)
    watched.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fileobj is sys.stdin:
                return None
            if key.fileobj is listening:
                wanted = _born(listening.accept()[0], watched)
                if wanted is not None:
                    listening.close()
                    return wanted
            else:
                pid, connection = key.data
                watched.unregister(key.fileobj)
                os.close(int(key.fd))
                _, status = os.waitpid(pid, 0)
                _tell(connection, os.waitstatus_to_exitcode(status))
                connection.close()


def _born(connection: socket.socket, watched: selectors.BaseSelector) -> dict[str, Any] | None:
    """Fork; return in the child what it was asked to be, with its descriptors in place."""
    head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12))
    streams = list(array.array("i", ancillary[0][2]))
    (length,) = struct.unpack("I", head)
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    pid = os.fork()
    if pid:
        for descriptor in streams:
            os.close(descriptor)
        _tell(connection, pid)
        watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
        return None
    os.setsid()
    for key in list(watched.get_map().values()):
        if key.data is not None:  # another child's
            os.close(int(key.fd))
            key.data[1].close()
    watched.close()
    connection.close()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    wanted: dict[str, Any] = json.loads(body)
    return wanted


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the test may be over
        connection.sendall(struct.pack("i", number))


def main() -> None:
    """Be the nursery, or what a test asked for: `python -m tests.forked DESCRIPTOR PATH`."""
    path = Path(sys.argv[2])
    for module in IMPORTED:
        importlib.import_module(module)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        wanted = _serve(listening)
    if wanted is None:
        return
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    if wanted["arguments"][:1] == ["demo"]:  # it starts daemons and commands
        from proxy.demo.party import Party
        from tests.quick_keys import quick_init

        Party.init = quick_init  # type: ignore[method-assign]
        asyncio.create_subprocess_exec = Nursery(path).start  # type: ignore[assignment]
    sys.argv = [wanted["module"], *wanted["arguments"]]
    runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
