"""Logs as the chain tells them, each once, and again with `removed: true` when the chain takes them back.

Between the block tracker's events and who wants logs (`subscriptions`, the filter methods). Logs are read by block hash, so that
neither a reconnect nor another node can lose one or tell it twice; only a gap is read as a range, split where a node refuses so
many. What was told is kept, bounded, to be taken back newest first. Must never deliver part of what it could not read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from middleware.errors import Disconnected, RpcError
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, Events, Head, NewHead, Reorg, still_true
from proxy.upstream.log_filter import LogFilter

log = logging.getLogger("l2proxy.upstream")

Call: TypeAlias = Callable[..., Awaitable[Any]]
Deliver: TypeAlias = Callable[[dict[str, Any]], None]

_TOLD_BLOCKS = 256  # how far below the newest told block logs can be taken back
_TOLD_LOGS = 10_000  # and how many of them
_RANGE = 1000  # blocks asked at once in a gap
_AHEAD = 16  # blocks whose logs are read at the same time
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_GIVE_UP_SECONDS = 60.0


class FollowedLogs:
    """The logs `wanted` asks for, of the blocks it is told of. What `take` delivers is delivered once.

    `since`: the newest block when it began; no gap, however deep a reorg was, is read from further below.
    """

    def __init__(self, call: Call, wanted: LogFilter, deliver: Deliver, since: Head | None) -> None:
        self._call = call
        self._wanted = wanted
        self._deliver = deliver
        self._lowest = max(wanted.lowest, since.number + 1 if since else 0)
        self._told: deque[tuple[int, list[dict[str, Any]]]] = deque()
        self._kept = 0
        self._range = _RANGE
        self._done_of_gap: tuple[NewHead, int] | None = None
        self._ahead: dict[str, list[dict[str, Any]]] = {}

    async def take(self, event: Event) -> None:
        """Deliver what `event` adds or takes back. Raise what `call` raises; taken again, it goes on where it stopped."""
        if isinstance(event, Reorg):
            self._take_back(event.ancestor_number)
        elif event.gap_from is not None:
            await self._tell_gap(event, event.gap_from)
        elif self._wanted.takes(event.head.number):
            logs = self._ahead.pop(event.head.hash, None)
            self._tell(event.head.number, await self._read_block(event.head) if logs is None else logs)

    async def read_ahead(self, events: Sequence[Event]) -> None:
        """Read the logs of the first of `events` at the same time, for `take`; what cannot be read is left to it."""
        blocks = [one.head for one in events[:_AHEAD] if isinstance(one, NewHead) and one.gap_from is None]
        blocks = [head for head in blocks if self._wanted.takes(head.number)]
        if len(blocks) < 2 or blocks[0].hash in self._ahead:
            return
        read = await asyncio.gather(*map(self._read_block, blocks), return_exceptions=True)
        self._ahead = {head.hash: logs for head, logs in zip(blocks, read, strict=True) if isinstance(logs, list)}

    async def _tell_gap(self, event: NewHead, gap_from: int) -> None:
        at = self._done_of_gap[1] if self._done_of_gap and self._done_of_gap[0] == event else gap_from
        at = max(at, self._lowest)
        last = event.head.number if self._wanted.highest is None else min(event.head.number, self._wanted.highest)
        while at <= last and self._wanted.block_hash is None:
            logs, at = await self._read_range(at, last)
            for number in sorted({_number(one) for one in logs}):
                self._tell(number, [one for one in logs if _number(one) == number])
            self._done_of_gap = (event, at)
        self._done_of_gap = None

    async def _read_range(self, first: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """Return logs from `first` on, as many blocks as the node gives at once, and the block to go on with."""
        while True:
            end = min(last, first + self._range - 1)
            try:
                logs = await self._read({"fromBlock": hex(first), "toBlock": hex(end)})
            except Disconnected:
                raise
            except RpcError:
                if end == first:
                    raise
                self._range = max(1, (end - first + 1) // 4)  # many nodes bound what one question may return
                continue
            self._range = min(_RANGE, self._range * 2)
            return logs, end + 1

    async def _read_block(self, head: Head) -> list[dict[str, Any]]:
        return await self._read({"blockHash": head.hash})

    async def _read(self, where: dict[str, str]) -> list[dict[str, Any]]:
        logs = await self._call("eth_getLogs", {**self._wanted.criteria, **where})
        if not isinstance(logs, list):
            raise Disconnected("the L1 node answered eth_getLogs with something that is no list")
        return logs

    def _tell(self, number: int, logs: list[dict[str, Any]]) -> None:
        if not logs:
            return
        self._told.append((number, logs))
        self._kept += len(logs)
        while self._told[0][0] <= number - _TOLD_BLOCKS or (self._kept > _TOLD_LOGS and len(self._told) > 1):
            self._kept -= len(self._told.popleft()[1])
        for one in logs:
            self._deliver(one)

    def _take_back(self, ancestor: int) -> None:
        while self._told and self._told[-1][0] > ancestor:
            _, logs = self._told.pop()
            self._kept -= len(logs)
            for one in reversed(logs):
                self._deliver({**one, "removed": True})


async def follow_logs(logs: FollowedLogs, events: Events, blocks: BlockTracker) -> None:
    """Hand `logs` what happens until the tracker ends; what cannot be read now is read again, and nothing overtakes it."""
    async for event in events:
        left = still_true([event, *events.drain()])
        while left:
            await logs.read_ahead(left)
            await _until_taken(logs, left.pop(0), blocks)


async def _until_taken(logs: FollowedLogs, event: Event, blocks: BlockTracker) -> None:
    pause, refused_at = _FIRST_PAUSE, None
    while True:
        try:
            return await logs.take(event)
        except Disconnected as error:
            log.debug("logs wait for the L1 node: %s", error.message)
            refused_at = None
        except RpcError as error:
            # A node behind the one that told the block does not know it yet; a block that left the chain is known nowhere any more.
            refused_at = refused_at or time.monotonic()
            if gone(event, blocks):
                return None
            if time.monotonic() - refused_at > _GIVE_UP_SECONDS:
                log.warning("the L1 node refuses the logs of a block, subscribers miss them: %s", error.message)
                return None
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)


def gone(event: Event, blocks: BlockTracker) -> bool:
    """Tell whether `event` is a block that has left the chain, so that its reorg is told next."""
    return isinstance(event, NewHead) and not blocks.holds(event.head.hash)


def _number(one: dict[str, Any]) -> int:
    return int(one["blockNumber"], 16)
