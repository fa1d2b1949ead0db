"""What callers subscribe to on L1, over whatever the node offers.

Beside `L1`, which owns it. Equal wishes share one source. New heads and logs are made from the block tracker, so that they are the same
over every kind of node, and a reconnect, a failover or a reorg loses nothing and tells nothing twice; pending transactions are the
node's own subscription over WebSocket and IPC, made anew when the connection was, and polled elsewhere. Receivers get results only;
who they are and what ids they know is no matter of this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from middleware.errors import Disconnected, RpcError
from proxy.upstream import wishes
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.failures import NodeFailure
from proxy.upstream.line import Line
from proxy.upstream.node_subscription import Spawn
from proxy.upstream.sources import Source, source_of

log = logging.getLogger("l2proxy.upstream")

Deliver: TypeAlias = Callable[[msgspec.Raw], None]
Unsubscribe: TypeAlias = Callable[[], Awaitable[None]]

_PAUSE_SECONDS = 0.5


class Subscription:
    """One wish, shared by its receivers; alive as long as it has any."""

    def __init__(self, key: bytes, name: str) -> None:
        self.key = key
        self.name = name
        self.receivers: dict[object, Deliver] = {}
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.delivered = 0

    def push(self, raw: bytes) -> None:
        """Hand one result (raw JSON) to every receiver."""
        result = msgspec.Raw(raw)
        for deliver in list(self.receivers.values()):
            try:
                deliver(result)
            except Exception:
                log.exception("a receiver of %s failed", self.name)

    def starts(self) -> None:
        """Tell who waits that the subscription stands."""
        if not self.begun.done():
            self.begun.set_result(None)

    def fails(self, error: RpcError) -> None:
        """Tell who waits that there will be none."""
        if not self.begun.done():
            self.begun.set_exception(error)
            self.begun.exception()  # it may be that nobody waits any more


class Subscriptions:
    """All subscriptions of callers. `line`: the shared socket or None over HTTP, raises `Disconnected`; `spawn` runs a task."""

    def __init__(
        self,
        line: Callable[[], Awaitable[Line | None]],
        call: Callable[..., Awaitable[Any]],
        blocks: BlockTracker,
        spawn: Spawn,
    ) -> None:
        self._line = line
        self._call = call
        self._blocks = blocks
        self._spawn = spawn
        self._figures = blocks.figures
        self._all: dict[bytes, Subscription] = {}

    async def subscribe(self, params: list[Any], deliver: Deliver) -> Unsubscribe:
        """Begin to hand results for `params` (as of `eth_subscribe`) to `deliver`; return how to stop.

        Raise -32602 or the node's error where it refuses, `Disconnected` where none answers.
        """
        wish = wishes.read_wish(params)
        subscription = self._shared(wish)
        receiver = object()
        subscription.receivers[receiver] = deliver
        try:
            await asyncio.shield(subscription.begun)
        except BaseException:
            self._leave(subscription, receiver)
            raise

        async def unsubscribe() -> None:
            self._leave(subscription, receiver)

        return unsubscribe

    def _shared(self, wish: wishes.Wish) -> Subscription:
        key = wishes.key(wish)
        if (found := self._all.get(key)) is not None:
            return found
        made = Subscription(key, type(wish).__name__)
        source = source_of(wish, self._call, self._blocks, self._line, self._spawn, self._counted(made))
        made.task = self._spawn(self._keep(made, source))
        self._all[key] = made
        self._figures.shared = len(self._all)
        return made

    def _counted(self, subscription: Subscription) -> Callable[[bytes], None]:
        def push(raw: bytes) -> None:
            self._figures.delivered += len(subscription.receivers)
            subscription.push(raw)

        return push

    def _leave(self, subscription: Subscription, receiver: object) -> None:
        subscription.receivers.pop(receiver, None)
        if not subscription.receivers:
            self._drop(subscription)
            if subscription.task is not None:
                subscription.task.cancel()

    def _drop(self, subscription: Subscription) -> None:
        if self._all.get(subscription.key) is subscription:
            del self._all[subscription.key]
            self._figures.shared = len(self._all)

    async def _keep(self, subscription: Subscription, source: Source) -> None:
        """Hold `subscription` up over reconnects until it is dropped, the tracker ends, or the node refuses it."""
        try:
            while True:
                if not await self._once(subscription, source):
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
        except RpcError as error:
            self._drop(subscription)
            if subscription.begun.done():
                log.warning("the L1 node refuses %s now: %s", subscription.name, error.message)
            subscription.fails(error)
        except Exception:  # one wish's end is not the end of all that follow the chain
            log.exception("%s ended by a fault of the proxy's own", subscription.name)
            self._drop(subscription)
            subscription.fails(
                RpcError(-32603, "the subscription ended by a fault of the proxy's own; its log has the cause")
            )

    async def _once(self, subscription: Subscription, source: Source) -> bool:
        """Serve `subscription` until its connection ends; False when it is over for good. Raise what it cannot begin with."""
        try:
            return await source.serve(subscription.starts)
        except (Disconnected, NodeFailure) as error:
            if not subscription.begun.done():
                raise Disconnected(f"no subscription could be made: {error}") from error
            log.info("%s is made again when the L1 node is back: %s", subscription.name, error)
            return True
