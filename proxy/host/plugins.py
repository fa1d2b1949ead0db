"""All plugins of a running daemon: what the doors, the links and the owner's commands ask about them.

Stands between the dapp methods (`l2_*`) and the hosted plugins. Permission was decided before anything arrives here; this
module never decides who may, only rechecks what may have changed while a call waited.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from middleware.errors import PluginUnavailable, Unauthorized
from middleware.waist import Context, Origin
from proxy.host import lifecycle
from proxy.host.abi_values import check_fields
from proxy.host.asking import Asking
from proxy.host.background import Background
from proxy.host.catalog import Catalog
from proxy.host.choices import InstallRefused
from proxy.host.hosting import Hosted
from proxy.host.installed import ActionSpec, InstalledPlugin
from proxy.host.late_answers import Record
from proxy.host.operation_rights import OWN_KEY
from proxy.host.ports import Ports
from proxy.host.sandbox.undumpable import make_undumpable
from proxy.host.services.digests import warm_up
from proxy.host.services.hub_addresses import HubSessions
from proxy.host.services.worker import Worker
from proxy.host.store_opening import open_store
from proxy.storage import StorageError

STATE_SECONDS = 30.0
FINISHING_SECONDS = 5.0  # for what runs when another version is to take a plugin's place

Result = TypeVar("Result")


class Plugins:
    """The plugin host. `catalog` knows what is installed; `ports` are the neighbours.

    `unsandboxed`: plugins that may run without a sandbox, each `ID` (at the digest installed at the start) or `ID@sha256:…`.
    """

    def __init__(
        self,
        catalog: Catalog,
        ports: Ports,
        *,
        unsandboxed: Collection[str] = (),
        clock: Callable[[], float] = time.time,
        back_off: tuple[float, ...] = lifecycle.BACK_OFF,
    ) -> None:
        self.catalog = catalog
        self.states = catalog.states
        self._ports = ports
        self._allowed_unsandboxed = unsandboxed
        self._unsandboxed: set[tuple[str, str]] = set()  # id and digest
        self._clock = clock
        self._back_off = back_off
        self._hosted: dict[str, Hosted] = {}
        self._background = Background()
        self._asking = Asking(ports, catalog.states, self._background, clock)
        self._sessions: HubSessions | None = None
        self._worker = Worker(warm_up, ports.crypto)
        self._unreadable: dict[str, InstalledPlugin] = {}  # whose store cannot be opened
        self._between: dict[str, InstalledPlugin] = {}  # being exchanged: as they were
        self._missed: dict[str, list[dict[str, Any]]] = {}  # operations that went on while a plugin was exchanged
        self._unlocked = asyncio.Event()
        self._changing = asyncio.Lock()
        self._exchanging: set[asyncio.Task[Any]] = set()
        self._early: (
            list[tuple[str, dict[str, Any]]] | None
        ) = []  # operations that went on before the plugins were hosted
        ports.operations.on_change(self._operation_changed)

    async def start(self) -> None:
        """Host every installed plugin; their processes start in the background."""
        make_undumpable()
        ports = self._ports
        self._sessions = HubSessions(ports.own_ports)
        if not ports.signer.locked:
            self._on_unlock()
        ports.signer.on_unlock(self._on_unlock)
        ports.signer.on_lock(self._on_lock)
        ports.permissions.on_revoked(lambda _: self._recheck())
        self._background.start(self._follow_head(), "heads for plugins")
        plugins = self.catalog.all()
        self._unsandboxed = {
            (plugin.id, plugin.digest)
            for plugin in plugins
            if {plugin.id, f"{plugin.id}@{plugin.digest}"} & set(self._allowed_unsandboxed)
        }
        for plugin in plugins:
            await self._host(plugin)
        early, self._early = self._early or [], None
        for plugin_id, operation in early:
            self._operation_changed(plugin_id, operation)

    async def close(self) -> None:
        """Stop every plugin, politely, all at once."""
        await self._background.close()
        await asyncio.gather(*self._exchanging, return_exceptions=True)
        async with self._changing:
            await asyncio.gather(*(hosted.close() for hosted in self._hosted.values()))
            self._hosted.clear()
        self._worker.close()
        if self._sessions is not None:
            await self._sessions.close()

    def get(self, plugin_id: str) -> InstalledPlugin | None:
        """Return an installed plugin."""
        hosted = self._hosted.get(plugin_id)
        if hosted is None:
            return self._unreadable.get(plugin_id) or self._between.get(plugin_id)
        return hosted.plugin

    def all(self) -> list[InstalledPlugin]:
        """Return every installed plugin by id."""
        known = {
            **self._between,
            **self._unreadable,
            **{plugin_id: hosted.plugin for plugin_id, hosted in self._hosted.items()},
        }
        return [known[plugin_id] for plugin_id in sorted(known)]

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        """Return what is declared of an action; None when there is none."""
        installed = self.get(plugin)
        return None if installed is None else installed.action(action)

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        """Return an action's params in canonical wire form by name. Raises InvalidParams; 4100 where there is no action."""
        spec = self._spec(plugin, action)
        return check_fields(spec.params, raw, "params")

    def status(self, plugin_id: str) -> dict[str, Any]:
        """Return `{status, sandbox, layers?, missingLayers?, why?, pid?, hub?, …figures}` of an installed plugin.

        `sandbox`: "full", "reduced", "none", or null before its process has reported.
        """
        if (unreadable := self._unreadable.get(plugin_id)) is not None:
            return {"status": lifecycle.Status.DISABLED.value, "sandbox": None, "why": unreadable.why_disabled}
        if (hosted := self._hosted.get(plugin_id)) is None:
            return {"status": lifecycle.Status.STOPPING.value, "sandbox": None, "why": "it is being exchanged"}
        hosted.notice_changes()
        shown: dict[str, Any] = {"status": hosted.life.status.value, "sandbox": None}
        if hosted.sandbox is not None:
            shown.update(hosted.sandbox.shown())
        if hosted.life.why:
            shown["why"] = hosted.life.why
        if hosted.life.pid is not None:
            shown["pid"] = hosted.life.pid
        shown.update(hosted.figures().shown())
        if (unguarded := self._ports.operations.unguarded.get(plugin_id)) is not None:
            shown["unguarded"] = f"UNGUARDED: {unguarded}"
        if hosted.plugin.hub_url is not None:
            shown["hub"] = "connected" if hosted.hub.connected else "not connected"
        return shown

    def own_key(self, plugin_id: str) -> str | None:
        """Return the address of the key that pays for `send`, to which gas is sent; None: it has none, or was not unlocked."""
        plugin = self.get(plugin_id)
        if plugin is None or not plugin.path or "keys" not in plugin.grants:
            return None
        try:
            return self._ports.signer.plugin_account((*plugin.path, OWN_KEY)).address
        except Unauthorized:
            return None

    async def invoke(
        self, plugin_id: str, action: str, params: dict[str, Any], origin: Origin, key: str | None, context: Context
    ) -> dict[str, Any] | None:
        """Ask a plugin for an action; `params` as `check_params` returned them. Return the declared results by name.

        Raises PluginFailed with the plugin's own error, PluginTimeout, PluginUnavailable (with outcome "unknown" once it
        was asked), LimitExceeded, and 4100 when the origin may no longer while it waited.
        """
        hosted = self._running(plugin_id)
        return await self._asking.invoke(hosted, self._spec(plugin_id, action), params, origin, key)

    def on_late_answer(self, record: Record) -> None:
        """Hand over what comes of an invoke under an idempotency key after its caller stopped waiting (hardening.md 15)."""
        self._asking.late.record = record

    async def get_state(self, plugin_id: str, path: str | None, fresh: bool, origin: Origin) -> dict[str, Any]:
        """Return `{plugin, revision, block, state}` as this origin sees it; `path` is a JSON Pointer.

        With `fresh`, or before anything was published, the plugin is asked and its answer published to this origin.
        """
        return await self._asking.get_state(self._running(plugin_id), path, fresh, origin)

    def on_state_change(self, callback: Callable[[str, int, Origin | None], None]) -> None:
        """Call back with (plugin id, revision, origin or None for everybody) after each publication."""
        self.states.on_change(callback)

    async def rehost(self, plugin_id: str) -> None:
        """Take up what the catalog now says of a plugin: added, changed, or removed."""
        await self.exchange(plugin_id, _nothing)

    async def exchange(self, plugin_id: str, change: Callable[[], Awaitable[Any]]) -> None:
        """Stop a plugin, do `change` to its files and record, and host what stands there then, whatever came of it.

        Goes on to its end when the one who asked goes away: halfway its store would be held by nobody who could give it back.
        """
        await self._to_its_end(self._exchange(plugin_id, change))

    async def _exchange(self, plugin_id: str, change: Callable[[], Awaitable[Any]]) -> None:
        async with self._changing:
            present = self._hosted.get(plugin_id)
            if present is not None:
                self._between[plugin_id] = present.plugin  # sites go on seeing it; what they ask now comes too early
            try:
                if present is not None:
                    await present.calls.idle(FINISHING_SECONDS)
                    self._missed[plugin_id] = []
                    await self._unhost(present)
                self._ports.operations.hold(plugin_id)  # until what stands there then was looked at
                try:
                    await change()
                finally:
                    await self._host_again(plugin_id, present)
            finally:
                self._between.pop(plugin_id, None)
                self._missed.pop(plugin_id, None)

    async def _unhost(self, present: Hosted) -> None:
        del self._hosted[present.plugin.id]
        await present.close()
        if present.plugin.path:
            self._ports.signer.close_plugin(present.plugin.path)

    async def _host_again(self, plugin_id: str, present: Hosted | None) -> None:
        self._unreadable.pop(plugin_id, None)
        plugin = self.catalog.get(plugin_id)
        if plugin is None:
            return
        if present is not None and present.plugin.digest != plugin.digest:
            self._ports.operations.exchanged(plugin_id)
        await self._host(plugin, eager=True)
        for operation in self._missed.pop(plugin_id, []):
            self._operation_changed(plugin_id, operation)

    async def remove(self, plugin_id: str, *, delete_store: bool, release: bool) -> dict[str, Any]:
        """Stop and forget a plugin, to the end. Its store is deleted only if nothing of the owner's is known to be locked by it."""
        return await self._to_its_end(self._remove(plugin_id, delete_store=delete_store, release=release))

    async def _to_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.create_task(work)
        self._exchanging.add(task)
        task.add_done_callback(self._exchanging.discard)
        return await asyncio.shield(task)

    async def _remove(self, plugin_id: str, *, delete_store: bool, release: bool) -> dict[str, Any]:
        self.catalog.check_removable(plugin_id, delete_store=delete_store, release=release)
        if delete_store:
            await self._check_nothing_locked(plugin_id)
        async with self._changing:
            present = self._hosted.get(plugin_id)
            if present is not None:
                await self._unhost(present)
                if delete_store:
                    present.freshness.forget()
            self._unreadable.pop(plugin_id, None)
            return self.catalog.remove(plugin_id, delete_store=delete_store, release=release)

    async def locked(self, plugin_id: str) -> list[dict[str, Any]]:
        """Return the rows of `l2_getDeposits` in which something is locked or on its way. Raise `Disconnected`."""
        plugin = self.get(plugin_id)
        if plugin is None or not plugin.gateways:
            return []
        rows = await self._ports.deposits.of(plugin)
        return [row for row in rows if any(int(str(row[part]), 0) for part in ("locked", "pending"))]

    async def _check_nothing_locked(self, plugin_id: str) -> None:
        if await self.locked(plugin_id):
            raise InstallRefused(f"{plugin_id} still has deposits on L1; remove it without --delete-store")

    # -- inside

    async def _host(self, plugin: InstalledPlugin, *, eager: bool = False) -> None:
        if self._sessions is None:
            raise RuntimeError("the plugin host is not started")
        store, notice = self.catalog.store_folder(plugin.id), self._ports.notice
        try:
            opened = await asyncio.to_thread(open_store, plugin.id, store, notice)
        except StorageError as error:
            self._unreadable[plugin.id] = dataclasses.replace(plugin, enabled=False, why_disabled=str(error))
            self._ports.operations.looked(plugin.id, str(error))
            notice(f"l2proxy: plugin {plugin.id} does not run: {error}")
            return
        hosted = Hosted(
            plugin,
            self._ports,
            self.states,
            opened,
            self.catalog.log(plugin.id),
            self._sessions,
            self._worker,
            unlocked=self._unlocked,
            other_gateways=lambda: self._gateways_beside(plugin.id),
            is_anothers=lambda address: self._is_anothers(plugin.id, address),
            on_quarantine=self._quarantined,
            unsandboxed=(plugin.id, plugin.digest) in self._unsandboxed,
            eager=eager,
            clock=self._clock,
            back_off=self._back_off,
        )
        self._hosted[plugin.id] = hosted
        if plugin.why_disabled:
            self._ports.notice(f"l2proxy: plugin {plugin.id} does not run: {plugin.why_disabled}")
        self._open_keys(hosted)
        hosted.start()

    def _spec(self, plugin_id: str, action: str) -> ActionSpec:
        installed = self.get(plugin_id)
        if installed is not None and not installed.enabled:
            raise PluginUnavailable(plugin_id, f"does not run; `l2proxy plugin info {plugin_id}` says why")
        spec = None if installed is None else installed.action(action)
        if spec is None:
            raise Unauthorized("there is no such action, or it is not permitted")
        return spec

    def _running(self, plugin_id: str) -> Hosted:
        hosted = self._hosted.get(plugin_id)
        if plugin_id in self._between:
            raise PluginUnavailable(plugin_id, "is being exchanged by its owner; ask again in a moment")
        if hosted is None:
            raise PluginUnavailable(plugin_id, "is not running")
        return hosted

    def _gateways_beside(self, plugin_id: str) -> frozenset[str]:
        return frozenset(
            gateway.address
            for other, hosted in self._hosted.items()
            if other != plugin_id
            for gateway in hosted.plugin.gateways
        )

    def _is_anothers(self, plugin_id: str, address: str) -> bool:
        """Tell whether an address is one that another plugin has been told is its own."""
        return any(hosted.keys.owns(address) for other, hosted in self._hosted.items() if other != plugin_id)

    def _quarantined(self, plugin_id: str, why: str, watches: bool) -> None:
        if not watches:  # else the next start of the daemon must not leave its money unwatched
            self.catalog.quarantine(plugin_id, why)
        self._ports.notice(
            f"l2proxy: plugin {plugin_id} is quarantined: {why}; `l2proxy plugin logs {plugin_id}` says more,"
            f" `l2proxy plugin add` of the same source lets it run again"
        )

    def _operation_changed(self, plugin_id: str, operation: dict[str, Any]) -> None:
        hosted = self._hosted.get(plugin_id)
        if hosted is not None:
            hosted.operation_changed(operation)
        elif plugin_id in self._missed:
            self._missed[plugin_id].append(operation)
        elif self._early is not None:
            self._early.append((plugin_id, operation))

    def _open_keys(self, hosted: Hosted) -> None:
        if hosted.plugin.path and hosted.needs_keys and not self._ports.signer.locked:
            self._ports.signer.open_plugin(hosted.plugin.path)

    def _on_unlock(self) -> None:
        for hosted in self._hosted.values():
            self._open_keys(hosted)
            hosted.tell("unlock")
        self._unlocked.set()

    def _on_lock(self) -> None:
        for hosted in self._hosted.values():
            hosted.tell("lock")
        self._recheck()

    def _recheck(self) -> None:
        for hosted in self._hosted.values():
            hosted.calls.recheck()

    async def _follow_head(self) -> None:
        async for _ in self._ports.l1.blocks.events():
            for hosted in self._hosted.values():
                hosted.poke()


async def _nothing() -> None:
    """Change nothing."""
