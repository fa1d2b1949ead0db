"""All plugins of a running daemon: what the doors, the links and the owner's commands ask about them.

Stands between the dapp methods (`l2_*`) and the hosted plugins. Permission was decided before anything arrives here; this
module never decides who may, only rechecks what may have changed while a call waited.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Collection
from typing import Any

import aiohttp

from middleware.errors import InvalidParams, PluginFailed, PluginTimeout, PluginUnavailable, Unauthorized
from middleware.invocation import Invocation
from middleware.waist import Context, Origin
from proxy.host import lifecycle
from proxy.host.abi_values import check_fields
from proxy.host.background import Background
from proxy.host.catalog import Catalog
from proxy.host.channel import AnsweredError, ChannelEnded
from proxy.host.failures import failed
from proxy.host.hosting import Hosted
from proxy.host.installed import ActionSpec, InstalledPlugin
from proxy.host.installer import InstallRefused
from proxy.host.late_answers import LateAnswers, Record
from proxy.host.ports import Ports
from proxy.host.sandbox.undumpable import make_undumpable
from proxy.host.state import Published, resolve, view

STATE_SECONDS = 30.0


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
        self._late = LateAnswers(self._background)
        self._session: aiohttp.ClientSession | None = None
        self._unlocked = asyncio.Event()
        self._changing = asyncio.Lock()
        self._early: list[tuple[str, dict[str, Any]]] = []  # operations that went on before the plugins were hosted
        ports.operations.on_change(self._operation_changed)

    async def start(self) -> None:
        """Host every installed plugin; their processes start in the background."""
        make_undumpable()
        ports = self._ports
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
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
            self._host(plugin)
        early, self._early = self._early, []
        for plugin_id, operation in early:
            self._operation_changed(plugin_id, operation)

    async def close(self) -> None:
        """Stop every plugin, politely, all at once."""
        await self._background.close()
        async with self._changing:
            await asyncio.gather(*(hosted.close() for hosted in self._hosted.values()))
            self._hosted.clear()
        if self._session is not None:
            await self._session.close()

    def get(self, plugin_id: str) -> InstalledPlugin | None:
        """Return an installed plugin."""
        hosted = self._hosted.get(plugin_id)
        return None if hosted is None else hosted.plugin

    def all(self) -> list[InstalledPlugin]:
        """Return every installed plugin by id."""
        return [self._hosted[plugin_id].plugin for plugin_id in sorted(self._hosted)]

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        """Return what is declared of an action; None when there is none."""
        installed = self.get(plugin)
        return None if installed is None else installed.action(action)

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        """Return an action's params in canonical wire form by name. Raises InvalidParams; 4100 where there is no action."""
        spec = self._spec(plugin, action)
        return check_fields(spec.params, raw, "params")

    def status(self, plugin_id: str) -> dict[str, Any]:
        """Return `{status, sandbox, layers?, missingLayers?, why?, pid?, hub?}` of an installed plugin.

        `sandbox`: "full", "reduced", "none", or null before its process has reported.
        """
        hosted = self._hosted[plugin_id]
        shown: dict[str, Any] = {"status": hosted.life.status.value, "sandbox": None}
        if hosted.sandbox is not None:
            shown.update(hosted.sandbox.shown())
        if hosted.life.why:
            shown["why"] = hosted.life.why
        if hosted.life.pid is not None:
            shown["pid"] = hosted.life.pid
        if (unguarded := self._ports.operations.unguarded.get(plugin_id)) is not None:
            shown["unguarded"] = f"UNGUARDED: {unguarded}"
        if hosted.plugin.hub_url is not None:
            shown["hub"] = "connected" if hosted.hub.connected else "not connected"
        return shown

    async def invoke(
        self, plugin_id: str, action: str, params: dict[str, Any], origin: Origin, key: str | None, context: Context
    ) -> dict[str, Any] | None:
        """Ask a plugin for an action; `params` as `check_params` returned them. Return the declared results by name.

        Raises PluginFailed with the plugin's own error, PluginTimeout, PluginUnavailable (with outcome "unknown" once it
        was asked), LimitExceeded, and 4100 when the origin may no longer while it waited.
        """
        hosted = self._running(plugin_id)
        spec = self._spec(plugin_id, action)
        async with hosted.calls.enter(origin, lambda: self._still_may(origin, plugin_id, action)) as call:
            channel = await self._channel(hosted)
            asked = {
                "call": call.id,
                "action": action,
                "params": params,
                "origin": str(origin),
                "deadline": int(self._clock() + self._ports.limits.plugin_call),
            }
            if key is not None:
                asked["idempotencyKey"] = key
            invocation = Invocation(plugin_id, action, params, key)
            concluded = functools.partial(_concluded, plugin_id, spec)
            return await self._late.ask(channel, asked, call.time, origin, invocation, concluded)

    def on_late_answer(self, record: Record) -> None:
        """Hand over what comes of an invoke under an idempotency key after its caller stopped waiting (hardening.md 15)."""
        self._late.record = record

    async def get_state(self, plugin_id: str, path: str | None, fresh: bool, origin: Origin) -> dict[str, Any]:
        """Return `{plugin, revision, block, state}` as this origin sees it; `path` is a JSON Pointer.

        With `fresh`, or before anything was published, the plugin is asked and its answer published to this origin.
        """
        hosted = self._running(plugin_id)
        resolve({}, path)
        published = self.states.get(plugin_id)
        if fresh or published is None or not published.known_to(origin):
            published = await self._asked_state(hosted, origin)
        state = resolve(view(published, origin), path)
        return {"plugin": plugin_id, "revision": hex(published.revision), "block": hex(published.block), "state": state}

    def on_state_change(self, callback: Callable[[str, int, Origin | None], None]) -> None:
        """Call back with (plugin id, revision, origin or None for everybody) after each publication."""
        self.states.on_change(callback)

    async def rehost(self, plugin_id: str) -> None:
        """Take up what the catalog now says of a plugin: added, changed, or removed."""
        async with self._changing:
            present = self._hosted.pop(plugin_id, None)
            if present is not None:
                await present.close()
                if present.plugin.path:
                    self._ports.signer.close_plugin(present.plugin.path)
            plugin = self.catalog.get(plugin_id)
            if plugin is not None:
                self._host(plugin)

    async def remove(self, plugin_id: str, *, delete_store: bool, release: bool) -> dict[str, Any]:
        """Stop and forget a plugin. Its store is deleted only if nothing of the owner's is known to be locked by it."""
        self.catalog.check_removable(plugin_id, delete_store=delete_store, release=release)
        if delete_store:
            await self._check_nothing_locked(plugin_id)
        async with self._changing:
            present = self._hosted.pop(plugin_id, None)
            if present is not None:
                await present.close()
                if present.plugin.path:
                    self._ports.signer.close_plugin(present.plugin.path)
            return self.catalog.remove(plugin_id, delete_store=delete_store, release=release)

    async def _check_nothing_locked(self, plugin_id: str) -> None:
        plugin = self.get(plugin_id)
        if plugin is None or not plugin.gateways:
            return
        rows = await self._ports.deposits.of(plugin)
        if any(int(str(row[part]), 0) for row in rows for part in ("locked", "pending")):
            raise InstallRefused(f"{plugin_id} still has deposits on L1; remove it without --delete-store")

    # -- inside

    def _host(self, plugin: InstalledPlugin) -> None:
        if self._session is None:
            raise RuntimeError("the plugin host is not started")
        hosted = Hosted(
            plugin,
            self._ports,
            self.states,
            self.catalog.store_folder(plugin.id),
            self.catalog.log(plugin.id),
            self._session,
            unlocked=self._unlocked,
            other_gateways=lambda: self._gateways_beside(plugin.id),
            is_anothers=lambda address: self._is_anothers(plugin.id, address),
            on_quarantine=self._quarantined,
            unsandboxed=(plugin.id, plugin.digest) in self._unsandboxed,
            clock=self._clock,
            back_off=self._back_off,
        )
        self._hosted[plugin.id] = hosted
        if plugin.why_disabled:
            self._ports.notice(f"l2proxy: plugin {plugin.id} does not run: {plugin.why_disabled}")
        self._open_keys(plugin)
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
        if hosted is None:
            raise PluginUnavailable(plugin_id, "is not running")
        return hosted

    async def _channel(self, hosted: Hosted) -> Any:
        seconds = self._ports.limits.plugin_call
        try:
            async with asyncio.timeout(seconds):
                return await hosted.life.channel()
        except TimeoutError:
            why = f"is {hosted.life.status.value}"
            raise PluginUnavailable(hosted.plugin.id, f"{why} and did not begin to answer in {seconds:g} s") from None

    async def _asked_state(self, hosted: Hosted, origin: Origin) -> Published:
        plugin_id = hosted.plugin.id
        channel = await self._channel(hosted)
        try:
            async with asyncio.timeout(STATE_SECONDS):
                state = await channel.request("getLayer2State", {"origin": str(origin)})
        except TimeoutError:
            raise PluginTimeout(plugin_id, STATE_SECONDS) from None
        except AnsweredError as error:
            raise failed(plugin_id, error) from None
        except ChannelEnded as error:
            raise PluginUnavailable(plugin_id, f"crashed while it was asked: it {error}") from None
        head = self._ports.l1.blocks.head
        try:
            return self.states.answered(plugin_id, origin, 0 if head is None else head.number, state)
        except InvalidParams as error:
            raise PluginFailed(plugin_id, -32603, f"its getLayer2State answered no state: {error.message}") from None

    def _still_may(self, origin: Origin, plugin_id: str, action: str) -> None:
        if self._ports.signer.locked:
            raise Unauthorized("the wallet is locked", "l2proxy unlock")
        if not self._ports.permissions.may_invoke(origin, plugin_id, action):
            raise Unauthorized(f"{origin} may no longer invoke this action")

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

    def _quarantined(self, plugin_id: str, why: str) -> None:
        self.catalog.quarantine(plugin_id, why)
        self._ports.notice(
            f"l2proxy: plugin {plugin_id} is quarantined: {why}; `l2proxy plugin logs {plugin_id}` says more,"
            f" `l2proxy plugin add` of the same source lets it run again"
        )

    def _operation_changed(self, plugin_id: str, operation: dict[str, Any]) -> None:
        hosted = self._hosted.get(plugin_id)
        if hosted is not None:
            hosted.operation_changed(operation)
        elif self._session is None:
            self._early.append((plugin_id, operation))

    def _open_keys(self, plugin: InstalledPlugin) -> None:
        if plugin.path and "keys" in plugin.grants and not self._ports.signer.locked:
            self._ports.signer.open_plugin(plugin.path)

    def _on_unlock(self) -> None:
        for hosted in self._hosted.values():
            self._open_keys(hosted.plugin)
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


def _concluded(plugin_id: str, spec: ActionSpec, answer: asyncio.Future[Any]) -> dict[str, Any] | None:
    """Return the declared results of an invoke that was asked; raise what its caller hears."""
    try:
        return _result(plugin_id, spec, answer.result())
    except AnsweredError as error:
        raise failed(plugin_id, error) from None
    except ChannelEnded as error:
        raise PluginUnavailable(plugin_id, f"crashed while it was asked: it {error}", "unknown") from None


def _result(plugin_id: str, spec: ActionSpec, answer: Any) -> dict[str, Any] | None:
    """Return the answer in canonical form, or -32010 when it is not what the manifest declares."""
    if not spec.returns:
        return None
    try:
        return check_fields(spec.returns, answer if isinstance(answer, dict) else "nothing of it", "result")
    except InvalidParams as error:
        raise PluginFailed(plugin_id, -32603, f"its answer is not what it declares: {error.message}") from None
