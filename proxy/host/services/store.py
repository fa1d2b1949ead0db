"""`persist` and `load`: the plugin's own ordered store (plugin.md, "Host services").

One LevelDB directory per plugin; it is read and written beside the loop, in the order of the requests (`store_turns`). No name a plugin
can send reaches outside its own space of it. Every `persist` is atomic, on disk when it is answered, within the quota that was granted;
those that wait together share one sync. Values are sealed (`store_sealing`), the whole is accounted for (`store_book`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from middleware.errors import InvalidParams, LimitExceeded
from proxy.host.blobs import Base64, Blob, text_or_base64, to_base64, to_bytes
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.store_book import BOOK, OLD, Book, Tally, counted, has_old_values, new_book, read_book
from proxy.host.services.store_sealing import SEALED, Plain
from proxy.host.services.store_turns import Turns, Writes
from proxy.storage import Batch, Database, StorageError

MAX_KEY = 1024  # bytes
MAX_VALUE = 512 * 1024
MAX_ANSWER = 768 * 1024  # characters of one answer, so that it fits a line
PART = 4 * 1024 * 1024  # bytes of one batch while an older store is being sealed
_TEXT, _BINARY = b"t", b"b"  # how a value was written is how it is read


class Persist(Params, frozen=True, kw_only=True):
    """`put`: an object, or an array of [key, value] where a key is bytes."""

    put: dict[str, Blob] | list[tuple[Blob, Blob]] = msgspec.field(default_factory=dict)
    delete: list[Blob] = msgspec.field(default_factory=list)


class Load(Params, frozen=True, kw_only=True):
    """Either `keys`, or a range."""

    keys: list[Blob] | None = None
    prefix: Blob | None = None
    start: Blob | None = None
    end: Blob | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    reverse: bool = False


class Store:
    """The store of one plugin. `quota`: bytes of all keys and values; `committed` is told the counter after each commit."""

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._data = database.space("data")
        self._meta = database.space("meta")
        self._quota = quota
        self.committed: Callable[[int], object] = lambda _: None
        self._sealing = Plain()
        self._has_old = has_old_values(self._meta)
        found = read_book(self._meta)
        self.book = found or new_book(sealed=any(stored[:1] == SEALED for _, stored in self._data.scan()))
        if found is None:
            self._meta.write({BOOK: self.book.to_bytes()})
        self.turns = Turns(self._commit, "store")

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"persist": HostMethod("store", Persist, self.persist), "load": HostMethod("store", Load, self.load)}

    @property
    def used(self) -> int:
        """Bytes of all keys and values."""
        return self.book.size

    async def open(self, sealing: Plain, *, repaired: bool = False) -> bool:
        """Take the key of the values, seal what an older version left plain; return whether all is there that must be.

        What a `repaired` one has of values nobody can read is dropped: a copy of it was kept, and no range with one of them
        could be read ever again. Where none can be read, the key is another one, and all stay.
        """
        return await self.turns.read(lambda: self._open(sealing, repaired=repaired))

    async def proved(self, least: int) -> None:
        """Count on from `least` at the least: the plugin has made sure that it knows everything newer."""
        await self.turns.read(lambda: self._count_from(least))

    async def persist(self, params: Persist, _: Asker) -> dict[str, Any]:
        """Write and delete, synced. Raises LimitExceeded over the quota; then nothing is written."""
        writes: dict[bytes, bytes | None] = {_key(key, "delete"): None for key in params.delete}
        pairs = params.put.items() if isinstance(params.put, dict) else params.put
        for key, value in pairs:
            writes[_key(key, "put")] = _value(value)
        if writes:
            await self.turns.write(writes)
        return {}

    async def close(self) -> None:
        """Let what is being written come to its end, then close the database."""
        await self.turns.close()
        self._database.close()

    async def load(self, params: Load, _: Asker) -> dict[str, Any]:
        """Return `{items: [[key, value | null], …]}`: of `keys` in the order asked, or a range in key order."""
        ranged = (params.prefix, params.start, params.end, params.limit)
        if params.keys is not None:
            if any(part is not None for part in ranged) or params.reverse:
                raise InvalidParams("params", "either keys or a range", "both")
            keys = params.keys
            return {"items": await self.turns.read(lambda: list(_bounded(self._named(keys))))}
        if all(part is None for part in ranged) and not params.reverse:
            raise InvalidParams("params", "keys, or prefix, start, end, limit or reverse", "none of them")
        return {"items": await self.turns.read(lambda: list(_bounded(self._range(params))))}

    # -- in the store's thread

    def _open(self, sealing: Plain, *, repaired: bool) -> bool:
        self._sealing, book = sealing, self.book
        if repaired:
            self._drop_unreadable()
        if self._has_old or (type(sealing) is not Plain and not book.sealed):
            if not self._has_old and counted(book, self._data.scan(), b"") != book:
                return False
            self._meta.write({OLD: b""})
            self._seal_all()
            return True
        return counted(book, self._data.scan(), sealing.digest_key) == book

    def _drop_unreadable(self) -> None:
        batch, readable = Batch(), 0
        for name, stored in self._data.scan():
            if self.book.sealed or stored[:1] == SEALED:
                try:
                    self._sealing.unseal(name, stored)
                    readable += 1
                except StorageError:
                    batch.delete(self._data, name)
        if readable:
            self._database.commit(batch)

    def _seal_all(self) -> None:
        """Seal what is plain, part by part; a start that was cut off goes on with the rest."""
        batch, size = Batch(), 0
        for name, stored in self._data.scan():
            if stored[:1] == SEALED:
                continue
            batch.put(self._data, name, self._sealing.seal(name, stored))
            size += len(stored)
            if size > PART:
                self._database.commit(batch)
                batch, size = Batch(), 0
        self._database.commit(batch)
        sealed = type(self._sealing) is not Plain
        book = counted(self.book, self._data.scan(), self._sealing.digest_key)
        self.book = msgspec.structs.replace(book, sealed=sealed, counter=book.counter or (1 if book.entries else 0))
        self._meta.write({BOOK: self.book.to_bytes()}, delete=[OLD])
        self._has_old = False

    def _count_from(self, least: int) -> None:
        book = counted(self.book, self._data.scan(), self._sealing.digest_key)
        book = msgspec.structs.replace(book, counter=max(book.counter, least) + 1)
        self._meta.write({BOOK: book.to_bytes()})
        self.book = book
        self.committed(book.counter)

    def _commit(self, group: list[Writes | Batch]) -> list[Exception | None]:
        """Write those of the group that stay within the quota, in their order and as one batch; a `Batch` is of other spaces."""
        batch, now = Batch(), dict[bytes, bytes | None]()
        tally = Tally(self.book, self._sealing.digest_key)
        results: list[Exception | None] = []
        for writes in group:
            if isinstance(writes, Batch):
                batch.operations.update(writes.operations)
                results.append(None)
                continue
            before = {name: now[name] if name in now else self._data.get(name) for name in writes}
            after = {name: None if data is None else self._sealing.seal(name, data) for name, data in writes.items()}
            for name, stored in after.items():
                tally.replace(name, before[name], stored)
            if tally.size > self._quota and any(stored is not None for stored in after.values()):
                text = f"the store is limited to {self._quota} bytes; this would make {tally.size}"
                results.append(LimitExceeded("store_bytes", text))
                for name, stored in after.items():
                    tally.replace(name, stored, before[name])
                continue
            now.update(after)
            results.append(None)
        if now:
            self._write(batch, now, tally)
        else:
            self._database.commit(batch)
        return results

    def _write(self, batch: Batch, now: dict[bytes, bytes | None], tally: Tally) -> None:
        for name, stored in now.items():
            if stored is None:
                batch.delete(self._data, name)
            else:
                batch.put(self._data, name, stored)
        book: Book = tally.book(self.book, counter=self.book.counter + 1)
        batch.put(self._meta, BOOK, book.to_bytes())
        self._database.commit(batch)
        self.book = book
        self.committed(book.counter)

    def _named(self, keys: list[Blob]) -> Iterator[list[Any]]:
        for key in keys:
            name = _key(key, "keys")
            found = self._data.get(name)
            wire = {"base64": key.base64} if isinstance(key, Base64) else key
            yield [wire, None if found is None else _shown(self._sealing.unseal(name, found))]

    def _range(self, params: Load) -> Iterator[list[Any]]:
        bounds = (params.prefix, params.start, params.end)
        binary = any(isinstance(bound, Base64) for bound in bounds)
        found = self._data.scan(
            b"" if params.prefix is None else to_bytes(params.prefix, "prefix"),
            start=b"" if params.start is None else to_bytes(params.start, "start"),
            end=None if params.end is None else to_bytes(params.end, "end"),
            limit=params.limit,
            reverse=params.reverse,
        )
        for key, value in found:
            yield [to_base64(key) if binary else text_or_base64(key), _shown(self._sealing.unseal(key, value))]


def _key(key: Blob, where: str) -> bytes:
    name = to_bytes(key, where)
    if not 1 <= len(name) <= MAX_KEY:
        raise InvalidParams(where, f"keys of 1 to {MAX_KEY} bytes", f"one of {len(name)} bytes")
    return name


def _value(value: Blob) -> bytes:
    data = to_bytes(value, "put")
    if len(data) > MAX_VALUE:
        raise LimitExceeded("store_value", f"a value has {len(data)} bytes; the limit is {MAX_VALUE}")
    return (_BINARY if isinstance(value, Base64) else _TEXT) + data


def _shown(stored: bytes) -> Any:
    return to_base64(stored[1:]) if stored[:1] == _BINARY else stored[1:].decode("utf-8")


def _bounded(items: Iterator[list[Any]]) -> Iterator[list[Any]]:
    size = 0
    for item in items:
        size += len(json.dumps(item, ensure_ascii=False).encode())
        if size > MAX_ANSWER:
            raise LimitExceeded("plugin_line", f"the items are longer than {MAX_ANSWER} bytes; ask with a limit")
        yield item
