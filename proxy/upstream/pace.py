"""How long to wait before the next look at the newest block of a node that announces nothing.

Asked by `following`. Follows the block time the chain shows: hardly looks while the next block cannot be there yet, looks often around
the moment it should come, and falls back to a calm beat where blocks stay away. Dev nodes go back without a word, so they are looked
at in a fixed short beat. No I/O here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from proxy.upstream.chain_events import Event, Head, NewHead

# Seconds between looks at most: near dev nodes make blocks at any moment and go back without a word.
POLL_DEV, POLL_NEAR, POLL_FAR = 0.2, 1.0, 4.0

_BLOCKS = 16  # blocks whose times count
_EARLY = 0.9  # of a block time: before that no block is expected
_OFTEN = 12  # looks within one block time, once it is due
_LATE = 4  # block times without a block, after which the beat is calm again


class Pace:
    """Learns the block time from the heads it is told. `longest`: seconds between looks at most, as the node's distance asks."""

    def __init__(self, longest: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._heads: deque[Head] = deque(maxlen=_BLOCKS)
        self._seen_at = clock()

    def take(self, event: Event) -> None:
        """Learn from what the tracker told."""
        if not isinstance(event, NewHead) or event.gap_from is not None:
            self._heads.clear()
        if isinstance(event, NewHead):
            self._heads.append(event.head)
            self._seen_at = self._clock()

    @property
    def block_time(self) -> float | None:
        """Seconds between blocks as their timestamps tell; None while it is not known."""
        if len(self._heads) < 3:
            return None
        first, last = self._heads[0], self._heads[-1]
        seconds = (last.timestamp - first.timestamp) / (last.number - first.number)
        return seconds if seconds > 0 else None

    @property
    def since_head(self) -> float:
        """Seconds since a block was told."""
        return self._clock() - self._seen_at

    def wait(self) -> float:
        """Return how many seconds to wait before the next look."""
        longest, block_time = self._longest(), self.block_time
        if longest <= POLL_DEV or block_time is None or self.since_head > _LATE * block_time:
            return longest
        shortest = longest / 8
        until_due = _EARLY * block_time - self.since_head
        return min(longest, max(shortest, until_due if until_due > 0 else block_time / _OFTEN))
