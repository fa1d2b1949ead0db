"""One plugin process: spawned without environment, descriptors or a folder, ended with everything it may have started.

Hands the host a pair of pipes and the process's life; knows nothing of what is said on them. It must never pass the
environment, an open descriptor other than the three pipes, or a secret in the arguments. Spawned from the loop's thread:
the parent-death signal follows the thread (plugin.md, "Sandbox").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import l2proxy_sdk

from proxy.host.frames import MAX_LINE

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
SDK = Path(l2proxy_sdk.__file__).parent.parent
GRACE = 2.0  # seconds between the closed pipe and SIGKILL


class PluginProcess:
    """A running process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process, transport: asyncio.SubprocessTransport) -> None:
        self._transport = transport
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a plugin process is spawned with three pipes")
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> str:
        """Return once it has ended: how, in words."""
        code = await self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def kill(self) -> None:
        """End it and its process group at once; nothing of it survives."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """End it and let go of its pipes, read to their end or not."""
        self.kill()
        self._transport.close()

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
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=MAX_LINE, loop=loop),
        *(sys.executable, "-I", "-S", "-B", str(BOOTSTRAP), json.dumps(config)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
    return PluginProcess(asyncio.subprocess.Process(transport, protocol, loop), transport)
