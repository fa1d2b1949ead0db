"""`Plugin`: the class an author subclasses. Actions are its `@action` methods, events its hooks.

Hooks do nothing unless overridden. Deliveries (block, logs, hub, operation, scheduled) are answered when the hook returns,
and come again after a restart until then: a hook that writes before it returns loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .actions import Action, UnknownName, declared
from .host import Host
from .records import Account, Gateway, Operation, StartInfo
from .services import GatewayService, Hub, Keys, Layer1, Log, Schedule, State, Store


class Plugin:
    """A layer-2 plugin. The services below are there from `start` on, not in `__init__`."""

    _declared: ClassVar[Mapping[str, Action] | None] = None

    layer1_network_id: int
    layer1_owner_address: str
    gateways: Mapping[str, Gateway]
    accounts: tuple[Account, ...]
    restored: Any
    store: Store
    keys: Keys
    gateway: GatewayService
    layer1: Layer1
    hub: Hub
    state: State
    schedule: Schedule
    log: Log

    def __init_subclass__(cls, **options: Any) -> None:
        """Read the actions' signatures once; a bad one raises DeclarationError here."""
        super().__init_subclass__(**options)
        cls._declared = None
        with contextlib.suppress(UnknownName):  # a type may be defined below the class
            cls._declared = declared(cls)

    @classmethod
    def declared_actions(cls) -> Mapping[str, Action]:
        """Return the actions by name. Raises DeclarationError."""
        if cls._declared is None:
            cls._declared = declared(cls)
        return cls._declared

    @classmethod
    def actions(cls) -> list[dict[str, Any]]:
        """Return the manifest's action tables as the code declares them."""
        return [entry.to_json() for entry in cls.declared_actions().values()]

    def attach(self, host: Host) -> None:
        """Give the plugin its services; the runtime does this before `start`."""
        self._host = host
        self.store, self.keys, self.gateway = Store(host), Keys(host), GatewayService(host)
        self.layer1, self.hub, self.state = Layer1(host), Hub(host), State(host)
        self.schedule, self.log = Schedule(host), Log(host)

    def introduce(self, info: StartInfo) -> None:
        """Keep what `start` brought; the runtime does this before `start`."""
        self.layer1_network_id, self.layer1_owner_address = info.chain_id, info.owner
        self.gateways, self.accounts, self.restored = info.gateways, info.accounts, info.restored

    @property
    def is_ready(self) -> bool:
        """Whether `ready()` was said: own keys may sign."""
        return self._host.is_ready

    async def ready(self) -> None:
        """Say that hub and L1 have been read; own keys sign from here on. A plugin without `start` need not."""
        await self._host.ready()

    async def start(self, info: StartInfo) -> None:
        """Load what is stored and begin watching; the hub may not be connected yet. Do not wait for it here."""

    async def stop(self) -> None:
        """Finish up; the process ends when this returns."""

    async def get_layer2_state(self, path: str | None, origin: str) -> Any:
        """Return the state as it is now (all of it; the proxy resolves `path`). None, the default: what was last published."""
        return self.state.published if self.state.is_whole else None

    async def on_block(self, number: int, block_hash: str, timestamp: int) -> None:
        """A new block of a watch with `blocks`; timestamp in unix seconds of the chain."""

    async def on_reorg(self, from_block: int, to_block: int) -> None:
        """The chain left the blocks from `from_block` on; the new head is `to_block`."""

    async def on_logs(self, watch: str, logs: Sequence[Mapping[str, Any]], removed: bool) -> None:
        """Logs of a watch, in order; `removed` where a reorg took them back."""

    async def on_hub_open(self) -> None:
        """The hub is connected."""

    async def on_hub_message(self, message: str | bytes) -> None:
        """A message of the hub, in order."""

    async def on_hub_close(self, code: int | None, reason: str | None) -> None:
        """The hub is gone; the proxy reconnects."""

    async def on_operation(self, operation: Operation) -> None:
        """A deposit, withdrawal, plan, send or transfer went on."""

    async def on_scheduled(self, id: str, data: Any, missed: bool) -> None:  # noqa: A002 - the wire's name
        """A timer of `self.schedule` fired; `missed` where its moment passed while the plugin was away."""

    async def on_lock(self) -> None:
        """The main accounts are locked."""

    async def on_unlock(self) -> None:
        """The main accounts are unlocked."""
