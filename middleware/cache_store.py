"""Remembered answers, bounded by bytes; the oldest is given up first, unless it was asked for since. No rules in here; see `cache`.

Two shelves: what holds for ever, and what holds as long as the head does; the second is emptied in one go.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

Key: TypeAlias = tuple[str, str, bytes]
"""Partition, method, raw params."""

_OVERHEAD: Final = 480  # bytes an entry costs beside its texts: key, entry, two dictionary slots


class Kept:
    """One answer without its id.

    `until`: second of the clock when it ends, None for ever; `renew`: from when on it should be asked anew; `pin`: the block
    that a tag named, (tag, hash); `asked_for`: again, since its turn to be given up.
    """

    __slots__ = ("asked_for", "head", "pin", "renew", "size", "tail", "until")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head, self.tail = head, tail
        self.until: float | None = None
        self.renew: float | None = None
        self.pin: tuple[str, str] | None = None
        self.size = 0
        self.asked_for = False


class CacheFigures:
    """What the cache did since the daemon started; `bytes` and `entries` are now."""

    __slots__ = ("bytes", "entries", "evictions", "flushes", "hits", "misses", "stores")

    def __init__(self) -> None:
        self.hits = self.misses = self.stores = self.evictions = self.flushes = self.bytes = self.entries = 0


class CacheStore:
    """`most_bytes`: of all answers together; one may take a sixteenth of it."""

    __slots__ = ("_fleeting", "_lasting", "_most", "figures", "largest")

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.largest = most_bytes // 16
        self.figures = CacheFigures()
        self._lasting: OrderedDict[Key, Kept] = OrderedDict()
        self._fleeting: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """Return what is kept under `key`; it has another turn before it is given up."""
        kept = self._fleeting.get(key)
        if kept is None:
            kept = self._lasting.get(key)
            if kept is None:
                return None
        kept.asked_for = True
        return kept

    def put(self, key: Key, kept: Kept) -> None:
        """Keep an answer in place of what was under `key`, and give up others to stay within the bytes."""
        kept.size = len(kept.head) + len(kept.tail) + len(key[2]) + _OVERHEAD
        self.drop(key)
        if kept.size > self.largest:
            return
        shelf = self._lasting if kept.until is None else self._fleeting
        shelf[key] = kept
        figures = self.figures
        figures.stores += 1
        figures.entries += 1
        figures.bytes += kept.size
        while figures.bytes > self._most:
            self._give_up()

    def drop(self, key: Key) -> None:
        """Forget one answer."""
        kept = self._fleeting.pop(key, None) or self._lasting.pop(key, None)
        if kept is not None:
            self.figures.bytes -= kept.size
            self.figures.entries -= 1

    def flush(self, *, everything: bool) -> None:
        """Forget what holds as long as the head, or everything."""
        if not self._fleeting and not (everything and self._lasting):
            return
        self._fleeting.clear()
        if everything:
            self._lasting.clear()
        self.figures.flushes += 1
        self.figures.entries = len(self._lasting)
        self.figures.bytes = sum(kept.size for kept in self._lasting.values())

    def _give_up(self) -> None:
        # What the next head takes away anyhow goes first.
        shelf = self._fleeting or self._lasting
        key, kept = shelf.popitem(last=False)
        while kept.asked_for:  # since it was put, or had its last turn
            kept.asked_for = False
            shelf[key] = kept
            key, kept = shelf.popitem(last=False)
        self.figures.bytes -= kept.size
        self.figures.entries -= 1
        self.figures.evictions += 1
