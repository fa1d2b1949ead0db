"""Answers to invokes that come after their caller was told -32011, or went away (hardening.md 15).

Between `plugins`, which asks, and the record of the idempotency key, which otherwise would say "unknown" for thirty days.
Only calls under a key are waited for further: nobody could ever ask for the outcome of another. It must never hold up a
caller, and what it waits for is bounded and ends with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from middleware.errors import PluginTimeout, RpcError
from middleware.invocation import Invocation
from middleware.waist import Origin, Result, result
from proxy.host.background import Background
from proxy.host.calls import WallTime
from proxy.host.channel import Channel, ChannelEnded

MAX_AWAITED = 256  # late answers of all plugins that are waited for at once

Record = Callable[[Origin, Invocation, Result | RpcError], None]
Declared = dict[str, Any] | None
Conclude = Callable[[Awaitable[Any]], Coroutine[Any, Any, Declared]]
"""Await the answer of an asked invoke: return the declared result, raise the RpcError for its caller."""


class LateAnswers:
    """Asks invokes; `record` gets the answers that come too late."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._awaited = 0
        self.record: Record = lambda *_: None

    async def ask(
        self,
        channel: Channel,
        asked: dict[str, Any],
        time: WallTime,
        origin: Origin,
        invocation: Invocation,
        conclude: Conclude,
    ) -> Declared:
        """Return what `conclude` makes of the answer to a call under a key. Raises what it raises, and PluginTimeout after its time."""
        answer = asyncio.ensure_future(channel.request("invoke", asked))
        try:
            await _answered(answer, time)
        except (PluginTimeout, asyncio.CancelledError):
            if self._awaited >= MAX_AWAITED:
                answer.cancel()
            else:
                self._background.start(self._await(answer, origin, invocation, conclude), "a late answer")
            raise
        return await conclude(answer)

    async def _await(
        self, answer: asyncio.Future[Any], origin: Origin, invocation: Invocation, conclude: Conclude
    ) -> None:
        self._awaited += 1
        try:
            await asyncio.wait([answer])
            if isinstance(answer.exception(), ChannelEnded):
                return  # it stays unknown
            self.record(origin, invocation, await _outcome(answer, conclude))
        finally:
            self._awaited -= 1
            answer.cancel()


async def _answered(answer: asyncio.Future[Any], time: WallTime) -> None:
    """Return once there is an answer, whatever it is. Raises PluginTimeout; the answer may then still come."""
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not told.done():
            told.set_result(None)

    answer.add_done_callback(tell)
    time.watch(told)
    try:
        await told
    finally:
        time.over()


async def _outcome(answer: asyncio.Future[Any], conclude: Conclude) -> Result | RpcError:
    try:
        return result(await conclude(answer))
    except RpcError as error:
        return error
