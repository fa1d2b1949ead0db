"""Where the results of one shared subscription come from, by what is wished for.

Made and run by `subscriptions`. A source serves until its connection ends (it is then served again) or for good; it says when it
stands. Must never push before it stands, nor after it was cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import msgspec

from middleware.errors import Disconnected, InvalidParams, RpcError
from proxy.upstream import wishes
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, NewHead
from proxy.upstream.followed_logs import FollowedLogs, follow_logs
from proxy.upstream.line import Line
from proxy.upstream.node_subscription import NodeSubscription, Spawn
from proxy.upstream.polled import METHOD_MISSING, PendingTransactions, WholeTransactions, follow_pending, follow_syncing

Call: TypeAlias = Callable[..., Awaitable[Any]]
Push: TypeAlias = Callable[[bytes], None]
Starts: TypeAlias = Callable[[], None]
GetLine: TypeAlias = Callable[[], Awaitable[Line | None]]


class Source(Protocol):
    """Serves one shared subscription."""

    async def serve(self, starts: Starts) -> bool:
        """Call `starts` once it stands, push until it ends; True when it should be served again. Raise what it cannot begin with."""


def source_of(wish: wishes.Wish, call: Call, blocks: BlockTracker, line: GetLine, spawn: Spawn, push: Push) -> Source:
    """Return the source of `wish`, whose results go to `push` as raw JSON."""
    match wish:
        case wishes.Heads():
            return _Heads(blocks, push)
        case wishes.Logs():
            return _Logs(wish, call, blocks, push)
        case wishes.Syncing():
            return _Syncing(call, push)
        case wishes.Pending(whole):
            return _Pending(whole, call, _AtNode(line, blocks, spawn), push)
        case wishes.Other(params):
            return _Other(params, _AtNode(line, blocks, spawn), push)


class _Heads:
    def __init__(self, blocks: BlockTracker, push: Push) -> None:
        self._blocks = blocks
        self._push = push

    async def serve(self, starts: Starts) -> bool:
        await self._blocks.sync()  # what is told from here on is new, and a node answers at all
        stop = self._blocks.on_change(self._tell)
        try:
            starts()
            return await _for_ever()
        finally:
            stop()

    def _tell(self, event: Event) -> None:
        if isinstance(event, NewHead):
            self._push(event.header)


class _Logs:
    def __init__(self, wish: wishes.Logs, call: Call, blocks: BlockTracker, push: Push) -> None:
        self._wanted = wish.filter
        self._call = call
        self._blocks = blocks
        self._push = push

    async def serve(self, starts: Starts) -> bool:
        # The node judges the filter as well, before anybody waits for it.
        await self._call("eth_getLogs", {**self._wanted.criteria, "fromBlock": "latest", "toBlock": "latest"})
        await self._blocks.sync()
        events = self._blocks.events()
        starts()
        logs = FollowedLogs(self._call, self._wanted, self._tell, self._blocks.head)
        await follow_logs(logs, events)
        return False

    def _tell(self, one: dict[str, Any]) -> None:
        self._push(msgspec.json.encode(one))


class _Syncing:
    def __init__(self, call: Call, push: Push) -> None:
        self._call = call
        self._push = push

    async def serve(self, starts: Starts) -> bool:
        before = await self._call("eth_syncing")
        starts()
        await follow_syncing(self._call, before, self._push)
        return False


class _AtNode:
    """Subscriptions of the node's own, where it is spoken to over a socket."""

    def __init__(self, line: GetLine, blocks: BlockTracker, spawn: Spawn) -> None:
        self._line = line
        self._figures = blocks.figures
        self._spawn = spawn

    async def serve(self, params: list[Any], push: Push, starts: Starts) -> bool:
        """Push what the node pushes until the connection ends; False where it has no subscriptions. Raise the node's error."""
        line = await self._line()
        if line is None:
            return False
        held = NodeSubscription(line, msgspec.json.encode(params), push, self._figures, self._spawn)
        try:
            await held.begin()
        except RpcError as error:
            if error.code in METHOD_MISSING:
                return False
            raise
        async with held:
            starts()
            await held.until_over()
        return True


class _Pending:
    def __init__(self, whole: bool, call: Call, node: _AtNode, push: Push) -> None:
        self._whole = whole
        self._call = call
        self._node = node
        self._push = push

    async def serve(self, starts: Starts) -> bool:
        if not self._whole:
            return await self._serve([], self._push, starts)
        whole = WholeTransactions(self._call, self._push)
        looking_up = asyncio.create_task(whole.run())
        try:
            return await self._serve([True], whole.take, starts)
        except Disconnected:
            raise
        except RpcError:  # a node that tells hashes only
            return await self._serve([], whole.take, starts)
        finally:
            looking_up.cancel()

    async def _serve(self, more: list[Any], push: Push, starts: Starts) -> bool:
        if await self._node.serve(["newPendingTransactions", *more], push, starts):
            return True
        pending = PendingTransactions(self._call)
        await pending.begin()
        starts()
        await follow_pending(pending, push)
        return False


class _Other:
    def __init__(self, params: list[Any], node: _AtNode, push: Push) -> None:
        self._params = params
        self._node = node
        self._push = push

    async def serve(self, starts: Starts) -> bool:
        if await self._node.serve(self._params, self._push, starts):
            return True
        raise InvalidParams(
            "0", "newHeads, logs, newPendingTransactions or syncing; this L1 node pushes nothing", self._params[0]
        )


async def _for_ever() -> bool:
    """Wait until the task is cancelled."""
    await asyncio.get_running_loop().create_future()
    return False
