"""`L2`: the `l2_*` methods of rpc.md as a web3.py module.

With AsyncWeb3 every method returns a coroutine, with Web3 the result. Params may hold ints and bytes; results are the
proxy's JSON values (integers as 0x quantities). Nothing is retried: paying twice is worse than asking twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from web3 import AsyncWeb3, Web3
from web3.exceptions import Web3RPCError
from web3.providers.persistent import PersistentConnectionProvider
from web3.types import RPCEndpoint

from l2proxy_sdk.values import loose

from .errors import from_response, plain


class L2:
    """Attach it: `w3.attach_modules({"l2": L2})`."""

    def __init__(self, w3: Web3 | AsyncWeb3[Any]) -> None:
        self._w3 = w3

    def actions(self, plugin: str | None = None) -> Any:
        """Return the actions this caller is connected to, of one plugin or of all."""
        return self._call("l2_actions", [] if plugin is None else [plugin])

    def plugins(self) -> Any:
        """Return the connected plugins: id, name, version, description, status."""
        return self._call("l2_plugins", [])

    def invoke(
        self,
        plugin: str,
        action: str,
        params: Mapping[str, Any] | Sequence[Any] = (),
        *,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call an action; return an object keyed by its declared returns, None where it has none.

        `params` by name or in declared order; amounts are wei. With `idempotency_key` the same call again returns the
        recorded result. Waits as long as the provider's timeout while the owner is asked.
        """
        shown = loose(dict(params) if isinstance(params, Mapping) else list(params))
        options = [] if idempotency_key is None else [{"idempotencyKey": idempotency_key}]
        return self._call("l2_invoke", [plugin, action, shown, *options])

    def get_state(self, plugin: str, path: str | None = None, *, fresh: bool = False) -> Any:
        """Return `{plugin, revision, block, state}`; `path` is a JSON Pointer, `fresh` asks the plugin itself."""
        options: list[Any] = [{"fresh": True}] if fresh else []
        place: list[Any] = [path] if path is not None or fresh else []
        return self._call("l2_getState", [plugin, *place, *options])

    def get_deposits(self, plugin: str) -> Any:
        """Return what is locked in the plugin's gateways."""
        return self._call("l2_getDeposits", [plugin])

    def get_operations(self, plugin: str, id: str | None = None) -> Any:  # noqa: A002 - the wire's name
        """Return the plugin's operations, or the one with this id."""
        return self._call("l2_getOperations", [plugin] if id is None else [plugin, id])

    def add_plugin(self, source: str, integrity: str) -> Any:
        """Ask the owner to install a plugin; return its id."""
        return self._call("l2_addPlugin", [{"source": source, "integrity": integrity}])

    async def subscribe_state(
        self, plugin: str, path: str | None = None, *, handler: Callable[[Any], Any] | None = None, **options: Any
    ) -> str:
        """Subscribe to the plugin's state over a persistent connection; return the subscription id.

        Messages arrive as any of web3's subscriptions do: at `handler`, or from `w3.socket.process_subscriptions()`.
        """
        shown = {"plugin": plugin} if path is None else {"plugin": plugin, "path": path}
        return await self._subscribe("l2_state", shown, handler, options)

    async def subscribe_operations(
        self, plugin: str, *, handler: Callable[[Any], Any] | None = None, **options: Any
    ) -> str:
        """Subscribe to the plugin's operations; return the subscription id."""
        return await self._subscribe("l2_operations", {"plugin": plugin}, handler, options)

    async def _subscribe(
        self, kind: str, params: dict[str, Any], handler: Callable[[Any], Any] | None, options: dict[str, Any]
    ) -> str:
        w3 = cast(AsyncWeb3[Any], self._w3)
        try:
            eth: Any = w3.eth
            return str(await eth.subscribe(kind, params, handler=handler, **options))
        except Web3RPCError as error:
            raise from_response(error.rpc_response) or error from None

    def _call(self, method: str, params: list[Any]) -> Any:
        if isinstance(self._w3, AsyncWeb3):
            return self._call_async(self._w3, method, params)
        try:
            return plain(self._w3.manager.request_blocking(RPCEndpoint(method), params))
        except Web3RPCError as error:
            raise from_response(error.rpc_response) or error from None

    @staticmethod
    async def _call_async(w3: AsyncWeb3[Any], method: str, params: list[Any]) -> Any:
        persistent = isinstance(w3.provider, PersistentConnectionProvider)
        ask: Any = w3.manager.socket_request if persistent else w3.manager.coro_request
        try:
            return plain(await ask(RPCEndpoint(method), params))
        except Web3RPCError as error:
            raise from_response(error.rpc_response) or error from None
