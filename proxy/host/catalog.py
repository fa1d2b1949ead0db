"""What is installed, whether or not a daemon runs: add, list, remove, logs (rpc.md, "Command line").

Owns the registry, the installer, the published states and the logs. `plugins` hosts what stands here; without a daemon the
same commands work on it under the directory's lock.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from middleware.errors import shorten
from proxy.host.choices import InstallRefused
from proxy.host.exchanges import Exchanges, TakesActions
from proxy.host.installed import InstalledPlugin
from proxy.host.installer import Installer
from proxy.host.plugin_log import PluginLog
from proxy.host.ports import Audit
from proxy.host.registry import Registry
from proxy.host.state import States


class Revokes(TakesActions, Protocol):
    """What of the permissions a removal and an update need."""

    def drop_plugin(self, plugin: str) -> None:
        """Take from everybody what they hold for it."""


class Catalog:
    """The installed plugins of one data directory. `chain_id` returns None where no L1 is known.

    `money_inside` tells whether operations paid more into a plugin's gateways than provably came back.
    """

    def __init__(
        self,
        registry: Registry,
        installer: Installer,
        states: States,
        permissions: Revokes,
        audit: Audit,
        logs: Path,
        chain_id: Callable[[], int | None],
        money_inside: Callable[[str], bool],
        rules: Sequence[TakesActions] = (),
    ) -> None:
        self.registry = registry
        self.installer = installer
        self.states = states
        self.exchanges = Exchanges(registry, audit, (permissions, *rules))
        self._permissions = permissions
        self._audit = audit
        self._logs = logs
        self._chain_id = chain_id
        self._money_inside = money_inside
        self._open_logs: dict[str, PluginLog] = {}

    def get(self, plugin_id: str) -> InstalledPlugin | None:
        """Return one plugin as it is on disk now."""
        record = self.registry.get(plugin_id)
        return None if record is None else self.registry.load(record, self._chain_id() or 0)

    def all(self) -> list[InstalledPlugin]:
        """Return every plugin by id."""
        return [self.registry.load(record, self._chain_id() or 0) for record in self.registry.records()]

    def store_folder(self, plugin_id: str) -> Path:
        """Return where the plugin's LevelDB lies."""
        return self.registry.folder(plugin_id) / "store"

    def log(self, plugin_id: str) -> PluginLog:
        """Return the plugin's log."""
        if plugin_id not in self._open_logs:
            self._open_logs[plugin_id] = PluginLog(self._logs / f"{plugin_id}.log")
        return self._open_logs[plugin_id]

    def quarantine(self, plugin_id: str, why: str) -> None:
        """Keep a plugin from running until the owner adds it again."""
        record = self.registry.get(plugin_id)
        if record is not None:
            self.registry.put(msgspec.structs.replace(record, quarantined=f"quarantined: {why}"))

    def actions(self, plugin_id: str) -> list[str] | None:
        """Return the names of a plugin's actions, None when it is not installed."""
        plugin = self.get(plugin_id)
        return None if plugin is None else [action.name for action in plugin.manifest.action]

    def has_money_inside(self, plugin_id: str) -> bool:
        """Tell whether operations paid more into its gateways than provably came back."""
        return self._money_inside(plugin_id)

    def check_removable(self, plugin_id: str, *, delete_store: bool, release: bool) -> None:
        """Raise InstallRefused for what cannot be removed so."""
        if self.registry.get(plugin_id) is None and not (release and plugin_id in self.registry.bindings()):
            raise InstallRefused(f"no plugin {shorten(plugin_id)} is installed; `l2proxy plugin list` shows which are")
        if delete_store and self._money_inside(plugin_id):
            raise InstallRefused(
                f"operations paid into the gateways of {plugin_id}, and not all of it has provably come back: its store may"
                " be the only way to it; remove it without --delete-store"
            )
        if release and not delete_store and self.store_folder(plugin_id).exists():
            raise InstallRefused("--release hands over id and keys, not the store; it needs --delete-store as well")

    def remove(self, plugin_id: str, *, delete_store: bool, release: bool) -> dict[str, Any]:
        """Forget a plugin: permissions first, then the record; the store stays unless `delete_store`."""
        self.check_removable(plugin_id, delete_store=delete_store, release=release)
        kept = "deleted" if delete_store else "kept"
        self._audit.append({"event": "plugin_remove", "plugin": plugin_id, "store": kept, "source": "owner"})
        self._permissions.drop_plugin(plugin_id)
        self.registry.remove(plugin_id, release=release)
        self.states.forget(plugin_id)
        if delete_store:
            shutil.rmtree(self.store_folder(plugin_id), ignore_errors=True)
            shutil.rmtree(self.registry.folder(plugin_id) / "snapshots", ignore_errors=True)
        shutil.rmtree(self.registry.folder(plugin_id) / "code", ignore_errors=True)
        return {"id": plugin_id, "store": kept, "released": release}
