"""The finalized and the safe block: read after new heads, not more often than it pays, and kept on the block tracker.

Beside `block_tracker`; run by `following`. None where the node knows no such tag, and from a reorg below it until it was read again.
Must never name a block above the newest head.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.errors import Disconnected, RpcError
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Head
from proxy.upstream.headers import read_head

log = logging.getLogger("l2proxy.upstream")


class Settled:
    """Keeps `blocks.finalized` and `blocks.safe`. `call`: L1.call; `pace`: seconds between two readings at least."""

    def __init__(self, blocks: BlockTracker, call: Callable[..., Awaitable[Any]], pace: Callable[[], float]) -> None:
        self._blocks = blocks
        self._call = call
        self._pace = pace

    async def run(self) -> None:
        """Read both after every new head until cancelled; heads that come within `pace` share one reading."""
        changed = asyncio.Event()
        if self._blocks.head is not None:
            changed.set()
        stop = self._blocks.on_change(lambda _: changed.set())
        try:
            while True:
                await changed.wait()
                changed.clear()
                await self.read()
                await asyncio.sleep(self._pace())
        finally:
            stop()

    async def read(self) -> None:
        """Read both now; what no node answers stays as it was."""
        try:
            self._blocks.finalized = await self._one("finalized")
            self._blocks.safe = await self._one("safe")
        except Disconnected as error:
            log.debug("the finalized block is read later: %s", error.message)

    async def _one(self, tag: str) -> Head | None:
        reorgs = -1
        block = None
        while reorgs != self._blocks.figures.reorgs:  # an answer from before a reorg is none
            reorgs = self._blocks.figures.reorgs
            try:
                block = await self._call("eth_getBlockByNumber", tag, False)
            except Disconnected:
                raise
            except RpcError:
                return None  # before the merge, and on many layer-2 chains, there is none
        head, newest = None if block is None else read_head(block, tag), self._blocks.head
        return None if head is None or newest is None or head.number > newest.number else head
