"""What has happened since a filter was last asked, by kind: logs, blocks, pending transactions.

Kept by `filters`. Logs and blocks follow the block tracker; what could not be read stays for the next time, so nothing is lost and
nothing handed out twice. Pending transactions of all filters come from one filter at the node. Source: geth's filter semantics.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from weakref import WeakSet

from middleware.errors import Disconnected, RpcError
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, Events, Head, NewHead, folded, still_true
from proxy.upstream.followed_logs import Behind, FollowedLogs
from proxy.upstream.headers import read_head
from proxy.upstream.log_filter import LogFilter
from proxy.upstream.polled import PendingTransactions

_LEFT = 4096  # events kept at most while one of them cannot be dealt with
_GAP_HASHES = 1024  # block hashes handed out at most for blocks that were told as a gap
_PENDING_KEPT = 16_384  # hashes of pending transactions kept for one filter


class L1(Protocol):
    """What filters are made from."""

    blocks: BlockTracker

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result of `method`."""


class Changes(Protocol):
    """One kind of filter: what has happened since it was last asked."""

    async def take(self) -> list[Any]:
        """Return the changes and forget them."""


class _Followed:
    """What a filter has not looked at yet. An event that could not be dealt with stays for the next time."""

    def __init__(self, blocks: BlockTracker) -> None:
        self.left: list[Event] = []
        self._blocks = blocks
        self._events: Events = blocks.events()

    async def look(self) -> None:
        """Bring `left` up to the present. Raise what L1 raises."""
        await self._blocks.sync()
        self.left = still_true([*self.left, *self._events.drain()])
        if len(self.left) > _LEFT:
            self.left = folded(deque(self.left))

    async def first(self, take: Callable[[Event], Awaitable[bool]]) -> None:
        """Deal with the first of `left`; one that has left the chain meanwhile is skipped, its reorg takes it back."""
        event = self.left[0]
        try:
            if await take(event):
                del self.left[0]
        except RpcError as error:
            if isinstance(error, Disconnected) and not isinstance(error, Behind):
                raise
            await self.look()
            if any(one is event for one in self.left):
                raise  # else its reorg, told meanwhile, has crossed it out


class LogChanges:
    """The logs `wanted` asks for, of blocks after the present one; again with `removed: true` when a reorg takes them back."""

    def __init__(self, l1: L1, wanted: LogFilter) -> None:
        self._new: list[Any] = []
        self._followed = _Followed(l1.blocks)
        self._logs = FollowedLogs(l1.call, wanted, self._new.append, l1.blocks.head)

    async def take(self) -> list[Any]:
        """Return the changes and forget them."""
        await self._followed.look()
        while self._followed.left:
            await self._logs.read_ahead(self._followed.left)
            await self._followed.first(self._logs.take)
        new = list(self._new)
        self._new.clear()
        return new


class BlockChanges:
    """The hashes of blocks after the present one, those of a new branch included."""

    def __init__(self, l1: L1) -> None:
        self._l1 = l1
        self._new: list[str] = []
        self._told_last: deque[str] = deque(maxlen=_GAP_HASHES)
        self._lowest = l1.blocks.head.number + 1 if l1.blocks.head else 0
        self._followed = _Followed(l1.blocks)

    async def take(self) -> list[Any]:
        """Return the changes and forget them."""
        await self._followed.look()
        while self._followed.left:
            await self._followed.first(self._told)
        new, self._new = self._new, []
        return new

    async def _told(self, event: Event) -> bool:
        if not isinstance(event, NewHead):
            return True
        heads: list[Head] = []
        if event.gap_from is not None:
            lowest = max(event.gap_from, self._lowest, event.head.number - _GAP_HASHES)
            for number in range(lowest, event.head.number):
                block = await self._l1.call("eth_getBlockByNumber", hex(number), False)
                if block is None:
                    raise Behind
                heads.append(read_head(block, "eth_getBlockByNumber"))
        heads.append(event.head)
        if any(parent.hash != head.parent_hash for parent, head in itertools.pairwise(heads)):
            raise Behind
        # A reorg deeper than the tracker remembers says that all may be new, and much of it is what was told.
        known = frozenset(self._told_last if event.gap_from is not None else ())
        new = [head.hash for head in heads if head.hash not in known]
        self._told_last.extend(new)
        self._new += new
        return True


class PendingFeed:
    """The one filter at the node that all filters for pending transactions live on."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call
        self._at_node = PendingTransactions(call)
        self._members: WeakSet[PendingChanges] = WeakSet()
        self._asking = asyncio.Lock()

    async def join(self, *, whole: bool) -> PendingChanges:
        """Return the changes from now on."""
        await self.look()
        member = PendingChanges(self, self._call, whole=whole)
        self._members.add(member)
        return member

    async def look(self) -> None:
        """Ask the node once and hand every member what is new."""
        async with self._asking:
            new = await self._at_node.new()
        for member in self._members:
            member.found.extend(new)

    async def leave(self, member: PendingChanges) -> None:
        """Forget `member`; the node may forget its filter when it was the last one."""
        self._members.discard(member)
        if not self._members:
            await self._at_node.end()


class PendingChanges:
    """Pending transactions since the last poll, hashes or (`whole`) objects; of very many the oldest are dropped."""

    def __init__(self, feed: PendingFeed, call: Callable[..., Awaitable[Any]], *, whole: bool) -> None:
        self.found: deque[Any] = deque(maxlen=_PENDING_KEPT)
        self._ready: deque[Any] = deque(maxlen=_PENDING_KEPT)  # looked up, and not handed out yet
        self._feed = feed
        self._call = call
        self._whole = whole

    async def take(self) -> list[Any]:
        """Return the changes and forget them."""
        await self._feed.look()
        if not self._whole:
            self._ready.extend(self.found)
            self.found.clear()
        for _ in range(len(self.found)):
            asked = self.found[0]
            transaction = await self._call("eth_getTransactionByHash", asked)
            if self.found and self.found[0] is asked:  # else very many came meanwhile, and it was dropped
                self.found.popleft()
            if transaction is not None:
                self._ready.append(transaction)
        changes = list(self._ready)
        self._ready.clear()
        return changes
