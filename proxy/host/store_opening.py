"""Opening a plugin's store when it is hosted; one that is damaged is repaired first, loudly, and never emptied (security.md 23)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.host.store_records import drop_unreadable
from proxy.storage import Damaged, Database
from proxy.storage.repair import repair


@dataclass(frozen=True)
class OpenedStore:
    """The database of one plugin. `repaired`: it was damaged; what could not be read is gone from it."""

    database: Database
    repaired: bool


def open_store(plugin_id: str, path: Path, notice: Callable[[str], None]) -> OpenedStore:
    """Open the database at `path`, made if need be. Raise `StorageError` where it cannot be; blocks."""
    try:
        return OpenedStore(Database(path, strict=True), repaired=False)
    except Damaged:
        notice(f"l2proxy: the store of plugin {plugin_id} is damaged; it is being repaired")
        kept = repair(path)
    database = Database(path, strict=True)
    notice(f"l2proxy: the store of plugin {plugin_id} was repaired; a copy of what it was is in {kept}")
    if dropped := drop_unreadable(database):
        notice(
            f"l2proxy: {dropped} records of the host in the store of plugin {plugin_id} could not be read and are gone"
        )
    return OpenedStore(database, repaired=True)
