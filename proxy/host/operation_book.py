"""Are these the newest operations there were? How often they were written, counted with them and once more outside (security.md 24).

Read at the start. Operations of a data directory that was put back from a backup may have gone on in the time the backup
does not know of: what was approved then and not signed may long be on L1, so that it is asked again (hardening.md 13). The
counter outside is written after the commit, never before: a crash between both leaves it behind, which proves nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from proxy.storage import Batch, Space
from proxy.storage.counter import Counter

_KEY = b"book"


class _Page(msgspec.Struct, frozen=True):
    id: str
    count: int


class Book:
    """The counters of one chain's operations, begun with the first start. `folder`: of the counters outside the data directory."""

    def __init__(self, space: Space, folder: Path) -> None:
        self._space = space
        stored = space.get(_KEY)
        page = _Page(secrets.token_hex(16), 0) if stored is None else msgspec.json.decode(stored, type=_Page)
        self._id, self._count = page.id, page.count
        if stored is None:
            space.write({_KEY: msgspec.json.encode(page)})
        self._counter = Counter(folder, page.id)
        self._is_settled = False

    def doubt(self) -> str:
        """Return what speaks against these being the newest operations, empty: nothing does. Said until `settle`."""
        outside = self._counter.read()
        if outside is None:
            return "no counter of the operations is left outside the data directory" if self._count else ""
        if outside <= self._count:
            return ""
        return f"the operations were written {self._count} times, and {outside} times are known of outside of them"

    def settle(self) -> None:
        """Every operation in doubt is on disk as such: count on from here."""
        self._is_settled = True
        self.committed()  # before anything is written for which its absence would speak

    def put(self, batch: Batch) -> None:
        """Count one more write, in the batch that writes."""
        self._count += 1
        batch.put(self._space, _KEY, msgspec.json.encode(_Page(self._id, self._count)))

    def committed(self) -> None:
        """Take the counter outside along, once the batch is on disk."""
        if self._is_settled:
            self._counter.write(self._count)

    def close(self) -> None:
        """Let go of the counter."""
        self._counter.close()
