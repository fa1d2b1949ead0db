"""The one place that knows the newest L1 block and every reorg.

Beside `L1`, which owns it and asks the node for it. It compares the node's latest block with the chain it remembers, by hash and parent
hash, fetches what lies between, and tells its listeners: a `Reorg` first if blocks went away, then a `NewHead` for each new block in
ascending order. Polled, and poked when something hints at a new block, so no announcement of a node need be trusted or complete.
Bounded memory: a listener that falls behind finds its queue folded into one reorg and one new head with `gap_from`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakSet

from middleware.errors import Disconnected, RpcError

log = logging.getLogger("l2proxy.upstream")

_REMEMBERED = 512  # blocks whose hashes are kept
_FILLED = 256  # blocks fetched one by one at most, before the rest becomes a gap
_QUEUED = 4096  # events a listener may be behind


@dataclass(frozen=True, slots=True)
class Head:
    """A block by its header. Hashes are 0x + 64 hex, `timestamp` unix seconds of the chain."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class NewHead:
    """`head` has become part of the chain. With `gap_from` the blocks from that number up to it were not told one by one."""

    head: Head
    gap_from: int | None = None


@dataclass(frozen=True, slots=True)
class Reorg:
    """Every block above `ancestor_number` that was told before is gone; `to_head` is the newest block now.

    0 where no remembered block is left: the reorg is deeper than the tracker's memory.
    """

    from_head: Head
    ancestor_number: int
    to_head: Head


Event: TypeAlias = NewHead | Reorg


class Events:
    """What happens on the chain from now on, for one listener; ends when the tracker does."""

    def __init__(self) -> None:
        self._queue: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._over = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    def put(self, event: Event) -> None:
        """Add `event`; fold the queue when the listener is too far behind."""
        self._queue.append(event)
        if len(self._queue) > _QUEUED:
            self._queue = deque(folded(self._queue))
        self._arrived.set()

    def drain(self) -> list[Event]:
        """Return what has been told and not taken yet, without waiting."""
        events = list(self._queue)
        self._queue.clear()
        return events

    def end(self) -> None:
        """Let the listener finish what is queued and stop."""
        self._over = True
        self._arrived.set()


def folded(events: deque[Event]) -> list[Event]:
    """Return `events` as at most one reorg and one new head that say the same about the chain.

    `from_head` of such a reorg may be a block the listener was never told.
    """
    first, last = events[0], events[-1]
    newest = last.head if isinstance(last, NewHead) else last.to_head
    told = first.from_head.number if isinstance(first, Reorg) else (first.gap_from or first.head.number) - 1
    reorgs = [event for event in events if isinstance(event, Reorg)]
    kept = min([told, *(reorg.ancestor_number for reorg in reorgs)])
    less: list[Event] = [Reorg(reorgs[0].from_head, kept, newest)] if kept < told else []
    if newest.number > kept:
        less.append(NewHead(newest, gap_from=kept + 1))
    return less


