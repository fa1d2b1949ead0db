"""`deposit`, `withdraw`, `plan`, `transfer`, `send`: handed to the operations, which ask, persist and send (plugin.md).

Here only the grant is decided and the origin named; what is signed, bound and broadcast is theirs. Each answers at once
with the id of a stored operation, whose progress comes back as `operation` deliveries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from middleware.waist import Context
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import Operations
from proxy.host.provider import Asker, HostMethod, Params


class Deposit(Params, frozen=True, kw_only=True):
    """L1 transaction(s) from the main account to the gateway."""

    gateway: str | None = None
    function: str | None = None
    args: list[Any] | dict[str, Any] = msgspec.field(default_factory=list)
    value: Any = None
    token: str | None = None


class Withdraw(Params, frozen=True, kw_only=True):
    """Likewise; no value unless the manifest allows one."""

    gateway: str | None = None
    function: str | None = None
    args: list[Any] | dict[str, Any] = msgspec.field(default_factory=list)
    value: Any = None


class Plan(Params, frozen=True, kw_only=True):
    """Several steps under one approval; or, for a stored plan, the arguments of its step that has none yet."""

    steps: list[dict[str, Any]] | None = None
    operation: str | None = None
    args: list[Any] | dict[str, Any] | None = None


class Transfer(Params, frozen=True, kw_only=True):
    """Main account to any address."""

    to: str
    value: Any
    token: str | None = None


class Send(Params, frozen=True, kw_only=True):
    """From the plugin's own key to its gateway."""

    gateway: str | None = None
    function: str | None = None
    args: list[Any] | dict[str, Any] = msgspec.field(default_factory=list)


ROWS: dict[str, tuple[str, type[Params]]] = {
    "deposit": ("gateway", Deposit),
    "withdraw": ("gateway", Withdraw),
    "plan": ("gateway", Plan),
    "send": ("gateway", Send),
    "transfer": ("transfer", Transfer),
}


class Money:
    """The money calls of one plugin."""

    def __init__(self, plugin: InstalledPlugin, operations: Operations) -> None:
        self._plugin = plugin
        self._operations = operations

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {kind: HostMethod(grant, params, self._submitter(kind)) for kind, (grant, params) in ROWS.items()}

    def _submitter(self, kind: str) -> Callable[[Params, Asker], Awaitable[dict[str, Any]]]:
        async def submit(params: Params, asker: Asker) -> dict[str, Any]:
            given = {name: value for name, value in msgspec.structs.asdict(params).items() if value is not None}
            context = Context(asker.origin, transport="plugin", serving=asker.serving)
            return {"operation": await self._operations.submit(self._plugin, kind, given, context)}

        return submit
