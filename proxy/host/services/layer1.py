"""`layer1.request`: the L1 node for a plugin, as far as the owner granted (plugin.md, architecture.md "The waist").

The call enters the same chain as a dapp's, with the plugin as its origin. Only passed methods which the manifest lists go
there; nothing that signs, and of what sends `eth_sendRawTransaction` alone, judged by `raw_transactions` (hardening.md 2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from middleware.errors import LimitExceeded, Unauthorized, shorten
from middleware.waist import Context, Request, answered
from proxy.host.installed import InstalledPlugin
from proxy.host.manifest import sends
from proxy.host.ports import Dispatch
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.raw_transactions import METHOD as SEND
from proxy.host.services.raw_transactions import RawTransactions

RATE, AT_ONCE = 200.0, 1000.0  # requests a second, and in a burst


class Layer1Request(Params, frozen=True, kw_only=True):
    """An EIP-1193 request."""

    method: str
    params: list[Any] | dict[str, Any] = msgspec.field(default_factory=list)


class Layer1:
    """The L1 provider of one plugin."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        dispatch: Dispatch,
        allowed: Callable[[str], bool],
        raw: RawTransactions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plugin = plugin
        self._dispatch = dispatch
        self._allowed = allowed
        self._raw = raw
        self._clock = clock
        self._left, self._seen = AT_ONCE, clock()

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"layer1.request": HostMethod(None, Layer1Request, self.request)}

    async def request(self, params: Layer1Request, asker: Asker) -> Any:
        """Return the node's result; raise its error with code, message and data, 4100 for what was not granted."""
        self._check(params.method)
        self._count()
        given = [self._raw.admit(params.params)] if params.method == SEND else params.params
        request = Request(params.method, msgspec.json.encode(given), b"1")
        context = Context(asker.origin, transport="plugin", serving=asker.serving)
        return answered(await self._dispatch(request, context))

    def _check(self, method: str) -> None:
        plugin = self._plugin
        if method == SEND:
            return  # its grant is one of its own, and stands with all else that is asked of it
        if sends(method):
            raise Unauthorized(f"{shorten(method)} is not served to plugins; {SEND} is, where it was granted")
        if "layer1" not in plugin.grants:
            raise Unauthorized(f"{plugin.id} was not granted layer1, which layer1.request needs")
        if method not in plugin.manifest.permissions.layer1 or not self._allowed(method):
            raise Unauthorized(f"{shorten(method)} is not among the L1 methods granted to {plugin.id}")

    def _count(self) -> None:
        now = self._clock()
        self._left = min(AT_ONCE, self._left + (now - self._seen) * RATE)
        self._seen = now
        if self._left < 1:
            raise LimitExceeded("layer1_rate", f"more than {RATE:g} L1 requests a second")
        self._left -= 1
