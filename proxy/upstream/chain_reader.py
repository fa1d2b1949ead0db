"""Reads blocks for the block tracker: the newest one, those between it and what is remembered, and which of these still stand.

Asked by `block_tracker` alone; asks the node through L1.call, whose errors pass. Bounded: a long way down is not read to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from middleware.errors import Disconnected
from proxy.upstream.chain_events import Head
from proxy.upstream.headers import as_pushed, read_head
from proxy.upstream.recent_blocks import RecentBlocks

_FILLED = 256  # blocks fetched one by one at most, before the rest becomes a gap


class Block(msgspec.Struct, frozen=True):
    """A block that was read, or a header that was pushed; `header` is the raw JSON subscribers get."""

    head: Head
    header: bytes


class ChainReader:
    """Reads blocks by `call` (L1.call). `told_whole`: whether the node pushes blocks with their bodies; None while it has pushed
    none, and `pushes_bodies` tells whether its kind does.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], pushes_bodies: Callable[[], bool]) -> None:
        self.told_whole: bool | None = None
        self._call = call
        self._pushes_bodies = pushes_bodies

    async def latest(self) -> Block | None:
        """Return the newest block."""
        return await self._block("eth_getBlockByNumber", "latest")

    async def by_hash(self, block_hash: str) -> Block | None:
        """Return the block of this hash. Raise `Disconnected` where the node tells another."""
        block = await self._block("eth_getBlockByHash", block_hash)
        if block is not None and block.head.hash.lower() != block_hash.lower():
            raise Disconnected("the L1 node answered eth_getBlockByHash with another block than it was asked for")
        return block

    async def branch_down_from(self, latest: Block, chain: RecentBlocks) -> list[Block] | None:
        """Return the blocks up to `latest` that are not in `chain`, ascending, as far down as they are fetched.

        None when one has vanished while they were read. Raise `Disconnected` where a node's numbers and parents disagree.
        """
        known, lowest = chain.hashes(), chain.lowest.number
        if latest.head.hash in known:
            return []
        branch = deque([latest])
        while (first := branch[0].head).parent_hash not in known and first.number > lowest and len(branch) < _FILLED:
            parent = await self.by_hash(first.parent_hash)
            if parent is None:
                return None
            branch.appendleft(parent)
            _follows(first, parent.head)
        _follows(branch[0].head, chain.find(branch[0].head.parent_hash))
        return list(branch)

    async def newest_of(self, chain: RecentBlocks) -> Head | None:
        """Return the newest block of `chain` that is on the node's chain still; None when all are gone."""
        heads = chain.all()
        low, high = 0, len(heads)
        while low < high:  # a block on the chain has all its ancestors on it
            middle = (low + high) // 2
            found = await self._block("eth_getBlockByNumber", hex(heads[middle].number))
            if found is not None and found.head.hash == heads[middle].hash:
                low = middle + 1
            else:
                high = middle
        return heads[low - 1] if low else None

    async def _block(self, method: str, which: str) -> Block | None:
        block = await self._call(method, which, False)
        if block is None:
            return None
        whole = self._pushes_bodies() if self.told_whole is None else self.told_whole
        return Block(read_head(block, method), as_pushed(block, whole=whole))


def _follows(head: Head, parent: Head | None) -> None:
    """Raise `Disconnected` where `parent` cannot be the parent of `head`."""
    if parent is not None and parent.number != head.number - 1:
        raise Disconnected("the L1 node tells blocks whose numbers and parents disagree")
