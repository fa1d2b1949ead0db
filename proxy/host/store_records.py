"""The host's own records in a plugin's store, looked at after a repair: which of them can still be read (security.md 23).

LevelDB's repair keeps what it finds without asking its checksums, so that a record may come back torn. One of those would keep
the plugin, and the daemon with it, from starting; it is dropped, and the plugin is told that its store is not what it was.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.host.services.schedule import Timer
from proxy.host.services.store_book import BOOK, OLD, Book
from proxy.host.services.watching import Told, WatchRecord
from proxy.storage import Batch, Database


class _Account(msgspec.Struct):
    address: str
    publicKey: str  # noqa: N815 - the wire's name
    path: str


def drop_unreadable(database: Database) -> int:
    """Drop what cannot be read any more; return how many records."""
    batch, dropped = Batch(), 0
    for name in ("meta", "accounts", "watches", "schedule", "operations"):
        space = database.space(name)
        for key, value in space.scan():
            if not _is_readable(name, key, value):
                batch.delete(space, key)
                dropped += 1
    database.commit(batch)
    return dropped


def _is_readable(space: str, key: bytes, value: bytes) -> bool:
    try:
        if (space, key) != ("meta", OLD):
            msgspec.json.decode(value, type=_type_of(space, key))
        if space == "schedule" or (space, key[:1]) == ("watches", b"w"):
            key.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _type_of(space: str, key: bytes) -> Any:
    if space == "meta":
        return Book if key == BOOK else dict[str, int]
    if space == "accounts":
        return _Account if key[:1] == b"a" else int
    if space == "watches":
        return WatchRecord if key[:1] == b"w" else Told
    return {"schedule": Timer, "operations": dict[str, Any]}[space]
