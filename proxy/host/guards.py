"""Could every plugin with locked funds answer a dispute now? If not, it is UNGUARDED (hardening.md 22).

Looks from time to time at what is locked on L1, at the keys at hand and at their gas, and keeps `Operations.unguarded`, which
status and readiness show; each change is said on standard error. It asks the node and the keyring, and moves nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from middleware.amounts import ether
from middleware.errors import RpcError, Unauthorized
from proxy.host.background import Background
from proxy.host.installed import InstalledPlugin
from proxy.host.operation_ports import L1, OwnKeys
from proxy.host.operation_records import Operation
from proxy.host.operation_rights import OWN_KEY

log = logging.getLogger("l2proxy.operations")

EVERY = 30.0  # seconds between two looks at most as often, however many blocks there are
DISPUTE_GAS = 300_000  # of one answer, while none of this plugin's is known
MARGIN = 5  # times the present fee


class Operations(Protocol):
    """The operations, as far as the watch goes."""

    unguarded: dict[str, str]

    def records_of(self, plugin_id: str) -> list[Operation]:
        """Return the records of a plugin."""

    def on_change(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Call back with (plugin id, operation) after each change."""


class Deposits(Protocol):
    """What is locked on L1."""

    async def of(self, plugin: InstalledPlugin) -> list[dict[str, Any]]:
        """Return the rows of `l2_getDeposits`."""


class Accounts(Protocol):
    """The keyring's lock."""

    @property
    def locked(self) -> bool:
        """Tell whether the main accounts cannot sign."""

    def on_lock(self, callback: Callable[[], None]) -> None:
        """Call back after each lock."""

    def on_unlock(self, callback: Callable[[], None]) -> None:
        """Call back after each unlock."""


class Guards:
    """Keeps `operations.unguarded`. `installed` returns the plugins as they are now; `notice` writes to standard error;
    `keep_room` keeps room on the disk for answers to disputes, and tells whether there was enough.
    """

    def __init__(
        self,
        l1: L1,
        operations: Operations,
        deposits: Deposits,
        accounts: Accounts,
        own: OwnKeys,
        installed: Callable[[], Sequence[InstalledPlugin]],
        notice: Callable[[str], None],
        keep_room: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._l1, self._operations, self._deposits = l1, operations, deposits
        self._accounts, self._own, self._installed = accounts, own, installed
        self._notice, self._keep_room, self._clock = notice, keep_room, clock
        self._has_room = True
        self._due = asyncio.Event()
        self._looked = -EVERY
        self._background = Background()
        accounts.on_lock(self._due.set)
        accounts.on_unlock(self._due.set)
        operations.on_change(self._changed)

    def start(self) -> None:
        """Look now, after each lock and unlock, when an operation is over, and with new blocks."""
        self._due.set()
        self._background.start(self._run(), "watch duty")
        self._background.start(self._listen(), "watch duty: blocks")

    async def close(self) -> None:
        """Look no more."""
        await self._background.close()

    async def look(self) -> None:
        """Look at every plugin once. What the node does not answer leaves its plugin as it was."""
        self._looked = self._clock()
        plugins = {plugin.id: plugin for plugin in self._installed()}
        for gone in set(self._operations.unguarded) - set(plugins):
            del self._operations.unguarded[gone]
        for plugin in plugins.values():
            try:
                self._keep(plugin.id, await self._why(plugin))
            except RpcError as error:
                log.info("the watch duty of %s is not known: %s", plugin.id, error.message)

    def _keep(self, plugin_id: str, why: str | None) -> None:
        known = self._operations.unguarded.get(plugin_id)
        if why is None:
            if self._operations.unguarded.pop(plugin_id, None) is not None:
                self._notice(f"l2proxy: plugin {plugin_id} is guarded again: it could answer a dispute")
            return
        self._operations.unguarded[plugin_id] = why
        if known is None:
            self._notice(f"l2proxy: plugin {plugin_id} is UNGUARDED: {why}")

    async def _why(self, plugin: InstalledPlugin) -> str | None:
        """Return why nobody could answer a dispute about what the plugin has locked; None: somebody could, or nothing is."""
        if not any(gateway.dispute for gateway in plugin.gateways):
            return None
        rows = await self._deposits.of(plugin)
        if not any(int(row[part], 16) for row in rows for part in ("locked", "pending")):
            return None
        await self._make_room()
        return self._keyless(plugin) or await self._too_poor(plugin)

    async def _make_room(self) -> None:
        """Keep room on the disk from the moment there is something to dispute."""
        has_room = await asyncio.to_thread(self._keep_room)
        if self._has_room and not has_room:
            self._notice("l2proxy: the disk is nearly full: no room can be kept for answers to disputes")
        self._has_room = has_room

    def _keyless(self, plugin: InstalledPlugin) -> str | None:
        """Return why the plugin could sign no answer."""
        if not plugin.enabled:
            return f"it does not run: {plugin.why_disabled}"
        if not plugin.path or not {"keys", "gateway"} <= plugin.grants:
            return "it has funds locked on L1 and was not granted keys and gateway, so it can answer no dispute"
        if self._accounts.locked and not plugin.manifest.permissions.watch_while_locked:
            return "it has funds locked on L1, and its manifest does not ask to watch while the wallet is locked"
        try:
            self._own.address((*plugin.path, OWN_KEY))
        except Unauthorized:
            return "it has funds locked on L1, and the wallet was locked since the start; `l2proxy unlock` once"
        return None

    async def _too_poor(self, plugin: InstalledPlugin) -> str | None:
        """Return why the plugin could not pay for one."""
        address = self._own.address((*plugin.path, OWN_KEY))
        balance = int(await self._l1.call("eth_getBalance", address, "latest"), 16)
        needed = MARGIN * int(await self._l1.call("eth_gasPrice"), 16) * self._gas(plugin)
        if balance >= needed:
            return None
        return (
            f"its own key {address} has {ether(balance)} for gas; one answer to a dispute may take {ether(needed)};"
            " send some there"
        )

    def _gas(self, plugin: InstalledPlugin) -> int:
        """Return the gas of one answer: the most that one of this plugin's was given."""
        sends = (one for one in self._operations.records_of(plugin.id) if one.kind == "send")
        given = [int(step.attempt["gas"], 16) for one in sends for step in one.steps if step.attempt is not None]
        return max(given, default=DISPUTE_GAS)

    def _changed(self, _plugin_id: str, operation: dict[str, Any]) -> None:
        if operation["status"] == "done":
            self._due.set()

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self.look()

    async def _listen(self) -> None:
        async for _ in self._l1.blocks.events():
            if self._clock() - self._looked >= EVERY:
                self._due.set()
