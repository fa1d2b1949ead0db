"""`persist` and `load`: the plugin's own ordered store (plugin.md, "Host services").

One LevelDB directory per plugin; it is read and written beside the loop, in the order of the requests: a disk that takes
its time holds up this plugin alone. No name a plugin can send reaches outside its own space of it. Every `persist` is one
atomic batch, on disk when it is answered, within the quota that was granted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from middleware.errors import InvalidParams, LimitExceeded
from proxy.host.aside import Aside
from proxy.host.blobs import Base64, Blob, text_or_base64, to_base64, to_bytes
from proxy.host.provider import Asker, HostMethod, Params
from proxy.storage import Batch, Database

MAX_KEY = 1024  # bytes
MAX_VALUE = 512 * 1024
MAX_ANSWER = 768 * 1024  # characters of one answer, so that it fits a line
_BYTES = b"bytes"
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
    """The store of one plugin. `quota`: bytes of all keys and values."""

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._data = database.space("data")
        self._meta = database.space("meta")
        self._quota = quota
        self._aside = Aside()

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"persist": HostMethod("store", Persist, self.persist), "load": HostMethod("store", Load, self.load)}

    @property
    def used(self) -> int:
        """Bytes of all keys and values."""
        return int(self._meta.get(_BYTES) or b"0")

    async def persist(self, params: Persist, _: Asker) -> dict[str, Any]:
        """Write and delete in one synced batch. Raises LimitExceeded over the quota; then nothing is written."""
        writes: dict[bytes, bytes | None] = {_key(key, "delete"): None for key in params.delete}
        pairs = params.put.items() if isinstance(params.put, dict) else params.put
        for key, value in pairs:
            writes[_key(key, "put")] = _value(value)
        await self._aside.run(lambda: self._write(writes))
        return {}

    async def close(self) -> None:
        """Let what is being written come to its end, then close the database."""
        await self._aside.close()
        self._database.close()

    def _write(self, writes: dict[bytes, bytes | None]) -> None:
        batch, used = Batch(), self.used
        for name, data in writes.items():
            before = self._data.get(name)
            used -= 0 if before is None else len(name) + len(before) - 1
            if data is None:
                batch.delete(self._data, name)
            else:
                used += len(name) + len(data) - 1
                batch.put(self._data, name, data)
        if used > self._quota:
            raise LimitExceeded("store_bytes", f"the store is limited to {self._quota} bytes; this would make {used}")
        batch.put(self._meta, _BYTES, str(used).encode())
        self._database.commit(batch)

    async def load(self, params: Load, _: Asker) -> dict[str, Any]:
        """Return `{items: [[key, value | null], …]}`: of `keys` in the order asked, or a range in key order."""
        ranged = (params.prefix, params.start, params.end, params.limit)
        if params.keys is not None:
            if any(part is not None for part in ranged) or params.reverse:
                raise InvalidParams("params", "either keys or a range", "both")
            keys = params.keys
            return {"items": await self._aside.run(lambda: list(_bounded(self._named(keys))))}
        if all(part is None for part in ranged) and not params.reverse:
            raise InvalidParams("params", "keys, or prefix, start, end, limit or reverse", "none of them")
        return {"items": await self._aside.run(lambda: list(_bounded(self._range(params))))}

    def _named(self, keys: list[Blob]) -> Iterator[list[Any]]:
        for key in keys:
            found = self._data.get(_key(key, "keys"))
            wire = {"base64": key.base64} if isinstance(key, Base64) else key
            yield [wire, None if found is None else _shown(found)]

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
            yield [to_base64(key) if binary else text_or_base64(key), _shown(value)]


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
