"""The owner's side of the plugin host: the admin methods behind `l2proxy plugin …`.

With a daemon they change what is hosted, at once; without one they change what the next daemon will host. Adding runs in
two steps: `admin_pluginInspect` shows what would be agreed to, `admin_pluginAdd` agrees to exactly that digest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from middleware.waist import Context, Handler
from proxy.host.catalog import Catalog
from proxy.host.choices import Choices, InstallRefused
from proxy.host.inspection import Inspected
from proxy.host.installed import InstalledPlugin
from proxy.host.manifest import GRANTS
from proxy.host.registry import Record
from proxy.methods.admin_params import AdminParams, BadRequest, read

if TYPE_CHECKING:  # with it comes all that runs plugins, which a command without a daemon does not
    from proxy.host.plugins import Plugins


class Nothing(AdminParams, frozen=True, kw_only=True):
    """No params."""


class Inspect(AdminParams, frozen=True, kw_only=True):
    """`source`: an absolute path; the rest: what the owner has decided so far."""

    source: str
    grants: list[str] = msgspec.field(default_factory=list)
    owner: str | None = None
    hub: str | None = None
    gateways: list[str] = msgspec.field(default_factory=list)

    def choices(self) -> Choices:
        """Return what was decided, as the installer takes it."""
        return Choices(self.owner, self.hub, tuple(self.gateways), tuple(self.grants))


class Add(Inspect, frozen=True, kw_only=True):
    """`digest`: of what was inspected; absent: of what lies there now."""

    grants: list[str]
    digest: str | None = None


class Update(Inspect, frozen=True, kw_only=True):
    """`source`: absent: where it came from, for a directory. `digest`: of what was shown; absent: it is only shown."""

    id: str
    source: str | None = None  # type: ignore[assignment]
    digest: str | None = None


class Rollback(AdminParams, frozen=True, kw_only=True):
    """`store`: its snapshot comes back too; `digest`: of the version that was shown; absent: it is only shown."""

    id: str
    store: bool = False
    digest: str | None = None


class Named(AdminParams, frozen=True, kw_only=True):
    """One plugin."""

    id: str


class Remove(AdminParams, frozen=True, kw_only=True):
    """`delete_store`: the plugin's data as well; `release`: its id and key path may be taken by another source.

    `look`: nothing is removed; what it still has locked on L1 is told.
    """

    id: str
    look: bool = False
    delete_store: bool = False
    release: bool = False


class SetOwner(AdminParams, frozen=True, kw_only=True):
    """The main account a plugin acts for."""

    id: str
    owner: str


class SetCap(AdminParams, frozen=True, kw_only=True):
    """`asset`: `ETH` or a token's address; `amount`: decimal, in its smallest unit; null: no cap."""

    id: str
    asset: str
    amount: Annotated[str, Meta(pattern=r"\A[0-9]{1,78}\Z")] | None


class Logs(AdminParams, frozen=True, kw_only=True):
    """The newest lines, or those after a cursor."""

    id: str
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


def admin_handlers(catalog: Catalog, plugins: Plugins | None = None) -> dict[str, Handler]:
    """Return the admin methods by name; `plugins` is the running host, None without a daemon."""
    administration = PluginAdministration(catalog, plugins)
    return {
        "admin_pluginInspect": administration.inspect,
        "admin_pluginAdd": administration.add,
        "admin_pluginUpdate": administration.update,
        "admin_pluginRollback": administration.rollback,
        "admin_pluginList": administration.list_,
        "admin_pluginInfo": administration.info,
        "admin_pluginRemove": administration.remove,
        "admin_pluginSetOwner": administration.set_owner,
        "admin_pluginSetCap": administration.set_cap,
        "admin_pluginLogs": administration.logs,
    }


