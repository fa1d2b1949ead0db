"""Blocking work of one plugin beside the loop: one piece at a time, in the order it was asked for.

A synced write or a long computation on the loop would hold up every caller of the daemon; here it holds up the plugin that
wants it. What was begun is finished, also when nobody waits for it any more: a database is never closed under a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Aside:
    """The blocking work of one plugin."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Return what `work` returns, or raise what it raises."""
        async with self._turn:
            if self._running is not None:
                await asyncio.wait([self._running])  # its asker has gone
            running: asyncio.Future[Answer] = asyncio.ensure_future(asyncio.to_thread(work))
            self._running = running
            running.add_done_callback(self._ended)
            return await asyncio.shield(running)

    async def close(self) -> None:
        """Return once nothing runs any more."""
        if self._running is not None:
            await asyncio.wait([self._running])

    def _ended(self, running: asyncio.Future[Any]) -> None:
        if self._running is running:
            self._running = None
        if not running.cancelled():
            running.exception()  # seen, whether or not its asker is still there
