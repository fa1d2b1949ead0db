"""Waiting for a reader: as long as it takes something, however slowly, and no longer.

The doors write large answers part by part and wait here between two parts; a reader that takes nothing at all for a time is
cut off, so that it holds neither memory nor a file for ever, and a slow one holds only its own connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

LOOKS = 4  # in the time a reader may take nothing


class SlowReader(ConnectionError):
    """The other side does not take what it asked for."""


async def taken(writing: Coroutine[Any, Any, Any], transport: asyncio.WriteTransport | None, seconds: float) -> None:
    """Await `writing`. Raise `SlowReader` once nothing of what waits in `transport` has been taken for `seconds`.

    The transport cannot be written to any more then.
    """
    task = asyncio.ensure_future(writing)
    least, idle = float("inf"), 0
    try:
        while not (await asyncio.wait((task,), timeout=seconds / LOOKS))[0]:
            left = 0 if transport is None else transport.get_write_buffer_size()
            least, idle = (left, 0) if left < least else (least, idle + 1)
            if idle >= LOOKS:
                raise SlowReader(f"the reader took nothing for {seconds:g} s")
        task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif not task.cancelled():
            task.exception()  # who is cancelled in the turn in which the connection ends has not heard of it
