"""The filter methods, served here over any L1 node: ids nobody can guess, bound to who made them, forgotten when unused.

At the end of the dapp chain. Block and log filters are made from the block tracker and plain reads, so they need nothing of the node,
outlive its restarts and tell logs that a reorg took back; only pending transactions are the node's own to filter. A change is handed out
once; what could not be read is handed out by the next poll. Source: execution-apis `eth_newFilter` and its kin, geth for the semantics.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from middleware.errors import InvalidParams, LimitExceeded, RpcError
from middleware.waist import Context, Handler, Origin
from proxy.upstream.block_tracker import BlockTracker, Event, Events, NewHead, Reorg
from proxy.upstream.polled import Logs, criteria

_UNUSED_SECONDS = 300.0
_GAP_HASHES = 1024  # block hashes handed out at most for blocks that were told as a gap
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")
_OPEN_TAGS = ("latest", "pending", "safe", "finalized")


class L1(Protocol):
    """What filters are made from."""

    blocks: BlockTracker

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result of `method`."""


class Changes(Protocol):
    """One kind of filter: what has happened since it was last asked."""

    async def take(self) -> list[Any]:
        """Return the changes and forget them."""


@dataclass(eq=False)
class _Filter:
    origin: Origin
    changes: Changes
    used: float
    logs: dict[str, Any] | None = None
    polling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Filters:
    """All filters of all callers. `limit`: of all together; an origin has a quarter of it. `seconds`: unused for so long, it ends."""

    def __init__(
        self,
        l1: L1,
        *,
        limit: int = 4096,
        seconds: float = _UNUSED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._l1 = l1
        self._limit, self._limit_of_one = limit, max(1, limit // 4)
        self._seconds, self._clock = seconds, clock
        self._all: dict[str, _Filter] = {}

    async def new_log_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newFilter`."""
        wanted = params[0] if isinstance(params, list) and len(params) == 1 else None
        if not isinstance(wanted, dict):
            raise InvalidParams("0", "a filter object", wanted)
        lowest, highest = _bounds(wanted)
        # The node judges address and topics, before anybody waits for changes.
        await self._l1.call("eth_getLogs", {**criteria(wanted), "fromBlock": "latest", "toBlock": "latest"})
        await self._l1.blocks.sync()
        return self._add(context.origin, _LogChanges(self._l1, wanted, lowest, highest), wanted)

    async def new_block_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newBlockFilter`."""
        _no_params(params)
        await self._l1.blocks.sync()
        return self._add(context.origin, _BlockChanges(self._l1))

    async def new_pending_transaction_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newPendingTransactionFilter`; the node's error where it has none."""
        _no_params(params)
        self._make_room(context.origin)
        return self._add(
            context.origin, _PendingChanges(self._l1, await self._l1.call("eth_newPendingTransactionFilter"))
        )

    async def changes(self, params: Any, context: Context) -> list[Any]:
        """Answer `eth_getFilterChanges`."""
        found = self._find(params, context.origin)
        async with found.polling:
            changes = await found.changes.take()
        found.used = self._clock()
        return changes

    async def logs(self, params: Any, context: Context) -> Any:
        """Answer `eth_getFilterLogs`: all logs the filter matches, whether handed out before or not."""
        found = self._find(params, context.origin)
        if found.logs is None:
            raise _not_found()
        return await self._l1.call("eth_getLogs", found.logs)

    async def uninstall(self, params: Any, context: Context) -> bool:
        """Answer `eth_uninstallFilter`: tell whether there was one."""
        number = _number(params)
        found = self._all.get(number)
        if found is None or found.origin != context.origin:
            return False
        del self._all[number]
        return True

    def __len__(self) -> int:
        return len(self._all)

    def _add(self, origin: Origin, changes: Changes, logs: dict[str, Any] | None = None) -> str:
        self._make_room(origin)
        number = "0x" + secrets.token_hex(16)
        self._all[number] = _Filter(origin, changes, self._clock(), logs)
        return number

    def _make_room(self, origin: Origin) -> None:
        oldest = self._clock() - self._seconds
        for number in [number for number, one in self._all.items() if one.used < oldest]:
            del self._all[number]
        of = Counter(one.origin for one in self._all.values())
        if len(self._all) >= self._limit or of[origin] >= self._limit_of_one:
            raise LimitExceeded("subscriptions", "too many filters are open; uninstall some ([limits] subscriptions)")

    def _find(self, params: Any, origin: Origin) -> _Filter:
        found = self._all.get(_number(params))
        if found is None or found.origin != origin or found.used < self._clock() - self._seconds:
            raise _not_found()
        found.used = self._clock()
        return found


class _Followed:
    """What a filter has not looked at yet. An event that could not be dealt with stays for the next time."""

    def __init__(self, l1: L1) -> None:
        self._blocks = l1.blocks
        self._events: Events = l1.blocks.events()
        self._left: list[Event] = []

    async def each(self, take: Callable[[Event], Awaitable[None]]) -> None:
        await self._blocks.sync()
        self._left = _still_true([*self._left, *self._events.drain()])
        while self._left:
            await take(self._left[0])
            del self._left[0]


def _still_true(events: list[Event]) -> list[Event]:
    """Return `events` without blocks that a later reorg among them took away: nobody was told of them, nobody need be."""
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Reorg):
            ancestor = event.ancestor_number
            kept = [one for one in kept if isinstance(one, Reorg) or one.head.number <= ancestor]
        kept.append(event)
    return kept


class _LogChanges:
    def __init__(self, l1: L1, wanted: dict[str, Any], lowest: int, highest: int | None) -> None:
        self._lowest, self._highest = lowest, highest
        self._new: list[Any] = []
        self._followed = _Followed(l1)
        self._logs = Logs(l1.call, criteria(wanted), self._matched)

    async def take(self) -> list[Any]:
        await self._followed.each(self._logs.take)
        new, self._new = self._new, []
        return new

    def _matched(self, log: dict[str, Any]) -> None:
        number = int(log["blockNumber"], 16)
        if number >= self._lowest and (self._highest is None or number <= self._highest):
            self._new.append(log)


class _BlockChanges:
    def __init__(self, l1: L1) -> None:
        self._l1 = l1
        self._new: list[str] = []
        self._followed = _Followed(l1)

    async def take(self) -> list[Any]:
        await self._followed.each(self._told)
        new, self._new = self._new, []
        return new

    async def _told(self, event: Event) -> None:
        if not isinstance(event, NewHead):
            return
        hashes = []
        if event.gap_from is not None:
            for number in range(max(event.gap_from, event.head.number - _GAP_HASHES), event.head.number):
                block = await self._l1.call("eth_getBlockByNumber", hex(number), False)
                if block is not None:
                    hashes.append(block["hash"])
        self._new += [*hashes, event.head.hash]


class _PendingChanges:
    def __init__(self, l1: L1, number: Any) -> None:
        self._l1 = l1
        self._number = number

    async def take(self) -> list[Any]:
        changes: list[Any] = await self._l1.call("eth_getFilterChanges", self._number)
        return changes


def handlers(filters: Filters) -> dict[str, Handler]:
    """Return the methods of this module by name."""
    return {
        "eth_newFilter": filters.new_log_filter,
        "eth_newBlockFilter": filters.new_block_filter,
        "eth_newPendingTransactionFilter": filters.new_pending_transaction_filter,
        "eth_getFilterChanges": filters.changes,
        "eth_getFilterLogs": filters.logs,
        "eth_uninstallFilter": filters.uninstall,
    }


def _not_found() -> RpcError:
    return RpcError(-32000, "filter not found")  # geth's words: libraries look for them and make the filter again


def _number(params: Any) -> str:
    given = params[0] if isinstance(params, list) and len(params) == 1 else None
    if not isinstance(given, str):
        raise InvalidParams("0", "the id of a filter", given)
    return given


def _no_params(params: Any) -> None:
    if params not in (None, [], {}):
        raise InvalidParams("params", "none", params)


def _bounds(wanted: dict[str, Any]) -> tuple[int, int | None]:
    """Return the lowest and highest block whose new logs are handed out (None: no highest). Raise -32602."""
    if "blockHash" in wanted:
        return 0, -1  # one block, and a past one: nothing new can match
    lowest, highest = _block(wanted, "fromBlock"), _block(wanted, "toBlock")
    if lowest is not None and highest is not None and highest < lowest:
        raise InvalidParams("toBlock", "a block not before fromBlock", wanted["toBlock"])
    return lowest or 0, highest


def _block(wanted: dict[str, Any], name: str) -> int | None:
    value = wanted.get(name)
    if value is None or value in _OPEN_TAGS:
        return None
    if value == "earliest":
        return 0
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise InvalidParams(name, "a block number as 0x quantity, or a tag", value)
    return int(value, 16)