class PluginAdministration:
    """Answers them."""

    def __init__(self, catalog: Catalog, plugins: Plugins | None) -> None:
        self._catalog = catalog
        self._plugins = plugins

    async def inspect(self, params: Any, _: Context) -> dict[str, Any]:
        """Return what installing a source would mean; refuse choices with which it could not be installed."""
        asked = read(params, Inspect)
        inspected = await self._catalog.installer.inspect(asked.source)
        self._catalog.installer.record(inspected, asked.choices())
        return inspected.to_json()

    async def add(self, params: Any, _: Context) -> dict[str, Any]:
        """Install; the plugin runs when this is answered by a daemon. Return it as `plugin info` shows it."""
        asked = read(params, Add)
        inspected = await self._catalog.installer.inspect(asked.source)
        if asked.digest is not None:
            _check_same(asked.digest, inspected)
        record = await self._catalog.installer.install(inspected, asked.choices())
        return await self._changed(record.id)

    async def update(self, params: Any, _: Context) -> dict[str, Any]:
        """Return what another version changes; with its digest, take it and return it as `plugin info` shows it."""
        asked = read(params, Update)
        present, old = self._present(asked.id)
        if old.why_disabled.startswith("disabled"):
            raise InstallRefused(
                f"the files of {asked.id} changed, so that nothing can be compared with them; remove it and add it anew, its"
                " store is kept"
            )
        inspected = await self._catalog.installer.inspect(asked.source or _again(present.source))
        record, found = self._catalog.installer.updated(present, old.manifest, inspected, asked.choices())
        if asked.digest is None:
            return {**inspected.to_json(), **found.to_json(), "grants": list(record.grants), "owner": record.owner}
        _check_same(asked.digest, inspected)
        await self._catalog.installer.store(inspected, record)
        return await self._exchanged(asked.id, lambda: self._catalog.exchanges.update(present, record, found))

    async def rollback(self, params: Any, _: Context) -> dict[str, Any]:
        """Return what going back to the version before changes; with its digest, go back."""
        asked = read(params, Rollback)
        self._find(asked.id)
        exchanges = self._catalog.exchanges
        record, found = exchanges.rolled_back(asked.id, store=asked.store)[1:]
        if asked.digest is None:
            shown = {"id": asked.id, "source": record.source, "digest": record.digest, **found.to_json()}
            return {**shown, "grants": list(record.grants), "store": asked.store}
        if asked.digest != record.digest:
            raise InstallRefused("another version stands before this one now; look at it again")
        return await self._exchanged(asked.id, lambda: exchanges.rollback(asked.id, store=asked.store))

    async def list_(self, params: Any, _: Context) -> list[dict[str, Any]]:
        """Return every plugin in short."""
        read(params, Nothing)
        return [
            {"id": plugin.id, "version": plugin.version, **self._status(plugin), "owner": plugin.owner}
            for plugin in self._installed()
        ]

    async def info(self, params: Any, _: Context) -> dict[str, Any]:
        """Return everything about one plugin."""
        return self._shown(self._find(read(params, Named).id))

    async def remove(self, params: Any, _: Context) -> dict[str, Any]:
        """Stop and forget a plugin, its permissions first."""
        asked = read(params, Remove)
        if asked.look:
            return await self._locked(asked.id)
        if self._plugins is not None:
            return await self._plugins.remove(asked.id, delete_store=asked.delete_store, release=asked.release)
        plugin = self._catalog.get(asked.id)
        if asked.delete_store and plugin is not None and (plugin.manifest.gateway or not plugin.enabled):
            raise BadRequest(
                "whether something is still locked on L1 is known to a running daemon alone; start one first"
            )
        return self._catalog.remove(asked.id, delete_store=asked.delete_store, release=asked.release)

    async def set_owner(self, params: Any, _: Context) -> dict[str, Any]:
        """Have a plugin act for another main account; it is restarted."""
        asked = read(params, SetOwner)
        record = self._catalog.installer.set_owner(asked.id, asked.owner)
        return await self._changed(record.id)

    async def set_cap(self, params: Any, _: Context) -> dict[str, Any]:
        """Bound what may be inside a plugin's gateways; holds from the next deposit on."""
        asked = read(params, SetCap)
        self._catalog.installer.set_cap(asked.id, asked.asset, None if asked.amount is None else int(asked.amount))
        return self._shown(self._find(asked.id))

    async def logs(self, params: Any, _: Context) -> dict[str, Any]:
        """Return `{lines, cursor}`."""
        asked = read(params, Logs)
        plugin = self._find(asked.id)
        lines, cursor = self._catalog.log(plugin.id).read(asked.after, asked.limit)
        return {"lines": lines, "cursor": cursor}

    async def _exchanged(self, plugin_id: str, change: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        if self._plugins is not None:
            await self._plugins.exchange(plugin_id, change)
        else:
            await change()
        return self._shown(self._find(plugin_id))

    async def _locked(self, plugin_id: str) -> dict[str, Any]:
        """Return what removing a plugin would leave on L1; `known`: somebody could ask L1."""
        self._find(plugin_id)
        rows = [] if self._plugins is None else await self._plugins.locked(plugin_id)
        told = [{name: row[name] for name in ("gateway", "asset", "source", "locked", "pending")} for row in rows]
        paid_in = self._catalog.has_money_inside(plugin_id)
        return {"id": plugin_id, "locked": told, "paidIn": paid_in, "known": self._plugins is not None}

    def _present(self, plugin_id: str) -> tuple[Record, InstalledPlugin]:
        plugin, record = self._catalog.get(plugin_id), self._catalog.registry.get(plugin_id)
        if plugin is None or record is None:
            raise BadRequest(f"no plugin {plugin_id!r} is installed; `l2proxy plugin list` shows which are")
        return record, plugin

    async def _changed(self, plugin_id: str) -> dict[str, Any]:
        if self._plugins is not None:
            await self._plugins.rehost(plugin_id)
        return self._shown(self._find(plugin_id))

    def _installed(self) -> list[InstalledPlugin]:
        return self._catalog.all() if self._plugins is None else self._plugins.all()

    def _find(self, plugin_id: str) -> InstalledPlugin:
        plugin = self._catalog.get(plugin_id) if self._plugins is None else self._plugins.get(plugin_id)
        if plugin is None:
            raise BadRequest(f"no plugin {plugin_id!r} is installed; `l2proxy plugin list` shows which are")
        return plugin

    def _status(self, plugin: InstalledPlugin) -> dict[str, Any]:
        if self._plugins is not None:
            return self._plugins.status(plugin.id)
        if plugin.enabled:
            return {"status": "stopped", "sandbox": None}
        return {"status": "disabled", "sandbox": None, "why": plugin.why_disabled}

    def _shown(self, plugin: InstalledPlugin) -> dict[str, Any]:
        manifest = plugin.manifest
        return {
            "id": plugin.id,
            "name": manifest.name,
            "version": plugin.version,
            "description": manifest.description,
            **self._status(plugin),
            "source": plugin.source,
            "digest": plugin.digest,
            "before": self._before(plugin.id),
            "owner": plugin.owner,
            "keys": None if manifest.keys is None else manifest.keys.path,
            "ownKey": None if self._plugins is None else self._plugins.own_key(plugin.id),
            "hubUrl": plugin.hub_url,
            "gateways": [
                {"name": row.name, "chain": row.chain, "address": row.address, "functions": _functions(row)}
                for row in plugin.gateways
            ],
            "actions": [
                {
                    "name": action.name,
                    "spends": None if action.spends is None else msgspec.structs.asdict(action.spends),
                    "approval": action.approval,
                }
                for action in manifest.action
            ],
            "caps": self._caps(plugin.id),
            "layer1": manifest.permissions.layer1,
            "grants": [name for name in GRANTS if name in plugin.grants],
            "refused": [name for name in GRANTS if name in manifest.requested() - plugin.grants],
        }

    def _caps(self, plugin_id: str) -> dict[str, str]:
        """Return what may be inside its gateways at most, by asset."""
        record = self._catalog.registry.get(plugin_id)
        return {} if record is None else {cap.asset: cap.amount for cap in record.caps}

    def _before(self, plugin_id: str) -> dict[str, Any] | None:
        """Return the version that `rollback` returns to."""
        record = self._catalog.registry.get(plugin_id)
        former = None if record is None else record.former
        if former is None:
            return None
        return {"digest": former.digest, "source": former.source, "snapshot": bool(former.snapshot)}


def _check_same(digest: str, inspected: Inspected) -> None:
    if digest != inspected.digest:
        raise InstallRefused("the files changed since they were shown; look at them again")


def _again(source: str) -> str:
    """Return the source itself where another version can stand there. Raises InstallRefused."""
    if source.startswith(("pypi:", "npm:")) or "#sha256=" in source:
        raise InstallRefused(f"it came from {source}; name the version to update to")
    return source


def _functions(gateway: Any) -> dict[str, list[str]]:
    return {kind: list(getattr(gateway, kind)) for kind in ("deposit", "withdraw", "dispute")}
