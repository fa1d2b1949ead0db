"""What happens on the L1 chain, in two words: a new head, a reorg; and the queue of one who listens.

Told by `block_tracker`, heard all over the proxy. Bounded memory: a listener that falls behind finds its queue folded into one
reorg and one new head with `gap_from`. No I/O here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeAlias

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
    """`head` has become part of the chain. With `gap_from` the blocks from that number up to it were not told one by one.

    `header`: the block as `newHeads` tells it, raw JSON; empty in an event that was folded.
    """

    head: Head
    gap_from: int | None = None
    header: bytes = field(default=b"", compare=False, repr=False)


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
        # The blocks a reorg leads to are told right behind it: folded before these, they would be told twice.
        complete = isinstance(event, NewHead) or event.to_head.number == event.ancestor_number
        if len(self._queue) > _QUEUED and complete:
            self._queue = deque(folded(self._queue))
        self._arrived.set()

    @property
    def reorganised(self) -> bool:
        """Tell whether a reorg is among what has not been taken yet."""
        return any(isinstance(event, Reorg) for event in self._queue)

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


def still_true(events: list[Event]) -> list[Event]:
    """Return `events` without blocks that a later reorg among them took away: who was not told of them need not be.

    Of a gap that a reorg cut the lower part is still to be told: it becomes the gap of the block after the reorg.
    """
    kept: list[Event] = []
    gap_from: int | None = None
    for event in events:
        if isinstance(event, Reorg):
            ancestor = event.ancestor_number
            cut = [one for one in kept if isinstance(one, NewHead) and one.head.number > ancestor]
            kept = [one for one in kept if isinstance(one, Reorg) or one.head.number <= ancestor]
            kept.append(event)
            gap_from = min((g for one in cut if (g := one.gap_from) is not None and g <= ancestor), default=gap_from)
            if gap_from is not None and event.to_head.number == ancestor:
                kept.append(NewHead(event.to_head, gap_from))
                gap_from = None
        elif gap_from is not None:
            kept.append(NewHead(event.head, gap_from))
            gap_from = None
        else:
            kept.append(event)
    return kept
