"""One version of a plugin in the place of another: update and rollback, whole or not at all (hardening.md 25).

Runs while the plugin is stopped. Code lies under its digest and a snapshot under a name of its own before the record names them;
the record is written in one batch, so that a power cut leaves the version before or the one after. Putting a store back takes two
renames: the record says so first, and `finish` ends what a cut interrupted. No store is ever
deleted or overwritten here; of snapshots the one of the last exchange is kept.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from proxy.host.choices import InstallRefused
from proxy.host.installer import agreed
from proxy.host.manifest import ManifestError, read_manifest
from proxy.host.package import is_as_stored
from proxy.host.ports import Audit
from proxy.host.registry import CHANGED, Former, Record, Registry
from proxy.host.updates import Difference, difference
from proxy.storage.files import sync_directory


class TakesActions(Protocol):
    """Who holds something for a plugin's actions: the permissions of sites, and the rules."""

    def drop_actions(self, plugin: str, actions: Sequence[str]) -> None:
        """Take what is held for these actions, durably."""


class Exchanges:
    """Updates and rolls back the plugins of one registry. `holders` lose what they have for changed actions."""

    def __init__(
        self, registry: Registry, audit: Audit, holders: Sequence[TakesActions], clock: Callable[[], float] = time.time
    ) -> None:
        self._registry, self._audit, self._holders, self._clock = registry, audit, holders, clock
        for record in registry.records():
            self._finish(record)

    async def update(self, present: Record, record: Record, found: Difference) -> Record:
        """Take the version that `record` describes; its code is stored already. Return what was written."""
        snapshot = await asyncio.to_thread(self._keep_store, present.id)
        self._drop(record.id, found.changed_actions)
        taken = msgspec.structs.replace(record, former=_former(present, snapshot))
        self._audit.append({"event": "plugin_update", "plugin": record.id, **agreed(taken), "source": "owner"})
        self._registry.put(taken)
        self._prune(taken)
        return taken

    def rolled_back(self, plugin_id: str, *, store: bool) -> tuple[Record, Record, Difference]:
        """Return (present, what rolling back would write down, the difference). Raises InstallRefused where it cannot."""
        present = self._registry.get(plugin_id)
        former = None if present is None else present.former
        if present is None or former is None:
            raise InstallRefused("there is no version before this one to go back to")
        if store and not former.snapshot:
            raise InstallRefused("no snapshot was taken: the plugin had no store then; leave --store out")
        folder = self._folder(plugin_id, former.digest)
        for digest in (former.digest, present.digest):
            if not is_as_stored(self._folder(plugin_id, digest), digest):
                which = "before" if digest == former.digest else "of now"
                raise InstallRefused(
                    f"the two versions cannot be compared, of that {which} {CHANGED}; remove it, add it anew"
                )
        try:
            old = read_manifest(folder)
            found = difference(read_manifest(self._folder(plugin_id, present.digest)), old, overridden=False)
        except ManifestError as error:
            raise InstallRefused(f"the two versions cannot be compared: {error}") from None
        record = msgspec.structs.replace(
            present,
            digest=former.digest,
            source=former.source,
            grants=tuple(sorted(set(former.grants) & set(present.grants))),
            hub_url=former.hub_url,
            gateways=former.gateways,
            installed=int(self._clock()),
            quarantined="",
        )
        return present, record, found

    async def rollback(self, plugin_id: str, *, store: bool) -> Record:
        """Take the version before; `store`: its snapshot too, the store of now is kept beside it."""
        present, record, found = self.rolled_back(plugin_id, store=store)
        former = present.former
        snapshot = await asyncio.to_thread(self._keep_store, plugin_id)
        replaced = ""
        if store and former is not None:
            home = self._registry.folder(plugin_id)
            await asyncio.to_thread(_copy, home / "snapshots" / former.snapshot, home / "store.incoming")
            replaced = f"store.replaced.{int(self._clock())}.{record.digest[-8:]}"
        self._drop(plugin_id, found.changed_actions)
        taken = msgspec.structs.replace(record, former=_former(present, snapshot), replaced=replaced)
        self._audit.append(
            {"event": "plugin_rollback", "plugin": plugin_id, **agreed(taken), "store": store, "source": "owner"}
        )
        self._registry.put(taken)
        taken = self._finish(taken)
        self._prune(taken)
        return taken

    def _finish(self, record: Record) -> Record:
        """Put an incoming store in its place, or go on where a power cut interrupted that."""
        if not record.replaced:
            return record
        home = self._registry.folder(record.id)
        incoming, store, replaced = home / "store.incoming", home / "store", home / record.replaced
        if incoming.exists():
            if store.exists() and not replaced.exists():
                store.rename(replaced)
                sync_directory(home)
            incoming.rename(store)
            sync_directory(home)
        done = msgspec.structs.replace(record, replaced="")
        self._registry.put(done)
        return done

    def _keep_store(self, plugin_id: str) -> str:
        """Copy the store beside it, under a name nothing else has; return the name, empty where there is none."""
        home = self._registry.folder(plugin_id)
        if not (home / "store").exists():
            return ""
        number = 1 + max((int(path.name) for path in (home / "snapshots").glob("*") if path.name.isdigit()), default=0)
        _copy(home / "store", home / "snapshots" / str(number))
        return str(number)

    def _drop(self, plugin_id: str, actions: tuple[str, ...]) -> None:
        if actions:
            for holder in self._holders:
                holder.drop_actions(plugin_id, actions)

    def _folder(self, plugin_id: str, digest: str) -> Path:
        return self._registry.folder(plugin_id) / "code" / digest.removeprefix("sha256:")

    def _prune(self, record: Record) -> None:
        """Delete code and snapshots that neither the present version nor the one before needs."""
        former = record.former
        home = self._registry.folder(record.id)
        code = {row.digest.removeprefix("sha256:") for row in (record, former) if row is not None}
        kept = {former.snapshot} if former is not None else set()
        for folder, names in ((home / "code", code), (home / "snapshots", kept)):
            for path in folder.glob("*"):
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)


def _former(record: Record, snapshot: str) -> Former:
    return Former(
        digest=record.digest,
        source=record.source,
        grants=record.grants,
        hub_url=record.hub_url,
        gateways=record.gateways,
        snapshot=snapshot,
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, whole under its name or not at all, on disk when this returns."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(source, draft)
    for path in (*draft.rglob("*"), draft):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    sync_directory(target.parent)
