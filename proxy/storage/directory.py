"""The data directory: one daemon at a time, every path in one place, a vanished chain's state set aside.

`owner.db` holds what belongs to the owner (permissions, tokens, rules, audit log, installed plugins); `chain.db` and the
plugins' stores hold what belongs to one L1 chain and go aside with it (rpc.md, "Config").
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from proxy.storage.files import sync_directory
from proxy.storage.leveldb import Database


class DirectoryInUse(Exception):
    """Another process holds the data directory."""


class DataDirectory:
    """An existing data directory, held by this process alone from `lock` to `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._owner: Database | None = None
        self._chain: Database | None = None

    @property
    def keystore(self) -> Path:
        return self.path / "keystore.json"

    @property
    def pin(self) -> Path:
        return self.path / "chain.json"

    @property
    def plugins(self) -> Path:
        return self.path / "plugins"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def embedded_l1(self) -> Path:
        return self.path / "dev-l1"

    @property
    def exists(self) -> bool:
        """Tell whether somebody has put anything of ours here."""
        return (self.path / "lock").exists()

    def lock(self) -> None:
        """Take the directory (0700, made if need be). Raise `DirectoryInUse` when another process holds it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise DirectoryInUse(
                f"another l2proxy process holds {self.path}; one data directory serves one daemon"
            ) from error
        self._lock = descriptor

    @property
    def owner_database(self) -> Database:
        """What belongs to the owner, whatever the chain."""
        if self._owner is None:
            self._owner = Database(self.path / "owner.db", strict=True)
        return self._owner

    @property
    def chain_database(self) -> Database:
        """What belongs to the pinned L1 chain."""
        if self._chain is None:
            self._chain = Database(self.path / "chain.db", strict=True)
        return self._chain

    def set_aside(self, genesis: str) -> Path:
        """Move the state of the chain with `genesis` under `old/<genesis>` and return that folder.

        Nothing is deleted; a second set-aside of the same chain gets a number of its own. The pin goes last: a crash in
        between leaves the old pin, and the next start moves what is left.
        """
        if self._chain is not None:
            raise RuntimeError("the chain's database is open; set aside before anything uses it")
        aside = self._free_folder(self.path / "old" / genesis)
        aside.mkdir(mode=0o700, parents=True)
        moves = [self.path / "chain.db", *sorted(self.plugins.glob("*/store")), self.pin]
        for source in moves:
            if source.exists():
                target = aside / source.relative_to(self.path)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source.rename(target)
                sync_directory(target.parent)
                sync_directory(source.parent)
        return aside

    @staticmethod
    def _free_folder(folder: Path) -> Path:
        number, free = 1, folder
        while free.exists():
            number += 1
            free = folder.with_name(f"{folder.name}.{number}")
        return free

    def release(self) -> None:
        """Close the databases and give the directory back."""
        for database in (self._owner, self._chain):
            if database is not None:
                database.close()
        self._owner = self._chain = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