class BlockTracker:
    """Follows the chain behind `call` (L1.call). `interval`: seconds between polls; `deeply_changed` is awaited when no remembered
    block is left on the chain, or the chain has become shorter, and raises `Disconnected` when it is another chain.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        interval: Callable[[], float],
        deeply_changed: Callable[[], Awaitable[None]],
    ) -> None:
        self.head: Head | None = None
        self.finalized: Head | None = None
        self.safe: Head | None = None
        self._call = call
        self._interval = interval
        self._deeply_changed = deeply_changed
        self._chain: deque[Head] = deque(maxlen=_REMEMBERED)
        self._listeners: WeakSet[Events] = WeakSet()
        self._callbacks: dict[object, Callable[[Event], None]] = {}
        self._poked = asyncio.Event()
        self._syncing = asyncio.Lock()

    def events(self) -> Events:
        """Return what happens from this moment on, for `async for`; `head` is what was before."""
        events = Events()
        self._listeners.add(events)
        return events

    def on_change(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call `callback` at once with every `NewHead` and `Reorg`, after `head` has changed; return how to stop."""
        key = object()
        self._callbacks[key] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def poke(self) -> None:
        """Look at the chain now: something hints at a new block."""
        self._poked.set()

    async def run(self) -> None:
        """Follow the chain until cancelled; then every listener's events end."""
        try:
            while True:
                self._poked.clear()
                await self._try_to_sync()
                await self._pause()
        finally:
            for events in list(self._listeners):
                events.end()

    async def sync(self) -> Head | None:
        """Compare with the node now and tell the listeners; return the newest block. Raise what `call` raises."""
        async with self._syncing:
            latest = await self._block("eth_getBlockByNumber", "latest")
            if latest is not None and (self.head is None or latest.hash != self.head.hash):
                await self._advance(latest)
            return self.head

    async def _try_to_sync(self) -> None:
        try:
            await self.sync()
        except Disconnected as error:
            log.debug("the block tracker waits: %s", error.message)  # the owner has been told by L1
        except RpcError as error:
            log.warning("the L1 node does not tell its newest block: %s", error.message)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval()):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _advance(self, latest: Head) -> None:
        old = self.head
        if old is None:
            self._adopt([latest], None, latest)
            return
        branch = await self._branch_down_from(latest)
        if branch is None:
            return  # the chain changed while it was read; the next look sees it whole
        joined = branch[0].parent_hash if branch else latest.hash
        ancestor = next((head for head in self._chain if head.hash == joined), None)
        if ancestor is None:
            ancestor = await self._still_there()
        if ancestor is None or latest.number < old.number:
            await self._deeply_changed()
        # How deep a reorg goes below all that is remembered nobody knows; the genesis alone is sure, it is pinned.
        reorg = Reorg(old, ancestor.number if ancestor else 0, latest) if ancestor != old else None
        if ancestor is None:
            self._chain.clear()
        self._adopt(branch, reorg, latest)

    async def _branch_down_from(self, latest: Head) -> list[Head] | None:
        """Return the unknown blocks up to `latest`, ascending, as far down as they are fetched; None when one has vanished."""
        known = {head.hash for head in self._chain}
        if latest.hash in known:
            return []
        branch = deque([latest])
        lowest = self._chain[0].number
        while branch[0].parent_hash not in known and branch[0].number > lowest and len(branch) < _FILLED:
            parent = await self._block("eth_getBlockByHash", branch[0].parent_hash)
            if parent is None:
                return None
            branch.appendleft(parent)
        return list(branch)

    async def _still_there(self) -> Head | None:
        """Return the newest remembered block that is on the node's chain still; None when all are gone."""
        chain = list(self._chain)
        low, high = 0, len(chain)
        while low < high:  # a block on the chain has all its ancestors on it
            middle = (low + high) // 2
            found = await self._block("eth_getBlockByNumber", hex(chain[middle].number))
            if found is not None and found.hash == chain[middle].hash:
                low = middle + 1
            else:
                high = middle
        return chain[low - 1] if low else None

    def _adopt(self, branch: list[Head], reorg: Reorg | None, latest: Head) -> None:
        top = reorg.ancestor_number if reorg else (self.head.number if self.head else None)
        self.head = latest
        if reorg is not None:
            while self._chain and self._chain[-1].number > reorg.ancestor_number:
                self._chain.pop()
            self._tell(reorg)
        if branch and top is not None and branch[0].number > top + 1:
            self._chain.clear()  # what is remembered must be without a hole
        self._chain.extend(branch)
        for head in branch:
            if top is not None and head.number <= top:
                continue
            gap = top + 1 if top is not None and head.number > top + 1 else None
            self._tell(NewHead(head, gap))
            top = head.number

    def _tell(self, event: Event) -> None:
        for events in list(self._listeners):
            events.put(event)
        for callback in list(self._callbacks.values()):
            try:
                callback(event)
            except Exception:
                log.exception("a listener of the L1 chain failed")

    async def _block(self, method: str, which: str) -> Head | None:
        block = await self._call(method, which, False)
        if block is None:
            return None
        try:
            number, timestamp = int(block["number"], 16), int(block["timestamp"], 16)
            return Head(number, str(block["hash"]), str(block["parentHash"]), timestamp)
        except (KeyError, TypeError, ValueError) as error:
            raise Disconnected(f"the L1 node answered {method} with something that is not a block") from error
