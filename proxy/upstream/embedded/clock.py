"""The time new blocks carry: wall time plus what evm_increaseTime added, always later than the parent.

Blocks are mined per transaction, so many blocks within one second drift ahead of the wall clock by a second each; the EVM forbids two
blocks of one time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Unix seconds for the next block: `offset` is the sum of all jumps, `exact` a time set for one block."""

    offset: int = 0
    exact: int | None = None

    def next_timestamp(self, parent: int) -> int:
        """Return the time a block on a parent of time `parent` would carry now."""
        wanted = self.exact if self.exact is not None else int(time.time()) + self.offset
        return max(wanted, parent + 1)

    def sealed(self, timestamp: int) -> None:
        """Note that a block was sealed; a time set for one block goes on from there."""
        if self.exact is not None:
            self.offset = timestamp - int(time.time())
            self.exact = None
