"""The newest blocks of the chain by number and hash, without a hole, as many as a reorg may need.

Kept by `block_tracker`. No I/O here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from proxy.upstream.chain_events import Head


class RecentBlocks:
    """Ascending blocks, each the parent of the next; at most `most`, the oldest fall out."""

    def __init__(self, most: int) -> None:
        self._heads: deque[Head] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def lowest(self) -> Head:
        """The oldest one."""
        return self._heads[0]

    def all(self) -> list[Head]:
        """Return them, ascending."""
        return list(self._heads)

    def find(self, block_hash: str) -> Head | None:
        """Return the block of this hash."""
        return next((head for head in reversed(self._heads) if head.hash == block_hash), None)

    def hashes(self) -> set[str]:
        """Return all hashes."""
        return {head.hash for head in self._heads}

    def add(self, branch: Iterable[Head]) -> None:
        """Add the next blocks; those before a hole are forgotten."""
        for head in branch:
            if self._heads and head.number != self._heads[-1].number + 1:
                self._heads.clear()
            self._heads.append(head)

    def put_below(self, head: Head) -> None:
        """Add the parent of the oldest one."""
        self._heads.appendleft(head)

    def forget_above(self, number: int) -> None:
        """Drop every block above `number`."""
        while self._heads and self._heads[-1].number > number:
            self._heads.pop()

    def clear(self) -> None:
        """Drop every block."""
        self._heads.clear()
