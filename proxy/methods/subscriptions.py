"""`eth_subscribe` and `eth_unsubscribe` for callers, over any L1 node and for layer-2 state and operations.

At the end of the dapp chain. Every subscription has an unguessable id of its own, belongs to one connection and ends with it. What is
pushed is checked at every push: an origin that lost its permission hears nothing more (security.md 15, hardening.md 10). The result of
`eth_subscribe` leaves before the first push. Sources: rpc.md, "Layer 2"; geth's pubsub for the L1 kinds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from middleware.delivery import after_answer
from middleware.errors import InvalidParams, LimitExceeded, RpcError, Unauthorized, Unsupported
from middleware.waist import Connection, Context, Handler, Origin, OriginKind
from proxy.methods.subscription import Subscription, read_layer2, teaches_nothing
from proxy.methods.subscription_ports import L1, Operations, Permissions, States

log = logging.getLogger("l2proxy.methods")

_KINDS = ("newHeads", "logs", "newPendingTransactions", "syncing", "l2_state", "l2_operations")


class Subscriptions:
    """All subscriptions of all callers. `limit`: how many there may be, a quarter of them of one web page; `token_alive(name)`:
    neither revoked nor expired.
    """

    def __init__(
        self,
        l1: L1,
        permissions: Permissions,
        states: States,
        operations: Operations,
        *,
        limit: int = 4096,
        token_alive: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._l1, self._permissions, self._states, self._operations = l1, permissions, states, operations
        self._limit, self._limit_of_page = limit, max(1, limit // 4)
        self._token_alive = token_alive
        self._all: dict[str, Subscription] = {}
        self._of: dict[Connection, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        permissions.on_revoked(self._revoked)
        states.on_state_change(self._state_changed)
        operations.on_change(self._operation_changed)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def active(self) -> dict[str, int]:
        """How many subscriptions there are by kind, kinds only a node knows as "other"; for the metrics."""
        kinds = Counter(one.kind if one.kind in _KINDS else "other" for one in self._all.values())
        return {kind: kinds[kind] for kind in (*_KINDS, "other")}

    async def subscribe(self, params: Any, context: Context) -> str:
        """Answer `eth_subscribe`: return the new subscription's id."""
        kind = params[0] if isinstance(params, list) and params else None
        if not isinstance(kind, str):
            raise InvalidParams("0", 'a kind of subscription, such as "newHeads" or "l2_state"', kind)
        if context.connection is None:
            why = (
                "pushing needs a connection that stays open: use the WebSocket of the same address, or the unix socket"
            )
            raise Unsupported("eth_subscribe", why)
        if kind.startswith("l2_"):
            plugin, path = read_layer2(kind, params)
        else:
            plugin, path = "", None
        subscription = Subscription(
            "0x" + secrets.token_hex(16), kind, context.origin, context.connection, plugin, path
        )
        if not self._may_hear(subscription):
            raise Unauthorized(f"{context.origin} may not subscribe to {kind} of this plugin")
        self._add(subscription)
        try:
            await self._begin(subscription, params)
        except BaseException:
            self._end(subscription)
            raise
        after_answer(subscription.release)
        return subscription.id

    async def unsubscribe(self, params: Any, context: Context) -> bool:
        """Answer `eth_unsubscribe`: tell whether this connection had such a subscription."""
        given = params[0] if isinstance(params, list) and len(params) == 1 else None
        if not isinstance(given, str):
            raise InvalidParams("0", "the id of a subscription", given)
        subscription = self._all.get(given)
        if subscription is None or subscription.connection is not context.connection:
            return False
        self._end(subscription)
        return True

    async def close(self) -> None:
        """End every subscription."""
        for subscription in list(self._all.values()):
            self._end(subscription)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- life of one

    async def _begin(self, subscription: Subscription, params: list[Any]) -> None:
        match subscription.kind:
            case "l2_state":
                subscription.changed.set()  # the present state is the first push, so that no change is missed
                task = self._spawn(self._push_states(subscription))

                async def stop() -> None:
                    task.cancel()

                subscription.stop = stop
            case "l2_operations":
                return
            case _:
                unsubscribe = await self._l1.subscribe(params, lambda result: self._push_l1(subscription, result))
                subscription.stop = unsubscribe
                if subscription.id not in self._all:  # its connection, or permission, ended meanwhile
                    await unsubscribe()

    def _add(self, subscription: Subscription) -> None:
        if len(self._all) >= self._limit:
            raise LimitExceeded("subscriptions", f"{self._limit} subscriptions are open ([limits] subscriptions)")
        if subscription.origin.kind is OriginKind.WEB:
            of_page = sum(1 for one in self._all.values() if one.origin == subscription.origin)
            if of_page >= self._limit_of_page:
                raise LimitExceeded(
                    "subscriptions", f"this page has {of_page} subscriptions open, a quarter of them all"
                )
        self._all[subscription.id] = subscription
        connection = subscription.connection
        if connection in self._of:
            self._of[connection].add(subscription.id)
        else:
            self._of[connection] = {subscription.id}
            connection.on_close(lambda: self._connection_ended(connection))

    def _end(self, subscription: Subscription) -> None:
        if self._all.pop(subscription.id, None) is None:
            return
        if ids := self._of.get(subscription.connection):
            ids.discard(subscription.id)
        if subscription.stop is not None:
            self._spawn(_stopped(subscription.stop))

    def _connection_ended(self, connection: Connection) -> None:
        for subscription_id in self._of.pop(connection, set()):
            if subscription := self._all.get(subscription_id):
                self._end(subscription)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("a subscription ended by a fault of its own", exc_info=fault)

    # -- what is pushed

    def _may_hear(self, subscription: Subscription) -> bool:
        origin, plugin = subscription.origin, subscription.plugin
        if not self._permissions.is_connected(origin):
            return False
        if origin.kind is OriginKind.TOKEN and not self._token_alive(origin.name):
            return False
        if not plugin:
            return True
        may = self._permissions.may_read_state(origin, plugin)
        return may and (subscription.kind == "l2_state" or bool(self._permissions.accounts(origin)))

    def _heard(self, subscription: Subscription) -> bool:
        """Tell whether a push may go out now; end the subscription when it may not."""
        if subscription.id not in self._all:
            return False
        if self._may_hear(subscription):
            return True
        log.info("a subscription of %s ended with its permission", subscription.origin)
        self._end(subscription)
        return False

    def _push_l1(self, subscription: Subscription, result: msgspec.Raw) -> None:
        if self._heard(subscription):
            subscription.push(result)

    async def _push_states(self, subscription: Subscription) -> None:
        """Push the state as often as it has changed; what follows faster than it can be read is one push."""
        last: dict[str, Any] | None = None
        while True:
            await subscription.changed.wait()
            subscription.changed.clear()
            if not self._heard(subscription):
                return
            try:
                state = await self._states.get_state(subscription.plugin, subscription.path, False, subscription.origin)
            except RpcError as error:
                log.info("no state of %s could be pushed: %s", subscription.plugin, error.message)
                continue
            if last is not None and teaches_nothing(last, state, subscription.path):
                continue
            if not self._heard(subscription):
                return
            last = state
            subscription.push(msgspec.json.encode(state))

    def _state_changed(self, plugin: str, _: int, origin: Origin | None) -> None:
        for subscription in self._all.values():
            if (
                subscription.kind == "l2_state"
                and subscription.plugin == plugin
                and origin in (None, subscription.origin)
            ):
                subscription.changed.set()

    def _operation_changed(self, plugin: str, operation: dict[str, Any]) -> None:
        for subscription in list(self._all.values()):
            if subscription.kind != "l2_operations" or subscription.plugin != plugin or not self._heard(subscription):
                continue
            for seen in self._operations.get(plugin, operation["id"], subscription.origin):
                subscription.push(msgspec.json.encode(seen))

    def _revoked(self, origin: Origin) -> None:
        for subscription in list(self._all.values()):
            if subscription.origin == origin:
                self._heard(subscription)


def handlers(subscriptions: Subscriptions) -> dict[str, Handler]:
    """Return the methods of this module by name."""
    return {"eth_subscribe": subscriptions.subscribe, "eth_unsubscribe": subscriptions.unsubscribe}


async def _stopped(stop: Callable[[], Awaitable[None]]) -> None:
    await stop()
