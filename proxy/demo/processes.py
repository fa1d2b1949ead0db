"""Child processes that say on their first line of standard output when they answer.

Every process gets a log file of its own; one that ends early is reported with the last lines of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec


class ProcessFailed(Exception):
    """A child process ended, or did not say it was ready."""


class Process:
    """A running child process and what it said when it was ready."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, ready: dict[str, Any], log: Path) -> None:
        self.name = name
        self.ready = ready
        self.log = log
        self._process = process
        self._drain = asyncio.create_task(_discard(_output(process)))

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Process:
        """Start `command` and wait for its ready line (one JSON object). Raise `ProcessFailed` with its last words."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(timeout):
                line = await _output(process).readline()
            ready = msgspec.json.decode(line, type=dict[str, Any])
        except (TimeoutError, msgspec.DecodeError) as error:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise ProcessFailed(f"{name} did not start: {last_words(log)}") from error
        return cls(name, process, ready, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def stop(self) -> int:
        """Ask the process to end (SIGTERM), wait, and return its exit code; kill it after 15 s."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """Kill the process at once (SIGKILL), as a power cut would."""
        return await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self.running:
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(70):  # a little longer than a daemon gives what is in flight
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await self._drain
        return code


def _output(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise RuntimeError("the process was started without a pipe for its output")
    return process.stdout


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def last_words(log: Path, lines: int = 5) -> str:
    """Return the last lines of a log, for an error message."""
    text = log.read_text("utf-8", "replace").strip() if log.exists() else ""
    return " | ".join(text.splitlines()[-lines:]) or "it said nothing"
