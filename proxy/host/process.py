"""One plugin process: spawned without environment, descriptors or a folder, ended with everything it may have started.

Hands the host three pipes and the process's life; knows nothing of what is said on them. It must never pass the
environment, an open descriptor other than the pipes, or a secret in the arguments. Spawned from the loop's thread: the
parent-death signal follows the thread (plugin.md, "Sandbox"). By `subprocess`, not by the loop: uvloop would hand the
child sockets instead of pipes, and every descriptor that LevelDB left inheritable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import l2proxy_sdk

from proxy.host.frames import MAX_LINE

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
SDK = Path(l2proxy_sdk.__file__).parent.parent
GRACE = 2.0  # seconds between the closed pipe and SIGKILL


class PluginProcess:
    """A running process and its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
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

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=MAX_LINE)
        reading, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._transports.append(reading)
        return reader

    def _watch_end(self) -> None:
        loop, watched = asyncio.get_running_loop(), os.pidfd_open(self._process.pid)

        def ended() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            code = self._process.wait()
            if not self._ended.done():
                self._ended.set_result(code)

        loop.add_reader(watched, ended)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> str:
        """Return once it has ended: how, in words."""
        code = await asyncio.shield(self._ended)
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


async def spawn(folder: Path, entry: str, memory: int, mode: str = "serve") -> PluginProcess:
    """Start the process of a Python plugin. Raises OSError when the system cannot."""
    config = {
        "parent": os.getpid(),
        "sdk": str(SDK),
        "folder": str(folder),
        "entry": entry,
        "memory": memory,
        "mode": mode,
    }
    process = subprocess.Popen(  # noqa: ASYNC220, S603  (a fork of a few milliseconds; its arguments are ours)
        [sys.executable, "-I", "-S", "-B", str(BOOTSTRAP), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
    started = PluginProcess(process)
    try:
        await started.open_pipes()
    except BaseException:
        started.close()
        raise
    return started
