"""The proxy as seen from the plugin: one method that asks it, and which call is being served meanwhile.

Host calls made while an `invoke` runs repeat its `call` id, so that the proxy can show the owner for whom they are made
(hardening.md 8). The id travels in a context variable: tasks an action starts carry it too, until the action has answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol


class Asks(Protocol):
    """What a host needs of the channel."""

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the other side."""

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the other side."""


class _Scope:
    def __init__(self, call: str) -> None:
        self.call = call
        self.open = True


_scope: ContextVar[_Scope | None] = ContextVar("l2proxy_call", default=None)


@contextlib.contextmanager
def serving(call: str) -> Iterator[None]:
    """Mark everything asked inside as asked for `call`."""
    scope = _Scope(call)
    token = _scope.set(scope)
    try:
        yield
    finally:
        scope.open = False
        _scope.reset(token)


class Host:
    """Asks the proxy, and knows whether own keys may sign yet."""

    def __init__(self, peer: Asks) -> None:
        self._peer = peer
        self.is_ready = False

    async def call(self, method: str, /, **params: Any) -> Any:
        """Ask for a host service; parameters that are None are left out. Raises HostError."""
        named = {name: value for name, value in params.items() if value is not None}
        return await self.call_with(method, named)

    async def call_with(self, method: str, params: dict[str, Any]) -> Any:
        """Ask with exactly these params (None is sent as null)."""
        scope = _scope.get()
        if scope is not None and scope.open:
            params = {**params, "call": scope.call}
        return await self._peer.request(method, params)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        self._peer.notify(method, params)

    async def ready(self) -> None:
        """Say that hub and L1 have been read: own-key signing begins."""
        await self.call("ready")
        self.is_ready = True
