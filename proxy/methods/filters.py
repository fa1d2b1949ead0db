"""The filter methods, served here over any L1 node: ids nobody can guess, bound to who made them, forgotten when unused.

At the end of the dapp chain. Block and log filters are made from the block tracker and plain reads, so they need nothing of the node,
outlive its restarts and tell logs that a reorg took back; pending transactions of all filters are one filter at the node. A change is
handed out once; what could not be read is handed out by the next poll. Source: execution-apis `eth_newFilter` and its kin, geth for
the semantics.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from middleware.errors import InvalidParams, LimitExceeded, RpcError
from middleware.waist import Context, Handler, Origin, Request
from proxy.methods.filter_changes import L1, BlockChanges, Changes, LogChanges, PendingChanges, PendingFeed
from proxy.upstream.log_filter import read_filter

_UNUSED_SECONDS = 300.0


@dataclass(eq=False)
class _Filter:
    origin: Origin
    kind: str
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
        self._pending = PendingFeed(l1.call)
        l1.blocks.on_change(lambda _: self._forget_unused())

    def __len__(self) -> int:
        return len(self._all)

    @property
    def active(self) -> dict[str, int]:
        """How many filters there are, by kind ("logs", "blocks", "pending"); for the metrics."""
        return dict(Counter(one.kind for one in self._all.values()))

    async def new_log_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newFilter`."""
        given = params[0] if isinstance(params, list) and len(params) == 1 else None
        wanted = read_filter(given)
        self._make_room(context.origin)
        # The node judges the filter as well, before anybody waits for changes.
        await self._l1.call("eth_getLogs", {**wanted.criteria, "fromBlock": "latest", "toBlock": "latest"})
        await self._l1.blocks.sync()
        return self._add(context.origin, "logs", LogChanges(self._l1, wanted), given)

    async def new_block_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newBlockFilter`."""
        if params not in (None, [], {}):
            raise InvalidParams("params", "none", params)
        self._make_room(context.origin)
        await self._l1.blocks.sync()
        return self._add(context.origin, "blocks", BlockChanges(self._l1))

    async def new_pending_transaction_filter(self, params: Any, context: Context) -> str:
        """Answer `eth_newPendingTransactionFilter`, with true for whole transactions."""
        given = [] if params in (None, {}) else params
        if given not in ([], [None], [True], [False]) or (given and type(given[0]) is int):
            raise InvalidParams("0", "true for whole transactions, false or nothing for their hashes", params)
        self._make_room(context.origin)
        return self._add(context.origin, "pending", await self._pending.join(whole=given == [True]))

    async def changes(self, params: Any, context: Context) -> list[Any]:
        """Answer `eth_getFilterChanges`."""
        found = self._find(params, context.origin)
        async with found.polling:
            changes = await found.changes.take()
        found.used = self._clock()
        return changes

    async def logs(self, params: Any, context: Context) -> Request:
        """Answer `eth_getFilterLogs` as the `eth_getLogs` it is: all logs the filter matches, whether handed out before or not."""
        found = self._find(params, context.origin)
        if found.logs is None:
            raise _not_found()
        return Request("eth_getLogs", msgspec.json.encode([found.logs]))

    async def uninstall(self, params: Any, context: Context) -> bool:
        """Answer `eth_uninstallFilter`: tell whether there was one."""
        number = _number(params)
        found = self._all.get(number)
        if found is None or found.origin != context.origin or self._is_unused(found):
            return False
        del self._all[number]
        if isinstance(found.changes, PendingChanges):
            await self._pending.leave(found.changes)
        return True

    def _add(self, origin: Origin, kind: str, changes: Changes, logs: dict[str, Any] | None = None) -> str:
        self._make_room(origin)  # again: others may have made filters while the node was asked
        number = "0x" + secrets.token_hex(16)
        self._all[number] = _Filter(origin, kind, changes, self._clock(), logs)
        return number

    def _make_room(self, origin: Origin) -> None:
        self._forget_unused()
        of_one = sum(1 for one in self._all.values() if one.origin == origin)
        if len(self._all) >= self._limit or of_one >= self._limit_of_one:
            raise LimitExceeded("subscriptions", "too many filters are open; uninstall some ([limits] subscriptions)")

    def _forget_unused(self) -> None:
        for number in [number for number, one in self._all.items() if self._is_unused(one)]:
            del self._all[number]

    def _is_unused(self, one: _Filter) -> bool:
        return one.used < self._clock() - self._seconds

    def _find(self, params: Any, origin: Origin) -> _Filter:
        found = self._all.get(_number(params))
        if found is None or found.origin != origin or self._is_unused(found):
            raise _not_found()
        found.used = self._clock()
        return found


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
