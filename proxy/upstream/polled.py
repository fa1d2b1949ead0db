"""What a subscription delivers where the node pushes nothing (HTTP, the embedded L1): made from the block tracker and plain reads.

Run by `subscriptions` in place of the node's own subscription. Each kind is an endless coroutine that hands JSON results to `deliver`.
Heads and logs follow reorgs: logs of a block that went away come again with `removed: true`, newest first (as geth does).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.errors import Disconnected, InvalidParams, RpcError, Unsupported
from proxy.upstream.block_tracker import Event, Events, NewHead, Reorg

log = logging.getLogger("l2proxy.upstream")

Call = Callable[..., Awaitable[Any]]
Deliver = Callable[[Any], None]

_BODY_MEMBERS = ("transactions", "uncles", "size", "totalDifficulty", "withdrawals")
_REMEMBERED_BLOCKS = 256
_PENDING_SECONDS = 1.0
_AGAIN_SECONDS = 0.5


async def begin(params: list[Any], call: Call) -> None:
    """Check that `params` can be subscribed to over this node. Raise `RpcError` where not."""
    match params:
        case ["newHeads"]:
            return
        case ["newPendingTransactions"] | ["newPendingTransactions", bool()]:
            await call("eth_uninstallFilter", await call("eth_newPendingTransactionFilter"))
        case ["logs"]:
            return
        case ["logs", dict(filter)]:
            # The node judges the filter, before anybody waits for it.
            await call("eth_getLogs", {**criteria(filter), "fromBlock": "latest", "toBlock": "latest"})
        case ["syncing"]:
            raise Unsupported("eth_subscribe", "syncing is not available over this L1 connection; ask eth_syncing")
        case _:
            raise InvalidParams("0", "newHeads, logs with a filter object, or newPendingTransactions", params)


async def follow(params: list[Any], call: Call, events: Events, deliver: Deliver) -> None:
    """Deliver what `params` (checked by `begin`) subscribe to, until the tracker ends or the task is cancelled."""
    match params[0]:
        case "newHeads":
            await _heads(call, events, deliver)
        case "logs":
            logs = Logs(call, criteria(params[1] if len(params) > 1 else {}), deliver)
            async for event in events:
                await _until_read(logs.take, event)
        case _:
            await _pending_transactions(call, deliver, whole=params[1:] == [True])


def criteria(filter: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    """Return what of a filter object says which logs, not which blocks."""
    return {key: filter[key] for key in ("address", "topics") if key in filter}


async def _until_read(take: Callable[[Event], Awaitable[None]], event: Event) -> None:
    """Deal with `event`, again and again while no node answers; a block the node refuses to tell has gone, its reorg comes next."""
    while True:
        try:
            return await take(event)
        except Disconnected as error:
            log.debug("news of a block wait for the L1 node: %s", error.message)
            await asyncio.sleep(_AGAIN_SECONDS)
        except RpcError as error:
            log.info("a block was not told to subscribers: %s", error.message)
            return None


async def _heads(call: Call, events: Events, deliver: Deliver) -> None:
    async def take(event: Event) -> None:
        if isinstance(event, NewHead):
            block = await call("eth_getBlockByHash", event.head.hash, False)
            if isinstance(block, dict):
                deliver({name: value for name, value in block.items() if name not in _BODY_MEMBERS})

    async for event in events:
        await _until_read(take, event)


class Logs:
    """Logs that match `criteria` (address, topics), as the chain tells them, and again with `removed` when it takes them back."""

    def __init__(self, call: Call, criteria: dict[str, Any], deliver: Deliver) -> None:
        self._call = call
        self._criteria = criteria
        self._deliver = deliver
        self._told: deque[tuple[int, list[dict[str, Any]]]] = deque(maxlen=_REMEMBERED_BLOCKS)

    async def take(self, event: Event) -> None:
        """Deliver what `event` adds or takes back. Raise what `call` raises; then nothing was delivered."""
        if isinstance(event, Reorg):
            self._take_back(event.ancestor_number)
        else:
            await self._tell(event)

    async def _tell(self, event: NewHead) -> None:
        if event.gap_from is None:
            where = {"blockHash": event.head.hash}
        else:
            where = {"fromBlock": hex(event.gap_from), "toBlock": hex(event.head.number)}
        logs = await self._call("eth_getLogs", {**self._criteria, **where})
        if logs:
            self._told.append((event.head.number, logs))
        for one in logs:
            self._deliver(one)

    def _take_back(self, ancestor: int) -> None:
        while self._told and self._told[-1][0] > ancestor:
            _, logs = self._told.pop()
            for one in reversed(logs):
                if int(one["blockNumber"], 16) > ancestor:
                    self._deliver({**one, "removed": True})


async def _pending_transactions(call: Call, deliver: Deliver, *, whole: bool) -> None:
    number = None
    while True:
        try:
            if number is None:
                number = await call("eth_newPendingTransactionFilter")
            for transaction in await call("eth_getFilterChanges", number):
                found = await call("eth_getTransactionByHash", transaction) if whole else transaction
                if found is not None:
                    deliver(found)
        except RpcError as error:
            log.debug("the L1 node's filter is made again: %s", error.message)
            number = None  # nodes forget filters, all of them when they restart
        await asyncio.sleep(_PENDING_SECONDS)
