"""The book of a plugin's store: what must be in it, how much, and how often it was written (security.md 23-24).

One record beside the data, changed in the same atomic batch: bytes against the quota, the number of entries, a digest of all of
them that does not depend on their order, and a counter of commits that only grows. What LevelDB or a repair lost is thus noticed, and a
restored backup by the counter's twin outside the data directory. The book never holds what a plugin stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec

from proxy.host.services.store_sealing import plain_size
from proxy.storage import Space

BOOK, OLD = b"book", b"bytes"  # among the store's meta data
_WIDTH = 16


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """`id`: the store's own, 32 hexadecimal digits; `size`: bytes of all keys and values; `sealed`: every value is; `digest`: hexadecimal."""

    id: str
    size: int = 0
    entries: int = 0
    digest: str = "00" * _WIDTH
    counter: int = 0
    sealed: bool = False

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return msgspec.json.encode(self)


def read_book(meta: Space) -> Book | None:
    """Return the book; None where there is none yet."""
    stored = meta.get(BOOK)
    return None if stored is None else msgspec.json.decode(stored, type=Book)


def new_book(*, sealed: bool = False) -> Book:
    """Return the book of an empty store; of one that lost it, which is `sealed` or not."""
    return Book(id=os.urandom(16).hex(), sealed=sealed)


def has_old_values(meta: Space) -> bool:
    """Tell whether values may lie plain that must be sealed: of a version that kept no book, or sealing was cut off."""
    return meta.get(OLD) is not None


class Tally:
    """A book while entries come and go; `key` is the digest's."""

    def __init__(self, book: Book, key: bytes) -> None:
        self.size, self.entries = book.size, book.entries
        self._digest = int(book.digest, 16)
        self._key = key

    def replace(self, name: bytes, before: bytes | None, after: bytes | None) -> None:
        """Count that `name` had the stored value `before` and has `after` now; None: no entry."""
        if before is not None:
            self.size -= len(name) + plain_size(before)
            self.entries -= 1
            self._digest ^= self._of(name, before)
        if after is not None:
            self.size += len(name) + plain_size(after)
            self.entries += 1
            self._digest ^= self._of(name, after)

    def book(self, book: Book, *, counter: int) -> Book:
        """Return `book` with what was counted."""
        digest = f"{self._digest:0{2 * _WIDTH}x}"
        return msgspec.structs.replace(book, size=self.size, entries=self.entries, digest=digest, counter=counter)

    def _of(self, name: bytes, stored: bytes) -> int:
        digest = hashlib.blake2b(len(name).to_bytes(2, "big") + name, digest_size=_WIDTH, key=self._key)
        digest.update(stored)
        return int.from_bytes(digest.digest(), "big")


def counted(book: Book, entries: Iterable[tuple[bytes, bytes]], key: bytes) -> Book:
    """Return `book` as it must be for `entries`."""
    tally = Tally(Book(id=book.id), key)
    for name, stored in entries:
        tally.replace(name, None, stored)
    return tally.book(book, counter=book.counter)
