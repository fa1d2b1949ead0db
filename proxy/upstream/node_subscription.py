"""One subscription held at the node, on one connection: made, bound to its receiver, and taken back when nobody wants it any more.

Used by `following` and `subscriptions`, which make it anew when its connection has ended. Source: geth's pubsub.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from middleware.errors import Disconnected, shorten
from middleware.waist import NodeReply, Request
from proxy.upstream.chain_figures import ChainFigures
from proxy.upstream.failures import NodeFailure
from proxy.upstream.line import Line

log = logging.getLogger("l2proxy.upstream")

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

_FORGET_SECONDS = 5


class NodeSubscription:
    """`eth_subscribe` with `params` (raw JSON) on `line`, inside `async with`; `spawn` runs what outlives it."""

    def __init__(
        self, line: Line, params: bytes, deliver: Callable[[bytes], None], figures: ChainFigures, spawn: Spawn
    ) -> None:
        self._line = line
        self._params = params
        self._deliver = deliver
        self._figures = figures
        self._spawn = spawn
        self._id: str | None = None

    async def begin(self) -> None:
        """Subscribe, before `async with`. Raise the node's `RpcError`, `Disconnected` or a `NodeFailure`."""
        request = Request("eth_subscribe", self._params)
        given = NodeReply(await self._line.ask(request, b"1", deliver=self._deliver)).result()
        if not isinstance(given, str):
            raise Disconnected(f"the L1 node answered eth_subscribe with {shorten(given)}, which is no id")
        self._id = given

    async def __aenter__(self) -> NodeSubscription:
        """Hold it, made now if it was not."""
        if self._id is None:
            await self.begin()
        self._figures.node_subscriptions += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the node forget it; where the connection has ended the node has."""
        self._figures.node_subscriptions -= 1
        if self._id is None or not self._line.usable:
            return
        self._line.unbind(self._id)
        forgetting = _forget(self._line, self._id)
        try:
            self._spawn(forgetting)
        except Disconnected:  # stopping: the connection ends, and all that is bound to it
            forgetting.close()

    async def until_over(self, enough: asyncio.Event | None = None) -> None:
        """Wait until the connection has ended, or `enough` is set."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._line.over, enough) if event is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _forget(line: Line, number: str) -> None:
    try:
        async with asyncio.timeout(_FORGET_SECONDS):
            await line.ask(Request("eth_unsubscribe", msgspec.json.encode([number])), b"1")
    except (NodeFailure, TimeoutError) as error:
        log.debug("a subscription was not taken back: %s", error)
