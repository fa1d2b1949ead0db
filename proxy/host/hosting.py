"""One hosted plugin: its process, store, keys, hub, watches and calls, put together and taken apart.

The composition root of one plugin, between `plugins` (all of them) and the parts. Nothing here is shared with another
plugin except the ports; whatever one does, it does to the parts of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from middleware.errors import PluginUnavailable, RpcError
from proxy.host import lifecycle, process
from proxy.host.background import Background
from proxy.host.calls import Calls
from proxy.host.channel import AnsweredError, ChannelEnded
from proxy.host.deliveries import Deliveries
from proxy.host.figures import Figures, figures_of
from proxy.host.freshness import Freshness
from proxy.host.installed import InstalledPlugin
from proxy.host.lifecycle import Life, NotAsInstalled, Status
from proxy.host.operation_news import OperationNews
from proxy.host.operation_records import OVER
from proxy.host.plugin_log import PluginLog
from proxy.host.ports import Ports
from proxy.host.provider import Asker, HostMethod, Nothing, Provider
from proxy.host.registry import CHANGED
from proxy.host.sandbox.report import NONE, Sandbox
from proxy.host.services.digests import Digests
from proxy.host.services.hub import Hub
from proxy.host.services.hub_addresses import HubSessions
from proxy.host.services.keys import Keys
from proxy.host.services.layer1 import Layer1
from proxy.host.services.money import Money
from proxy.host.services.publishing import Publishing
from proxy.host.services.raw_transactions import RawTransactions
from proxy.host.services.schedule import Schedule
from proxy.host.services.store import Store
from proxy.host.services.store_sealing import Plain, Sealing
from proxy.host.services.typed_reading import TypedReading
from proxy.host.services.watches import Watches
from proxy.host.services.worker import Worker
from proxy.host.state import States
from proxy.host.store_opening import OpenedStore
from proxy.host.tampering import StoredFiles
from proxy.storage.counter import Counter

log = logging.getLogger("l2proxy.host")

TELL_SECONDS = 10.0


class Hosted:
    """A plugin that is being hosted. `store`: its open database; `eager`: it is started without being needed."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        ports: Ports,
        states: States,
        store: OpenedStore,
        output: PluginLog,
        sessions: HubSessions,
        worker: Worker,
        *,
        unlocked: asyncio.Event,
        other_gateways: Callable[[], frozenset[str]],
        is_anothers: Callable[[str], bool],
        on_quarantine: Callable[[str, str, bool], None],
        unsandboxed: bool = False,
        eager: bool = False,
        clock: Callable[[], float] = time.time,
        back_off: tuple[float, ...] = lifecycle.BACK_OFF,
    ) -> None:
        self.plugin = plugin
        self.ready = False
        self._files = StoredFiles(plugin.folder, plugin.digest)
        self._looking: asyncio.Task[None] | None = None  # at its files, for as long as that takes
        self.sandbox: Sandbox | None = None  # of the process that runs or ran last
        self._unsandboxed = unsandboxed
        self._ports = ports
        self._repaired = store.repaired
        self.invokes = self.errors = 0  # since the daemon began
        self._output = output
        self._clock = clock
        self._background = Background()
        self._on_quarantine = on_quarantine  # with whether its watch goes on
        self._talking: asyncio.Task[Any] | None = None
        limits = ports.limits
        self.calls = Calls(
            plugin.id,
            in_flight=limits.invokes_in_flight,
            waiting=limits.invokes_waiting,
            seconds=limits.plugin_call,
        )
        database = store.database
        self.store = Store(database, plugin.manifest.permissions.store_bytes)
        turns = self.store.turns
        counter = None if ports.counters is None else Counter(ports.counters, self.store.book.id)
        self.freshness = Freshness(
            plugin, counter, database.space("meta"), turns, ports.l1, ports.operations, ports.deposits
        )
        self.store.committed = self.freshness.committed
        self.needs_keys = "keys" in plugin.grants or self.store.book.sealed
        self.life = Life(
            plugin.id,
            self._spawn,
            self._answer,
            self._notified,
            self._introduction,
            output,
            may_start=unlocked if self.needs_keys else _already(),
            on_up=self._up,
            on_down=self._down,
            on_quarantine=self._quarantined,
            has_locked=self._has_locked,
            eager=eager
            or bool(plugin.gateways)
            or ("hub" in plugin.grants and plugin.hub_url is not None)
            or any(one["status"] not in OVER for one in ports.operations.get(plugin.id)),
            clock=clock,
            back_off=back_off,
        )
        watch_channel = functools.partial(self.life.channel, watch=True)
        self.deliveries = Deliveries(plugin.id, watch_channel, self.life.kill, output.host, aside=self._loud)
        self.operations = OperationNews(database.space("operations"), turns, self.deliveries)
        self.keys = Keys(
            plugin,
            database.space("accounts"),
            turns,
            ports.signer,
            ports.paths,
            ports.crypto,
            ports.approvals,
            TypedReading(ports.crypto, worker),
            chain_id=ports.l1.chain_id,
            is_ready=lambda: self.ready,
            other_gateways=other_gateways,
        )
        self.watches = Watches(plugin.id, database.space("watches"), turns, ports.l1, self.deliveries, self._background)
        self.schedule = Schedule(database.space("schedule"), turns, self.deliveries, self._head, clock)
        session = sessions.of(private=plugin.hub_named)
        self.hub = Hub(plugin.id, plugin.hub_url if "hub" in plugin.grants else None, session, self.deliveries)
        raw = RawTransactions(plugin, ports.signer, ports.crypto, ports.audit, ports.l1.chain_id, is_anothers)
        services = (
            self.store,
            self.keys,
            Digests(ports.crypto, worker),
            self.watches,
            self.schedule,
            self.hub,
            Publishing(plugin.id, states, turns, self._head),
            Layer1(plugin, ports.dispatch, ports.layer1_allowed, raw),
            Money(plugin, ports.operations),
        )
        rows = [service.methods() for service in services]
        rows.append({"ready": HostMethod(None, Nothing, self._ready)})
        self.provider = Provider(plugin.id, plugin.grants, rows, self.calls, self.deliveries.paused)

    def start(self) -> None:
        """Begin its life and everything that is delivered to it."""
        name = self.plugin.id
        if not self.plugin.enabled:
            self.life.disable(self.plugin.why_disabled)
            return
        self._background.start(self.life.run(), f"plugin {name}")
        self._background.start(self.operations.run(), f"operations of {name}")
        self._background.start(self.schedule.run(), f"schedule of {name}")
        self._talking = self._background.start(self.hub.run(), f"hub of {name}")
        self.watches.resume()

    async def close(self) -> None:
        """Stop the plugin politely, then everything else, and close its store."""
        await self.life.stop()
        await self._background.close()
        await self.freshness.note_nonces(self.keys)
        await self.store.close()
        self.freshness.close()

    def figures(self) -> Figures:
        """Return what it has done and takes."""
        return figures_of(self.life, self.calls, self.deliveries, self.store, self.invokes, self.errors)

    async def check_files(self) -> None:
        """Disable it where its files are no longer those that were installed; costs a look at each, once for all who ask meanwhile."""
        self.notice_changes()
        if self._looking is not None:
            await asyncio.wait([self._looking])  # who leaves does not end it, and its end is nobody's error

    def notice_changes(self) -> None:
        """Do what `check_files` does, without waiting for it."""
        if self._looking is not None or self.life.is_over or not self._files.due:
            return
        if self._files.many or self._files.look_changed():
            self._looking = self._background.start(self._compare_files(), f"files of {self.plugin.id}")

    async def _compare_files(self) -> None:
        try:
            if not await asyncio.to_thread(self._files.are_unchanged):
                self.life.refuse(CHANGED)
        finally:
            self._looking = None

    def poke(self) -> None:
        """The head has changed."""
        self.watches.poke()
        self.schedule.poke()

    def blame(self, text: str) -> None:
        """Write into the plugin's log what is wrong with something it answered."""
        self._output.blame(text)

    def operation_changed(self, operation: dict[str, Any]) -> None:
        """Tell the plugin what an operation has become."""
        self.operations.add(operation)
        if operation.get("status") == "done":
            self._background.start(self.freshness.note_nonces(self.keys), f"nonces of {self.plugin.id}")

    def tell(self, method: str) -> None:
        """Say `lock` or `unlock` to a running plugin; one that is not running learns it at its start."""
        if self.life.status is Status.RUNNING:
            self._background.start(self._say(method), f"{method} of {self.plugin.id}")

    async def _say(self, method: str) -> None:
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await (await self.life.channel()).request(method, {})
        except (TimeoutError, AnsweredError, ChannelEnded, PluginUnavailable) as error:
            self._output.host(f"{method} was not answered well: {str(error)[:200] or 'too late'}")

    async def _spawn(self) -> process.PluginProcess:
        manifest = self.plugin.manifest
        if not await asyncio.to_thread(self._files.are_as_stored):
            raise NotAsInstalled(CHANGED)
        wanted = manifest.permissions
        await self._look_at_store()
        spawned = await process.spawn(
            self.plugin.folder,
            manifest.entry,
            wanted.memory_bytes,
            cpu=wanted.cpu_seconds_per_minute,
            unsandboxed=self._unsandboxed,
            runtime=manifest.runtime,
        )
        self.sandbox = spawned.sandbox
        if spawned.sandbox.level == NONE:
            warning = f"runs WITHOUT a sandbox ({spawned.sandbox.why}), as --allow-unsandboxed asks"
            self._output.host(f"the plugin {warning}")
            self._ports.notice(f"l2proxy: WARNING: plugin {self.plugin.id} {warning}")
        return spawned

    async def _look_at_store(self) -> None:
        """Open the store's values and find out whether it is the newest there was; once, before the first start."""
        if self.freshness.restored is not None:
            return
        sealing = Plain()
        if self.needs_keys and self.plugin.path:
            sealing = Sealing(self._ports.signer.plugin_store_secret(self.plugin.path))
        whole = await self.store.open(sealing, repaired=self._repaired)
        imported = self._ports.phrase_imported()
        await self.freshness.look(self.store, self.keys, whole=whole, repaired=self._repaired, imported=imported)
        if self.freshness.why:
            self._output.host(f"the store may not be the newest: {self.freshness.why}")
        self._ports.operations.looked(self.plugin.id, self.freshness.why, killed=self.freshness.killed)
        if self._repaired or not whole or isinstance(self.freshness.restored, dict):
            self._loud(f"{self.freshness.why}; the plugin is told, and signs nothing before it has resynchronised")

    def _loud(self, text: str) -> None:
        self._ports.notice(f"l2proxy: plugin {self.plugin.id}: {text}")

    async def _has_locked(self) -> bool:
        """Tell whether it has a watch to keep; where that is not known, it has."""
        if not self.plugin.gateways:
            return False
        try:
            async with asyncio.timeout(TELL_SECONDS):
                rows = await self._ports.deposits.of(self.plugin)
        except (TimeoutError, RpcError):
            return True
        return any(int(str(row[part]), 0) for row in rows for part in ("locked", "pending") if part in row)

    def _answer(self, method: str, params: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        return self.provider.request(method, params)

    def _notified(self, _: str, params: dict[str, Any]) -> None:
        self._output.from_plugin(params)

    def _introduction(self) -> dict[str, Any]:
        """Return what `start` tells (plugin.md): numbers as quantities."""
        self.ready = False
        plugin = self.plugin
        gateways = [
            {"name": row.name, "chain": hex(row.chain), "address": row.address, "since": hex(row.since)}
            for row in plugin.gateways
        ]
        return {
            "chainId": hex(self._ports.l1.chain_id),
            "owner": plugin.owner,
            "gateways": gateways,
            "accounts": self.keys.known(),
            "restored": self.freshness.restored,
        }

    def _up(self, answer: dict[str, Any]) -> None:
        self._output.host(f"the plugin runs, process {self.life.pid}")
        declared = {action.name for action in self.plugin.manifest.action}
        actions = answer.get("actions")
        coded = {row.get("name") for row in actions if isinstance(row, dict)} if isinstance(actions, list) else declared
        if missing := sorted(declared - coded):
            self._output.host(f"the manifest declares actions the code has not: {', '.join(missing)}")
        if self._ports.signer.locked:
            self.tell("lock")

    def _quarantined(self, why: str) -> None:
        if self._talking is not None:
            self._talking.cancel()  # nobody is left to listen to the hub
        self._on_quarantine(self.plugin.id, why, self.life.watches_only)

    def _down(self) -> None:
        self.ready = False

    async def _ready(self, _: Nothing, __: Asker) -> dict[str, Any]:
        """The plugin has resynchronised: own-key signing begins (hardening.md 24)."""
        await self.freshness.prove(self.store, self.keys)
        self.ready = True
        return {}

    def _head(self) -> int:
        head = self._ports.l1.blocks.head
        return 0 if head is None else head.number


def _already() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
