"""Logs as the chain tells them, each once, and again with `removed: true` when the chain takes them back.

Between the block tracker's events and who wants logs (`subscriptions`, the filter methods). Logs are read by block hash, so that
neither a reconnect nor another node can lose one or tell it twice; only the lower part of a gap is read as ranges, split where a node
refuses so many. Nodes answer a range that ends above their own newest block as if it ended there, so a range counts as read only where the
chain that answers holds the block the gap leads to, and what is close below that is read by hash as well: behind one address may stand
many nodes. What was told is kept, bounded, to be taken back newest first. Must never deliver part of what it could not read.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from middleware.errors import Disconnected, RpcError
from proxy.upstream.chain_events import Event, Events, Head, NewHead, Reorg, still_true
from proxy.upstream.headers import read_head
from proxy.upstream.log_filter import LogFilter

log = logging.getLogger("l2proxy.upstream")

Call: TypeAlias = Callable[..., Awaitable[Any]]
Deliver: TypeAlias = Callable[[dict[str, Any]], None]

_TOLD_BLOCKS = 256  # how far below the newest told block logs can be taken back
_TOLD_LOGS = 10_000  # and how many of them
_RANGE = 1000  # blocks asked at once in a gap
_NEAR = 64  # blocks up to the newest of a gap that are read one by one, by hash
_AHEAD = 16  # blocks whose logs are read at the same time
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_GIVE_UP_SECONDS = 60.0
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")


class Behind(Disconnected):
    """Who answers does not have the chain that was told: it is behind, or on another branch."""

    def __init__(self) -> None:
        super().__init__("the L1 node that answers does not have the newest blocks")


class FollowedLogs:
    """The logs `wanted` asks for, of the blocks it is told of. What `take` delivers is delivered once.

    `since`: the newest block when it began; no gap, however deep a reorg was, is read from further below, nor what was told so long
    ago that it cannot be taken back.
    """

    def __init__(self, call: Call, wanted: LogFilter, deliver: Deliver, since: Head | None) -> None:
        self._call = call
        self._wanted = wanted
        self._deliver = deliver
        self._lowest = max(wanted.lowest, since.number + 1 if since else 0)
        self._told: deque[tuple[int, list[dict[str, Any]]]] = deque()
        self._kept = 0
        self._range = _RANGE
        self._done_of_gap: tuple[int, int] | None = None  # where a gap begins, and its first block that was not told
        self._ahead: dict[str, list[dict[str, Any]]] = {}
        self._walked: list[Head] = []  # the upper part of a gap
        self._failed: str | None = None  # the block that could not be read last

    async def take(self, event: Event) -> bool:
        """Deliver what `event` adds or takes back, of a gap one range; tell whether that was all of it.

        Raise what `call` raises; taken again, it goes on where it stopped.
        """
        if isinstance(event, Reorg):
            self._take_back(event.ancestor_number)
        elif event.gap_from is not None:
            return await self._tell_gap(event.gap_from, event.head)
        elif self._wanted.takes(event.head.number):
            self._tell(event.head.number, await self._logs_of(event.head))
        return True

    def pass_over(self, event: Event) -> bool:
        """Deliver nothing of the first block of `event` that was not told; tell whether that was all of it."""
        if isinstance(event, Reorg) or event.gap_from is None:
            return True
        first, last = self._left_of_gap(event.gap_from, event.head.number)
        return self._told_of_gap(event.gap_from, first + 1, last)

    async def read_ahead(self, events: Sequence[Event]) -> None:
        """Read the logs of the first of `events` at the same time, for `take`; what cannot be read is left to it."""
        blocks = [one.head for one in events[:_AHEAD] if isinstance(one, NewHead) and one.gap_from is None]
        await self._read_ahead([head for head in blocks if self._wanted.takes(head.number)])

    async def _read_ahead(self, blocks: Sequence[Head]) -> None:
        if len(blocks) < 2 or blocks[0].hash in self._ahead or blocks[0].hash == self._failed:
            return  # beyond a block that cannot be read nothing is asked for: it would be again with every attempt
        self._ahead = {head.hash: self._ahead[head.hash] for head in blocks if head.hash in self._ahead}
        missing = [head for head in blocks if head.hash not in self._ahead]
        read = await asyncio.gather(*map(self._read_block, missing), return_exceptions=True)
        self._ahead |= {head.hash: logs for head, logs in zip(missing, read, strict=True) if isinstance(logs, list)}

    async def _logs_of(self, head: Head) -> list[dict[str, Any]]:
        logs = self._ahead.pop(head.hash, None)
        if logs is None:
            self._failed = head.hash
            logs = await self._read_block(head)
        self._failed = None
        return logs

    async def _tell_gap(self, gap_from: int, top: Head) -> bool:
        first, last = self._left_of_gap(gap_from, top.number)
        near = max(0, top.number - _NEAR + 1)
        if first < min(near, last + 1):
            await self._hold(
                top
            )  # before: it may have arrived there while the range was read; after: or changed to another branch
            logs, first = await self._read_range(first, min(last, near - 1))
            await self._hold(top)
            for number in sorted({_number(one) for one in logs}):
                self._tell(number, [one for one in logs if _number(one) == number])
        elif first <= last:
            heads = [head for head in await self._between(first, top) if head.number <= last][:_AHEAD]
            await self._read_ahead(heads)
            for head in heads:
                self._tell(head.number, await self._logs_of(head))
                first = head.number + 1
                self._told_of_gap(gap_from, first, last)
        return self._told_of_gap(gap_from, first, last)

    async def _hold(self, top: Head) -> None:
        """Make sure that who answers has `top` on its chain, and so all below. Raise `Behind`."""
        block = await self._call("eth_getBlockByNumber", hex(top.number), False)
        if block is None or read_head(block, "eth_getBlockByNumber").hash.lower() != top.hash.lower():
            raise Behind

    async def _between(self, first: int, top: Head) -> list[Head]:
        """Return the blocks from number `first` to `top`, ascending, each the parent of the next. Raise `Behind`."""
        if self._walked and self._walked[-1] == top and self._walked[0].number <= first:
            return self._walked[first - self._walked[0].number :]
        heads = [top]
        while (lowest := heads[-1]).number > first:
            block = await self._call("eth_getBlockByHash", lowest.parent_hash, False)
            parent = None if block is None else read_head(block, "eth_getBlockByHash")
            if parent is None or (parent.hash.lower(), parent.number) != (
                lowest.parent_hash.lower(),
                lowest.number - 1,
            ):
                raise Behind
            heads.append(parent)
        self._walked = heads[::-1]
        return self._walked

    def _left_of_gap(self, gap_from: int, top: int) -> tuple[int, int]:
        """Return the first and the last block of a gap up to `top` whose logs are still to be told."""
        last = top if self._wanted.highest is None else min(top, self._wanted.highest)
        if self._wanted.block_hash is not None:
            last = -1
        done = self._done_of_gap[1] if self._done_of_gap and self._done_of_gap[0] == gap_from else gap_from
        return max(gap_from, done, self._lowest), last

    def _told_of_gap(self, gap_from: int, first: int, last: int) -> bool:
        self._done_of_gap = (gap_from, first) if first <= last else None
        return first > last

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
            if not all(first <= _number(one) <= end for one in logs):
                raise Disconnected("the L1 node answered eth_getLogs with logs of other blocks than it was asked for")
            return logs, end + 1

    async def _read_block(self, head: Head) -> list[dict[str, Any]]:
        logs = await self._read({"blockHash": head.hash})
        if any(str(one.get("blockHash")).lower() != head.hash.lower() or _number(one) != head.number for one in logs):
            raise Disconnected("the L1 node answered eth_getLogs with logs of another block than it was asked for")
        return logs

    async def _read(self, where: dict[str, str]) -> list[dict[str, Any]]:
        logs = await self._call("eth_getLogs", {**self._wanted.criteria, **where})
        if not isinstance(logs, list) or not all(map(_is_log, logs)):
            raise Disconnected("the L1 node answered eth_getLogs with something that is no list of logs")
        return logs

    def _tell(self, number: int, logs: list[dict[str, Any]]) -> None:
        if not logs:
            return
        self._told.append((number, logs))
        self._kept += len(logs)
        while self._told[0][0] <= number - _TOLD_BLOCKS or (self._kept > _TOLD_LOGS and len(self._told) > 1):
            forgotten, dropped = self._told.popleft()
            self._kept -= len(dropped)
            self._lowest = max(self._lowest, forgotten + 1)
        for one in logs:
            self._deliver(one)

    def _take_back(self, ancestor: int) -> None:
        while self._told and self._told[-1][0] > ancestor:
            _, logs = self._told.pop()
            self._kept -= len(logs)
            for one in reversed(logs):
                self._deliver({**one, "removed": True})
        if self._done_of_gap is not None:
            self._done_of_gap = self._done_of_gap[0], min(self._done_of_gap[1], ancestor + 1)


async def follow_logs(logs: FollowedLogs, events: Events) -> None:
    """Hand `logs` what happens until the tracker ends; what cannot be read now is read again, and nothing overtakes it."""
    waits = _Waits()
    async for event in events:
        left: list[Event] = [event]
        while left:
            if events.reorganised or len(left) == 1:
                left = still_true([*left, *events.drain()])
            await logs.read_ahead(left)
            if await _taken(logs, left[0], waits):
                del left[0]


class _Waits:
    """How long nothing could be read, and when it is tried again."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        """Learn that something was read."""
        self._pause = _FIRST_PAUSE
        self._refused_at: float | None = None

    async def pause(self) -> None:
        """Wait, each time for longer."""
        await asyncio.sleep(self._pause)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def away(self) -> None:
        """Learn that no node answered."""
        self._refused_at = None

    def refused_for_long(self) -> bool:
        """Learn that the node answered with an error; tell whether it has for too long."""
        self._refused_at = self._refused_at or time.monotonic()
        return time.monotonic() - self._refused_at > _GIVE_UP_SECONDS


async def _taken(logs: FollowedLogs, event: Event, waits: _Waits) -> bool:
    """Take what can be taken of `event` now; tell whether that was all of it."""
    try:
        all_of_it = await logs.take(event)
    except Disconnected as error:
        log.debug("logs wait for the L1 node: %s", error.message)
        waits.away()
    except RpcError as error:
        # A node behind the one that told the block does not know it yet; one that left the chain is crossed out by its reorg.
        if waits.refused_for_long():
            log.warning("the L1 node refuses the logs of a block, subscribers miss them: %s", error.message)
            return logs.pass_over(event)
    else:
        waits.over()
        return all_of_it
    await waits.pause()
    return False


def _is_log(one: Any) -> bool:
    number = one.get("blockNumber") if isinstance(one, dict) else None
    return isinstance(number, str) and _QUANTITY.fullmatch(number) is not None


def _number(one: dict[str, Any]) -> int:
    return int(one["blockNumber"], 16)
