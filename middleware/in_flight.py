"""In-flight sharing: identical reads asked at the same time go to the node once. Behind the cache, before the node.

Identical: method, raw params, the partition of the asker (hardening.md 3) and the epoch of the chain; a call that may change
something, passing through the proxy, parts those before from those after it. The shared call runs in a task of its own and
ends when the last who waits for it has gone; nobody's leaving hurts another. The node's errors are shared like its results,
each caller with its own id. It must never share what sends, what depends on pending state, or an answer in a file.
On and off together with the cache (docs/decisions/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from middleware.answer_id import divide
from middleware.cache import partition
from middleware.cache_rules import RULES
from middleware.cache_switch import CacheSwitch
from middleware.epoch import Epoch
from middleware.waist import Answer, Context, LargeReply, Next, NodeReply, Request

SHARED = frozenset(
    {
        *RULES,
        *("eth_blockNumber", "eth_syncing", "net_listening", "net_peerCount", "web3_clientVersion"),
        *("eth_baseFee", "eth_blobBaseFee", "eth_gasPrice", "eth_maxPriorityFeePerGas"),
    }
)
"""Reads that are shared. Known reads only, and no estimate: what a node computes for its pending block is asked each time."""

_Key: TypeAlias = tuple[str, int, int, str, bytes]


class SharingFigures:
    """`shared`: calls answered by another's; `running`: calls that others could join now."""

    __slots__ = ("running", "shared")

    def __init__(self) -> None:
        self.shared = self.running = 0


class _Call:
    """One call to the node and those who wait for it. `raw_id`: the id in the answer; `first`: whose that is."""

    __slots__ = ("first", "raw_id", "task", "waiting")

    def __init__(self, task: asyncio.Future[Answer], raw_id: bytes) -> None:
        self.task = task
        self.raw_id = raw_id
        self.first: asyncio.Future[Answer] | None = None
        self.waiting: list[asyncio.Future[Answer]] = []


class InFlight:
    """`odd` tells whether a request's id or params must travel as they are, alone."""

    def __init__(
        self,
        epoch: Epoch,
        switch: CacheSwitch,
        odd: Callable[[Request], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epoch, self._switch, self._odd, self._clock = epoch, switch, odd, clock
        self._calls: dict[_Key, _Call] = {}
        self.figures = SharingFigures()

    def handles(self, method: str) -> bool:
        """Tell whether calls of `method` are shared."""
        return method in SHARED

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Wait for the identical call that is under way, or make one."""
        raw_id = request.id
        if raw_id is None or not self._switch.on(self._clock()) or b"pending" in request.params or self._odd(request):
            return await next(request, context)
        epoch = self._epoch
        key = (partition(context), epoch.number, epoch.sends, request.method, request.params)
        call = self._calls.get(key)
        first = call is None or call.task.done()
        if call is None or first:
            call = self._begin(key, raw_id, next(request, context))
        answer = await self._wait(key, call)
        if first:
            return answer
        divided = divide(answer.body, call.raw_id) if isinstance(answer, NodeReply) else None
        if divided is None:  # in a file, which is the first one's, or with the id at an unusual place
            return await next(request, context)
        self.figures.shared += 1
        return NodeReply(divided[0] + raw_id + divided[1])

    def _begin(self, key: _Key, raw_id: bytes, asking: Awaitable[Answer]) -> _Call:
        call = _Call(asyncio.ensure_future(asking), raw_id)
        self._calls[key] = call
        self.figures.running = len(self._calls)
        call.task.add_done_callback(partial(self._ended, key, call))
        return call

    async def _wait(self, key: _Key, call: _Call) -> Answer:
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        call.waiting.append(waiter)
        call.first = call.first or waiter
        try:
            return await waiter
        finally:
            if not call.task.done():  # this caller has gone
                call.waiting.remove(waiter)
                if not call.waiting:
                    self._forget(key, call)
                    call.task.cancel()

    def _ended(self, key: _Key, call: _Call, task: asyncio.Future[Answer]) -> None:
        """Hand the answer, or what was raised, to everybody who still waits."""
        self._forget(key, call)
        waiting = [waiter for waiter in call.waiting if not waiter.done()]
        if task.cancelled():
            for waiter in waiting:
                waiter.cancel()
            return
        error = task.exception()
        if error is None:
            answer = task.result()
            if isinstance(answer, LargeReply) and call.first not in waiting:
                answer.close()  # the one whose id is in it has gone
        for waiter in waiting:
            if error is None:
                waiter.set_result(answer)
            else:
                waiter.set_exception(error)

    def _forget(self, key: _Key, call: _Call) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
        self.figures.running = len(self._calls)
