"""One hosted plugin: its process, store, keys, hub, watches and calls, put together and taken apart.

The composition root of one plugin, between `plugins` (all of them) and the parts. Nothing here is shared with another
plugin except the ports; whatever one does, it does to the parts of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from middleware.errors import PluginUnavailable
from proxy.host import lifecycle, process
from proxy.host.background import Background
from proxy.host.calls import Calls
from proxy.host.channel import AnsweredError, ChannelEnded
from proxy.host.deliveries import Deliveries
from proxy.host.installed import InstalledPlugin
from proxy.host.lifecycle import Life, NotAsInstalled, Status
from proxy.host.package import is_as_stored
from proxy.host.plugin_log import PluginLog
from proxy.host.ports import Ports
from proxy.host.provider import Asker, HostMethod, Nothing, Provider
from proxy.host.registry import CHANGED
from proxy.host.sandbox.report import NONE, Sandbox
from proxy.host.services.digests import Digests
from proxy.host.services.hub import Hub
from proxy.host.services.keys import Keys
from proxy.host.services.layer1 import Layer1
from proxy.host.services.money import Money
from proxy.host.services.publishing import Publishing
from proxy.host.services.raw_transactions import RawTransactions
from proxy.host.services.schedule import Schedule
from proxy.host.services.store import Store
from proxy.host.services.watches import Watches
from proxy.host.state import States
from proxy.storage import Database

log = logging.getLogger("l2proxy.host")

TELL_SECONDS = 10.0


class Hosted:
    """A plugin that is being hosted. `store`: the folder of its LevelDB."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        ports: Ports,
        states: States,
        store: Path,
        output: PluginLog,
        session: aiohttp.ClientSession,
        *,
        unlocked: asyncio.Event,
        other_gateways: Callable[[], frozenset[str]],
        is_anothers: Callable[[str], bool],
        on_quarantine: Callable[[str, str], None],
        unsandboxed: bool = False,
        clock: Callable[[], float] = time.time,
        back_off: tuple[float, ...] = lifecycle.BACK_OFF,
    ) -> None:
        self.plugin = plugin
        self.ready = False
        self.sandbox: Sandbox | None = None  # of the process that runs or ran last
        self._unsandboxed = unsandboxed
        self._ports = ports
        self._database = Database(store)
        self._output = output
        self._clock = clock
        self._background = Background()
        self._told = 0
        self._on_quarantine = on_quarantine
        self._talking: asyncio.Task[Any] | None = None
        limits = ports.limits
        self.calls = Calls(
            plugin.id,
            in_flight=limits.invokes_in_flight,
            waiting=limits.invokes_waiting,
            seconds=limits.plugin_call,
        )
        self.life = Life(
            plugin.id,
            self._spawn,
            self._answer,
            self._notified,
            self._introduction,
            output,
            may_start=unlocked if "keys" in plugin.grants else _already(),
            on_up=self._up,
            on_down=self._down,
            on_quarantine=self._quarantined,
            clock=clock,
            back_off=back_off,
        )
        self.deliveries = Deliveries(plugin.id, self.life.channel, self.life.kill, output.host)
        self._queue = self._database.space("operations")
        self._queued = asyncio.Event()
        self.store = Store(self._database, plugin.manifest.permissions.store_bytes)
        self.keys = Keys(
            plugin,
            self._database.space("accounts"),
            ports.signer,
            ports.paths,
            ports.crypto,
            ports.approvals,
            chain_id=ports.l1.chain_id,
            is_ready=lambda: self.ready,
            other_gateways=other_gateways,
        )
        self.watches = Watches(plugin.id, self._database.space("watches"), ports.l1, self.deliveries, self._background)
        self.schedule = Schedule(self._database.space("schedule"), self.deliveries, self._head, clock)
        self.hub = Hub(plugin.id, plugin.hub_url if "hub" in plugin.grants else None, session, self.deliveries)
        raw = RawTransactions(plugin, ports.signer, ports.crypto, ports.audit, ports.l1.chain_id, is_anothers)
        services = (
            self.store,
            self.keys,
            Digests(ports.crypto),
            self.watches,
            self.schedule,
            self.hub,
            Publishing(plugin.id, states, self._head),
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
        self._background.start(self._pump_operations(), f"operations of {name}")
        self._background.start(self.schedule.run(), f"schedule of {name}")
        self._talking = self._background.start(self.hub.run(), f"hub of {name}")
        self.watches.resume()

    async def close(self) -> None:
        """Stop the plugin politely, then everything else, and close its store."""
        await self.life.stop()
        await self._background.close()
        await self.store.close()

    def poke(self) -> None:
        """The head has changed."""
        self.watches.poke()
        self.schedule.poke()

    def operation_changed(self, operation: dict[str, Any]) -> None:
        """Keep what an operation has become until the plugin has answered it."""
        last = next((key for key, _ in self._queue.scan(limit=1, reverse=True)), None)
        number = max(self._told, 0 if last is None else int.from_bytes(last, "big")) + 1
        self._told = number
        self._queue.write({number.to_bytes(8, "big"): msgspec.json.encode(operation)})
        self._queued.set()

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
        if not await asyncio.to_thread(is_as_stored, self.plugin.folder, self.plugin.digest):
            raise NotAsInstalled(CHANGED)
        wanted = manifest.permissions
        spawned = await process.spawn(
            self.plugin.folder,
            manifest.entry,
            wanted.memory_bytes,
            cpu=wanted.cpu_seconds_per_minute,
            unsandboxed=self._unsandboxed,
        )
        self.sandbox = spawned.sandbox
        if spawned.sandbox.level == NONE:
            warning = f"runs WITHOUT a sandbox ({spawned.sandbox.why}), as --allow-unsandboxed asks"
            self._output.host(f"the plugin {warning}")
            self._ports.notice(f"l2proxy: WARNING: plugin {self.plugin.id} {warning}")
        return spawned

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        return await self.provider.request(method, params)

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
            "restored": False,
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
        self._on_quarantine(self.plugin.id, why)

    def _down(self) -> None:
        self.ready = False

    async def _ready(self, _: Nothing, __: Asker) -> dict[str, Any]:
        """The plugin has resynchronised: own-key signing begins (hardening.md 24)."""
        self.ready = True
        return {}

    def _head(self) -> int:
        head = self._ports.l1.blocks.head
        return 0 if head is None else head.number

    async def _pump_operations(self) -> None:
        while True:
            self._queued.clear()
            for key, value in list(self._queue.scan(limit=100)):
                try:
                    await self.deliveries.deliver("operation", "operation", msgspec.json.decode(value))
                except PluginUnavailable:
                    return
                self._queue.write(delete=[key])
                self._queued.set()
            await self._queued.wait()


def _already() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
