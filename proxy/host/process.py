"""One plugin process: spawned without environment, descriptors or a folder, ended with everything it may have started.

Hands the host three pipes, the process's life and what its sandbox is; knows nothing of what is said on the pipes. It must
never pass the environment, an open descriptor other than the pipes, or a secret in the arguments, and never hand out a process
that did not report its locks. (One socket end goes along until the lock: over it comes the listener of the tripwires.)
Spawned from the loop's thread: the parent-death signal follows the thread (plugin.md, "Sandbox"). By `subprocess`, not by
the loop: uvloop would hand the child sockets instead of pipes, and every descriptor that LevelDB left inheritable.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Literal

from proxy.host.frames import MAX_LINE
from proxy.host.pipes import Incoming
from proxy.host.sandbox import deno_command
from proxy.host.sandbox.command import command
from proxy.host.sandbox.limits import Meter
from proxy.host.sandbox.report import NO_SANDBOX, Sandbox, Unsandboxed, from_report
from proxy.host.sandbox.syscalls import architecture
from proxy.host.sandbox.tripwires import Tripwires

GRACE = 2.0  # seconds between the closed pipe and SIGKILL
LOCK_SECONDS = 20.0  # until the process has said which layers hold
CPU_SECONDS_PER_MINUTE = 30.0

Runtime = Literal["python", "npm"]


class PluginProcess:
    """A running process, its pipes and its `sandbox`."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.sandbox = Sandbox(why="not locked yet")
        self._process = process
        self._line = line
        self._meter: Meter | None = None
        self._tripwires: Tripwires | None = None
        self._why = ""  # the host ended it
        self._transports: list[asyncio.BaseTransport] = []
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watch_end()

    async def open_pipes(self) -> None:
        """Make streams of the pipes."""
        process, loop = self._process, asyncio.get_running_loop()
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a plugin process is spawned with three pipes")
        writing, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        self._transports.append(writing)
        self.stdin = asyncio.StreamWriter(writing, protocol, None, loop)
        self.stdout, self.stderr = [await self._reader(pipe) for pipe in (process.stdout, process.stderr)]

    async def _reader(self, pipe: IO[bytes]) -> Incoming:
        reader = Incoming(MAX_LINE)
        reading, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._transports.append(reading)
        return reader

    async def take_report(self, memory: int, cpu: float, *, unsandboxed: bool) -> None:
        """Wait until the process has locked itself and take what it says of it. Raises Unsandboxed, OSError."""
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                line = await self.stdout.readline()
                last = b"" if line else (await self.stderr.read(MAX_LINE)).strip().rpartition(b"\n")[2]
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"it did not lock itself within {LOCK_SECONDS:g} s") from None
        if not line:
            raise OSError(errno.ECHILD, f"it ended before it was locked: {last.decode('utf-8', 'replace')[:200]}")
        report = json.loads(line)
        self.sandbox = from_report(report)
        if self.sandbox.why and not unsandboxed:
            raise Unsandboxed(self.sandbox.why)
        if self._ended.done():
            return  # at once, by itself; how, the caller hears from `wait`
        if report.get("tells"):
            self._tripwires = Tripwires(self._line, self._touched)
        self._line.close()
        self._hold(memory, cpu)

    async def give(self, bundle: bytes) -> None:
        """Hand a locked npm process the module it runs. Raises OSError."""
        self.stdin.write(b"%d\n" % len(bundle))
        self.stdin.write(bundle)
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                await self.stdin.drain()
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"it did not read its module within {LOCK_SECONDS:g} s") from None

    def _hold(self, memory: int, cpu: float) -> None:
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            raise Unsandboxed("the daemon may not signal it, so it could neither stop nor end it") from None
        if self._meter is not None:
            self._meter.start(memory, cpu, self._end_because)

    def watch(self) -> None:
        """Begin to watch its resources while its entry in /proc is still ours to open. Raises OSError."""
        if sys.platform.startswith("linux"):
            self._meter = Meter(self.pid)

    def _touched(self, name: str) -> None:
        self._end_because(f"tried {name}, which no plugin may")

    def _end_because(self, why: str) -> None:
        self._why = why
        self.kill()

    def _watch_end(self) -> None:
        loop = asyncio.get_running_loop()
        if not hasattr(os, "pidfd_open"):  # not Linux
            waiting = loop.run_in_executor(None, self._process.wait)
            waiting.add_done_callback(lambda done: self._has_ended(done.result()))
            return
        watched = os.pidfd_open(self._process.pid)

        def ended() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            self._stop_watching()  # while the number is still its own
            self._has_ended(self._process.wait())

        loop.add_reader(watched, ended)

    def _has_ended(self, code: int) -> None:
        self._stop_watching()
        if not self._ended.done():
            self._ended.set_result(code)

    def _stop_watching(self) -> None:
        self._line.close()
        if self._meter is not None:
            self._meter.close()
        if self._tripwires is not None:
            self._tripwires.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> str:
        """Return once it has ended: how, in words."""
        code = await asyncio.shield(self._ended)
        if self._why:
            return self._why
        if code == -signal.SIGSYS:
            return "was ended by the sandbox: it tried what no plugin may"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def kill(self) -> None:
        """End it and its process group at once; nothing of it survives."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if not self._ended.done():
            self._process.kill()

    def close(self) -> None:
        """End it and let go of its pipes, read to their end or not."""
        self.kill()
        for transport in self._transports:
            transport.close()

    async def finish(self) -> str:
        """Close its input, give it `GRACE` seconds, then end it; return how it ended."""
        self.stdin.close()
        try:
            async with asyncio.timeout(GRACE):
                return await self.wait()
        except TimeoutError:
            self.close()  # its end is told only once its pipes are let go
            return await self.wait()
        finally:
            self.kill()


async def spawn(
    folder: Path,
    entry: str,
    memory: int,
    mode: str = "serve",
    *,
    cpu: float = CPU_SECONDS_PER_MINUTE,
    unsandboxed: bool = False,
    runtime: Runtime = "python",
) -> PluginProcess:
    """Start and lock the process of a plugin. Raises Unsandboxed, unless `unsandboxed`, and OSError.

    `memory` in bytes, `cpu` in seconds a minute. What it returns has not parsed a byte of the plugin before it was locked.
    """
    if architecture() is None and not unsandboxed:
        raise Unsandboxed(NO_SANDBOX)
    line, their_line = socket.socketpair()
    with their_line:
        try:
            end = their_line.fileno()
            if runtime == "npm":
                arguments = deno_command.command(mode, memory=memory, line=end, unsandboxed=unsandboxed)
            else:
                arguments = command(mode, folder=folder, entry=entry, memory=memory, line=end, unsandboxed=unsandboxed)
            process = _popen(arguments, end)
        except BaseException:
            line.close()
            raise
    started = PluginProcess(process, line)
    try:
        started.watch()
        await started.open_pipes()
        await started.take_report(memory, cpu, unsandboxed=unsandboxed)
        if runtime == "npm":
            await started.give((folder / entry).read_bytes())
    except BaseException:
        started.close()
        raise
    return started


def _popen(arguments: list[str], line: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - its arguments are ours
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(line,),
        env={},
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
