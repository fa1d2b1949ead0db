"""The one place that knows the newest L1 block and every reorg.

Beside `L1`, which owns it and asks the node for it. It compares the node's latest block with the chain it remembers, by hash and parent
hash, fetches what lies between, and tells its listeners: a `Reorg` first if blocks went away, then a `NewHead` for each new block in
ascending order. A header the node pushes is taken at its word only where it is the child of the newest block; anything else is a hint
to look. Must never tell a block whose parent it did not tell, but behind a gap or the genesis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from weakref import WeakSet

from middleware.errors import Disconnected, RpcError
from proxy.upstream.chain_events import Event, Events, Head, NewHead, Reorg, folded
from proxy.upstream.chain_figures import ChainFigures
from proxy.upstream.chain_reader import Block, ChainReader
from proxy.upstream.headers import read_pushed
from proxy.upstream.recent_blocks import RecentBlocks

__all__ = ["BlockTracker", "Event", "Events", "Head", "NewHead", "Reorg", "folded"]

log = logging.getLogger("l2proxy.upstream")

_REMEMBERED = 512  # blocks whose hashes are kept
_BACKED = 32  # blocks below the first one that are read, so that a reorg soon after the start has an ancestor
_AGAIN_SECONDS = 0.5  # until the next look after one that failed, at most
_LAGGING_LOOKS = 8  # looks in a row that show an older block before a chain that never goes back is believed to have


class BlockTracker:
    """Follows the chain behind `call` (L1.call). `interval`: seconds between looks; `deeply_changed` is awaited when no remembered
    block is left on the chain, or the chain has become shorter, and raises `Disconnected` when it is another chain; `goes_back` tells
    whether this chain can become shorter (a dev node's can) or an older block is only a node that lags; `pushes_bodies`
    whether nodes of its kind tell `newHeads` with the body.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        interval: Callable[[], float],
        deeply_changed: Callable[[], Awaitable[None]],
        goes_back: Callable[[], bool] = lambda: True,
        pushes_bodies: Callable[[], bool] = lambda: False,
    ) -> None:
        self.head: Head | None = None
        self.finalized: Head | None = None
        self.safe: Head | None = None
        self.figures = ChainFigures()
        self._reader = ChainReader(call, pushes_bodies)
        self._interval = interval
        self._deeply_changed = deeply_changed
        self._goes_back = goes_back
        self._chain = RecentBlocks(_REMEMBERED)
        self._lagging = 0
        self._looks_begun = self._look_done = 0
        self._advancing = False
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

    def holds(self, block_hash: str) -> bool:
        """Tell whether `block_hash` is among the remembered blocks of the chain."""
        return self._chain.find(block_hash) is not None

    def poke(self) -> None:
        """Look at the chain now: something hints at a new block."""
        self._poked.set()

    def announced(self, header: bytes) -> None:
        """Take a header the node pushed (raw JSON). The next block is told at once; anything else makes the tracker look."""
        self.figures.announced += 1
        pushed = read_pushed(header)
        if pushed is None:
            self.poke()
            return
        head, self._reader.told_whole = pushed.head, pushed.whole
        old = self.head
        if old is not None and head.hash == old.hash:
            return
        if old is None or self._advancing or (head.parent_hash, head.number) != (old.hash, old.number + 1):
            self.poke()
            return
        self._adopt([Block(head, header)], None, head)

    async def run(self) -> None:
        """Follow the chain until cancelled; then every listener's events end."""
        try:
            while True:
                self._poked.clear()
                seen = await self._try(self.sync()) and await self._try(self._back_up())
                await self._pause(self._interval() if seen else min(self._interval(), _AGAIN_SECONDS))
        finally:
            for events in list(self._listeners):
                events.end()

    async def sync(self) -> Head | None:
        """Compare with the node now and tell the listeners; return the newest block. Raise what `call` raises.

        Who asks while a look is under way shares the next one with all others who do.
        """
        asked_after = self._looks_begun
        async with self._syncing:
            if self._look_done > asked_after:
                return self.head
            self._looks_begun += 1
            self.figures.looks += 1
            before = self.head
            latest = await self._reader.latest()
            if latest is None or (self.head is not None and latest.head.hash == self.head.hash):
                self._lagging = 0
            elif self.head is before or not self.holds(latest.head.hash):
                await self._advance(latest)
            # Else a header was pushed while the answer was on its way, which is older.
            self._look_done = self._looks_begun
            return self.head

    async def _try(self, reading: Coroutine[Any, Any, object]) -> bool:
        try:
            await reading
        except Disconnected as error:
            log.debug("the block tracker waits: %s", error.message)  # the owner has been told by L1
        except RpcError as error:
            log.warning("the L1 node does not tell its newest block: %s", error.message)
        else:
            return True
        return False

    async def _back_up(self) -> None:
        """Read some blocks below the lowest that is remembered; they were before anybody listened, and are told to nobody."""
        while 0 < len(self._chain) < _BACKED and self._chain.lowest.number > 0:
            lowest = self._chain.lowest
            parent = await self._reader.by_hash(lowest.parent_hash)
            if parent is None or not self._chain or self._chain.lowest is not lowest:
                return
            self._chain.put_below(parent.head)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _advance(self, latest: Block) -> None:
        """Bring the chain to `latest`. Nothing else may change it meanwhile."""
        old = self.head
        if old is None:
            self._adopt([latest], None, latest.head)
        elif not self._only_lags(latest.head, old):
            self._advancing = True
            try:
                await self._advance_from(old, latest)
            finally:
                self._advancing = False

    async def _advance_from(self, old: Head, latest: Block) -> None:
        branch = await self._reader.branch_down_from(latest, self._chain)
        if branch is None:
            return  # the chain changed while it was read; the next look sees it whole
        joined = branch[0].head.parent_hash if branch else latest.head.hash
        ancestor = self._chain.find(joined)
        if ancestor is None:
            ancestor = await self._reader.newest_of(self._chain)
        if ancestor is None or latest.head.number < old.number:
            await self._deeply_changed()
        # How deep a reorg goes below all that is remembered nobody knows; the genesis alone is sure, it is pinned.
        reorg = Reorg(old, ancestor.number if ancestor else 0, latest.head) if ancestor != old else None
        if ancestor is None:
            self._chain.clear()
        self._adopt(branch, reorg, latest.head)

    def _only_lags(self, latest: Head, old: Head) -> bool:
        """Tell whether an older block of our own chain is a node behind the others, as behind every large provider's address."""
        if self._goes_back() or latest.number >= old.number or not self.holds(latest.hash):
            return False
        self._lagging += 1
        return self._lagging < _LAGGING_LOOKS

    def _adopt(self, branch: list[Block], reorg: Reorg | None, latest: Head) -> None:
        top = reorg.ancestor_number if reorg else (self.head.number if self.head else None)
        self.head, self._lagging = latest, 0
        if reorg is not None:
            self._forget_above(reorg.ancestor_number)
            self.figures.reorgs += 1
            self._tell(reorg)
        self._chain.add(block.head for block in branch)
        for block in branch:
            number = block.head.number
            if top is not None and number <= top:
                continue
            gap = top + 1 if top is not None and number > top + 1 else None
            self.figures.heads += 1
            self._tell(NewHead(block.head, gap, block.header))
            top = number

    def _forget_above(self, ancestor: int) -> None:
        self._chain.forget_above(ancestor)
        if self.finalized is not None and self.finalized.number > ancestor:
            self.finalized = None
        if self.safe is not None and self.safe.number > ancestor:
            self.safe = None

    def _tell(self, event: Event) -> None:
        for events in list(self._listeners):
            events.put(event)
        for callback in list(self._callbacks.values()):
            try:
                callback(event)
            except Exception:
                log.exception("a listener of the L1 chain failed")
