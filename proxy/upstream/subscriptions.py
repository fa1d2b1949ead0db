"""What callers subscribe to on L1, over whatever the node offers.

Beside `L1`, which owns it. Equal wishes share one subscription at the node. Over WebSocket and IPC it is the node's own, made anew when
the connection was; over HTTP, and for nodes that have none, `polled` makes the same from reads. Receivers get results only; who they
are and what ids they know is no matter of this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from middleware.errors import Disconnected, RpcError, shorten
from middleware.waist import NodeReply, Request
from proxy.upstream import polled
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.failures import Broken, NodeFailure
from proxy.upstream.line import Line

log = logging.getLogger("l2proxy.upstream")

Deliver: TypeAlias = Callable[[msgspec.Raw], None]
Unsubscribe: TypeAlias = Callable[[], Awaitable[None]]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

_METHOD_MISSING = (-32601, 4200)
_PAUSE_SECONDS = 0.5
_FORGET_SECONDS = 5


class Subscription:
    """One wish, shared by its receivers; alive as long as it has any."""

    def __init__(self, params: list[Any]) -> None:
        self.params = params
        self.raw_params = msgspec.json.encode(params)
        self.receivers: dict[object, Deliver] = {}
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.bound: tuple[Line, str] | None = None

    def push(self, raw: bytes) -> None:
        """Hand one result to every receiver."""
        for deliver in list(self.receivers.values()):
            try:
                deliver(msgspec.Raw(raw))
            except Exception:
                log.exception("a receiver of %s failed", self.params[0])

    def push_value(self, value: Any) -> None:
        """Hand one decoded result to every receiver."""
        self.push(msgspec.json.encode(value))

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
    """All subscriptions at the node. `line`: the shared socket or None over HTTP, raises `Disconnected`; `spawn` runs a task."""

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
        self._all: dict[bytes, Subscription] = {}

    async def subscribe(self, params: list[Any], deliver: Deliver) -> Unsubscribe:
        """Begin to hand results for `params` (as of `eth_subscribe`) to `deliver`; return how to stop.

        Raise the node's error where it refuses, `Disconnected` where none answers.
        """
        wish = Subscription(params)
        subscription = self._all.setdefault(wish.raw_params, wish)
        receiver = object()
        subscription.receivers[receiver] = deliver
        if subscription.task is None:
            subscription.task = self._spawn(self._keep(subscription))
        try:
            await asyncio.shield(subscription.begun)
        except BaseException:
            self._leave(subscription, receiver)
            raise

        async def unsubscribe() -> None:
            self._leave(subscription, receiver)

        return unsubscribe

    def _leave(self, subscription: Subscription, receiver: object) -> None:
        subscription.receivers.pop(receiver, None)
        if not subscription.receivers:
            self._drop(subscription)
            if subscription.task is not None:
                subscription.task.cancel()
            if subscription.bound is not None and subscription.bound[0].usable:
                with contextlib.suppress(Disconnected):  # stopping: the connection ends, and all that is bound to it
                    self._spawn(_forget(*subscription.bound))

    def _drop(self, subscription: Subscription) -> None:
        if self._all.get(subscription.raw_params) is subscription:
            del self._all[subscription.raw_params]

    async def _keep(self, subscription: Subscription) -> None:
        """Hold `subscription` up over reconnects until it is dropped, or the node refuses it."""
        try:
            chain_is_followed = True
            while chain_is_followed:
                try:
                    chain_is_followed = await self._once(subscription)
                except (Disconnected, NodeFailure) as error:
                    if not subscription.begun.done():
                        raise
                    log.info("%s is made again when the L1 node is back: %s", subscription.params[0], error)
                    await asyncio.sleep(_PAUSE_SECONDS)
        except RpcError as error:
            self._end(subscription, error)
        except NodeFailure as error:
            self._end(subscription, Disconnected(f"no subscription could be made: {error}"))

    def _end(self, subscription: Subscription, error: RpcError) -> None:
        self._drop(subscription)
        if subscription.begun.done():
            log.warning("the L1 node refuses %s now: %s", subscription.params[0], error.message)
        subscription.fails(error)

    async def _once(self, subscription: Subscription) -> bool:
        """Serve `subscription` until its connection ends; return False when the tracker has ended, and so must this."""
        line = await self._line()
        if line is not None and await self._native(subscription, line):
            return True
        await self._polled(subscription)
        return False

    async def _native(self, subscription: Subscription, line: Line) -> bool:
        """Use the node's own subscription until its connection ends; return False when it has none."""
        request = Request("eth_subscribe", subscription.raw_params)
        try:
            number = NodeReply(await line.ask(request, b"1", deliver=subscription.push)).result()
        except RpcError as error:
            if error.code in _METHOD_MISSING:
                return False
            raise
        if not isinstance(number, str):
            raise Disconnected(f"the L1 node answered eth_subscribe with {shorten(number)}, which is no id")
        subscription.starts()
        subscription.bound = (line, number)
        try:
            await line.over.wait()
        finally:
            line.unbind(number)
        return True

    async def _polled(self, subscription: Subscription) -> None:
        await polled.begin(subscription.params, self._call)
        events = self._blocks.events()
        subscription.starts()
        await polled.follow(subscription.params, self._call, events, subscription.push_value)


async def _forget(line: Line, number: str) -> None:
    """Let the node forget a subscription nobody receives; it dies with the connection anyway."""
    try:
        async with asyncio.timeout(_FORGET_SECONDS):
            await line.ask(Request("eth_unsubscribe", msgspec.json.encode([number])), b"1")
    except (NodeFailure, Broken, TimeoutError) as error:
        log.debug("a subscription was not taken back: %s", error)
