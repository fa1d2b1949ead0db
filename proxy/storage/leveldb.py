"""LevelDB behind a small interface: ordered, atomic, synced. The only module that knows plyvel.

A `Database` is one directory; a `Space` is a named, disjoint part of it. Every write is one atomic batch that is on disk
when the call returns (security.md 23), and one that failed never happened, also where the disk was full for a while
(security.md 25). Another engine can stand here as long as it keeps these promises.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import plyvel

PROBE = 256 * 1024  # bytes a disk must take before a database that failed to write is opened anew


class StorageError(Exception):
    """The database cannot be opened, read or written; the message names it and says what to do."""


class Damaged(StorageError):
    """What is on disk is no whole database; `repair` may make one of it."""


class Database:
    """One LevelDB directory, open in this process alone.

    `strict`: damage LevelDB would silently leave out (a log whose middle cannot be read) is `Damaged` as well.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = plyvel.DB(str(path), create_if_missing=not _begun(path), paranoid_checks=strict)
            self._writing = threading.Lock()
            self._handle = threading.Lock()  # held for one reading, and while the database is closed or opened anew
            self._failed: dict[bytes, bytes | None] = {}
        except (plyvel.Error, OSError) as error:
            kind = Damaged if _is_damage(error) else StorageError
            raise kind(f"the database {path} cannot be opened: {_said(error)}") from error

    def space(self, name: str) -> Space:
        """Return the part of the database named `name`; names hold no NUL."""
        if "\0" in name:
            raise ValueError(f"a space's name holds no NUL: {name!r}")
        return Space(self, name.encode() + b"\0")

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect writes to any spaces; all of them are on disk after the block, none if it raises."""
        batch = Batch()
        yield batch
        self.commit(batch)

    def commit(self, batch: Batch, *, synced: bool = True) -> None:
        """Write `batch` atomically and synced. Raise `StorageError`: nothing of it was written, nor will be.

        Without `synced` it is with the system when this returns: the end of this process loses nothing, a power cut may.
        """
        if not batch.operations:
            return
        with self._writing:
            if self._failed:
                self._open_anew()
            try:
                self._write(batch.operations, synced=synced)
            except plyvel.Error as error:
                known = {key: self._db.get(key) for key in batch.operations}
                self._failed = known | self._failed
                raise StorageError(f"writing to {self.path} failed: {_said(error)}") from error

    def _write(self, operations: Mapping[bytes, bytes | None], *, synced: bool = True) -> None:
        if len(operations) == 1:
            ((key, value),) = operations.items()
            if value is not None:  # atomic by itself, and made in half the time
                self._db.put(key, value, sync=synced)
                return
        with self._db.write_batch(transaction=True, sync=synced) as target:
            for key, value in operations.items():
                if value is None:
                    target.delete(key)
                else:
                    target.put(key, value)

    def _open_anew(self) -> None:
        """Go on after a write that failed: open the database again, and take back what of that write may be on disk.

        LevelDB appends behind a torn record as if it were whole, and finds nothing of that again (tried: every write that
        was acknowledged after a full disk was gone at the next start).
        """
        try:
            self._probe()
            with self._handle:
                self._db.close()
                self._db = plyvel.DB(str(self.path), create_if_missing=False)
                self._write(self._failed)
        except (plyvel.Error, OSError) as error:
            raise StorageError(f"writing to {self.path} failed: {_said(error)}") from error
        self._failed = {}

    def _probe(self) -> None:
        """Raise OSError unless the disk takes a little: on a full one a database that is closed cannot be opened again."""
        probe = self.path / "probe"
        try:
            with probe.open("wb") as file:
                file.write(bytes(PROBE))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a full key."""
        try:
            with self._handle:
                value: bytes | None = self._db.get(key)
        except plyvel.Error as error:
            raise StorageError(f"reading from {self.path} failed: {_said(error)}") from error
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield full keys and values with start <= key < stop in key order (or its reverse).

        It goes on where it is after another thread opened the database anew.
        """
        found = None
        source: Iterator[tuple[bytes, bytes]] = iter(())
        while True:
            try:
                with self._handle:
                    if found is not self._db:
                        found, source = self._db, self._iterator(start, stop, reverse=reverse)
                    item: tuple[bytes, bytes] | None = next(source, None)
            except plyvel.Error as error:
                raise StorageError(f"reading from {self.path} failed: {_said(error)}") from error
            if item is None:
                return
            yield item
            start, stop = (start, item[0]) if reverse else (item[0] + b"\0", stop)

    def _iterator(self, start: bytes, stop: bytes, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        if not reverse:
            return iter(self._db.iterator(start=start, stop=stop, include_stop=False))
        # Without `start`: plyvel 1.5 finds nothing backwards where the only key is the start itself.
        backwards = self._db.iterator(stop=stop, include_stop=False, reverse=True)
        return itertools.takewhile(lambda item: item[0] >= start, backwards)

    def close(self) -> None:
        """Close the database; nothing can be read or written afterwards."""
        with self._writing, self._handle:
            self._db.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Batch:
    """Writes that take effect together; the last one for a key wins."""

    def __init__(self) -> None:
        self.operations: dict[bytes, bytes | None] = {}

    def put(self, space: Space, key: bytes, value: bytes) -> None:
        """Add a write."""
        self.operations[space.prefix + key] = value

    def delete(self, space: Space, key: bytes) -> None:
        """Add a deletion."""
        self.operations[space.prefix + key] = None


class Space:
    """A named part of a database; keys of different spaces never meet."""

    def __init__(self, database: Database, prefix: bytes) -> None:
        self.database = database
        self.prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        return self.database.get(self.prefix + key)

    def write(
        self, put: Mapping[bytes, bytes] | None = None, delete: Iterable[bytes] = (), *, synced: bool = True
    ) -> None:
        """Write and delete atomically; on disk when this returns, unless not `synced` (`Database.commit`)."""
        self.database.commit(self.batch(put, delete), synced=synced)

    def batch(self, put: Mapping[bytes, bytes] | None = None, delete: Iterable[bytes] = ()) -> Batch:
        """Return what `write` would write, to be committed later."""
        batch = Batch()
        for key in delete:
            batch.delete(self, key)
        for key, value in (put or {}).items():
            batch.put(self, key, value)
        return batch

    def scan(
        self,
        prefix: bytes = b"",
        *,
        start: bytes = b"",
        end: bytes | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) with `prefix`, start <= key < end, in key order, at most `limit`."""
        low = self.prefix + max(prefix, start)
        high = _after(self.prefix + prefix)
        if end is not None:
            high = min(high, self.prefix + end)
        cut = len(self.prefix)
        if low >= high:
            return
        for count, (key, value) in enumerate(self.database.scan(low, high, reverse=reverse)):
            if limit is not None and count >= limit:
                return
            yield key[cut:], value


def _begun(path: Path) -> bool:
    """Tell whether there are tables or logs: without CURRENT they would be taken for nothing and begun anew."""
    return any(file.suffix in (".ldb", ".log") and file.stat().st_size for file in path.iterdir())


def _is_damage(error: Exception) -> bool:
    text = str(error)
    return "Corruption" in text or "Invalid argument" in text or "does not exist" in text


def _said(error: Exception) -> str:
    """Return LevelDB's own words, which plyvel hands on as the text of a bytes object, and what to do about them."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    if text.startswith(("b'", 'b"')):
        text = text[2:-1]
    if "No space left" in text:
        return f"{text}; make room on the disk and try again"
    if "Corruption" in text or "Invalid argument" in text:
        return f"{text}; it is damaged and was left as it is: put back a copy from before"
    return text


def _after(prefix: bytes) -> bytes:
    """Return the first key behind all keys that begin with `prefix` (a space's prefix never is all 0xff)."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1])
