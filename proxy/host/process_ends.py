"""How a plugin's process comes to its end: its last words, the reason, and nobody left waiting for a pipe.

Used by `lifecycle` alone. It must never wait without a bound: a pipe that somebody else holds open has no end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from proxy.host.pacing import Pace
from proxy.host.process import PluginProcess

MAX_PRINTED = 64 * 1024  # bytes of one line on standard error


async def copy_printed(stderr: asyncio.StreamReader, write: Callable[[str], None]) -> None:
    """Write each line of standard error until its end; a longer one in pieces."""
    pending, pace = b"", Pace()
    while chunk := await stderr.read(16 * 1024):
        began = time.perf_counter()
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) > MAX_PRINTED:
            lines, pending = [*lines, pending], b""
        for line in lines:
            write(line.decode("utf-8", "replace"))
        pace.spend(time.perf_counter() - began)
        await pace.give_way()
    if pending:
        write(pending.decode("utf-8", "replace"))


async def how_it_ended(reason: str, ending: asyncio.Task[str], process: PluginProcess, seconds: float) -> str:
    """Prefer how the process ended over the closed pipe that followed from it."""
    if not reason.startswith("ended"):
        return reason
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(ending)
    except TimeoutError:
        process.kill()
        return "closed its output"


async def settle(*tasks: asyncio.Task[Any]) -> None:
    """Give what reads from a dead process a moment to reach the end; a pipe somebody else holds open has none."""
    _, pending = await asyncio.wait(tasks, timeout=1.0)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def either(*events: asyncio.Event) -> None:
    """Return once one of them is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
