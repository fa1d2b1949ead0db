"""In-flight sharing: identical reads asked at the same time go to the node once. Behind the cache, before the node.

Identical: method, raw params, the partition of the asker (hardening.md 3) and the epoch of the chain; a call that may change
something, passing through the proxy, parts those before from those after it. The first asks, the others wait for its answer;
if the first goes away the next in line asks in its place, so that nobody's leaving hurts another, and nobody who asks alone
pays for a task. The node's errors are shared like its results, each caller with its own id. It must never share what sends,
what depends on pending state, or an answer in a file. On and off together with the cache (docs/decisions/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from middleware.answer_id import divide
from middleware.cache import partition
from middleware.cache_rules import RULES
from middleware.cache_switch import CacheSwitch
from middleware.epoch import Epoch
from middleware.passing import Then, Watch
from middleware.waist import Answer, Context, LargeReply, Next, NodeReply, Request

SHARED: Final = frozenset(
    {
        *RULES,
        *("eth_blockNumber", "eth_syncing", "net_listening", "net_peerCount", "web3_clientVersion"),
        *("eth_baseFee", "eth_blobBaseFee", "eth_gasPrice", "eth_maxPriorityFeePerGas"),
    }
)
"""Reads that are shared. Known reads only, and no estimate: what a node computes for its pending block is asked each time."""

_Key: TypeAlias = tuple[str, int, int, str, bytes]


class SharingFigures:
    """`shared`: calls answered by another's."""

    __slots__ = ("shared",)

    def __init__(self) -> None:
        self.shared = 0


_Outcome: TypeAlias = "Answer | Exception | None"
"""What those who wait are told: the answer, what was raised, or (None) that the one who asked has gone."""


class _Call:
    """One call to the node and those who wait for it. `raw_id`: whose id is in the answer."""

    __slots__ = ("raw_id", "waiting")

    def __init__(self, raw_id: bytes) -> None:
        self.raw_id = raw_id
        self.waiting: list[asyncio.Future[_Outcome]] = []


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
        raw_id, key = request.id, self._key(request, context)
        if raw_id is None or key is None:
            return await next(request, context)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(raw_id)
        else:
            outcome = await self._wait(key, call)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                divided = divide(outcome.body, call.raw_id) if isinstance(outcome, NodeReply) else None
                if divided is None:  # in a file, which is the first one's, or with the id at an unusual place
                    return await next(request, context)
                self.figures.shared += 1
                return NodeReply(divided[0] + raw_id + divided[1])
            call.raw_id = raw_id
        return await self._ask(key, call, next(request, context))

    def around(self, request: Request, context: Context, then: Then) -> Then | None:
        """Make the call others may wait for (`passing.Around`); one that has to wait itself is awaited."""
        raw_id, key = request.id, self._key(request, context)
        if raw_id is None or key is None:
            return then
        if key in self._calls:
            return None
        call = self._calls[key] = _Call(raw_id)
        return _Asking(self, key, call, then)

    def _key(self, request: Request, context: Context) -> _Key | None:
        """Return what makes two calls identical; None: this one is not shared."""
        if (
            request.id is None
            or not self._switch.on(self._clock())
            or b"pending" in request.params
            or self._odd(request)
        ):
            return None
        epoch = self._epoch
        return partition(context), epoch.number, epoch.sends, request.method, request.params

    async def _ask(self, key: _Key, call: _Call, asking: Awaitable[Answer]) -> Answer:
        """Wait for the node's answer, and hand it to all who wait."""
        try:
            answer = await asking
        except Exception as error:
            self.end(key, call, error)
            raise
        except BaseException:  # this caller has gone
            self.pass_on(key, call)
            raise
        self.end(key, call, answer)
        return answer

    async def _wait(self, key: _Key, call: _Call) -> _Outcome:
        """Return how the call ended; None: it is now for this caller to ask."""
        waiter: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        call.waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result() is None:  # gone before it could ask
                self.pass_on(key, call)
            raise

    def end(self, key: _Key, call: _Call, outcome: _Outcome) -> None:
        """Hand what a call came to to all who wait; the first end is the one that counts."""
        if self._calls.get(key) is call:
            del self._calls[key]
        for waiter in call.waiting:
            if not waiter.done():
                waiter.set_result(outcome)

    def pass_on(self, key: _Key, call: _Call) -> None:
        """Let the next in line ask; with nobody in line the call is over."""
        while call.waiting:
            heir = call.waiting.pop(0)
            if not heir.done():
                heir.set_result(None)
                return
        del self._calls[key]


class _Asking(Watch):
    """A call that others may wait for, on its way without being awaited."""

    __slots__ = ("_call", "_key", "_link")

    def __init__(self, link: InFlight, key: _Key, call: _Call, then: Then) -> None:
        self._then = then
        self._link, self._key, self._call = link, key, call

    def answered(self, answer: NodeReply | LargeReply) -> None:
        self._link.end(self._key, self._call, answer)
        self._then.answered(answer)

    def failed(self, error: Exception) -> None:
        self._link.end(self._key, self._call, error)
        self._then.failed(error)

    def left(self) -> None:
        self._link.pass_on(self._key, self._call)
        self._then.left()

    def withdrawn(self) -> None:
        self._link.pass_on(self._key, self._call)
        self._then.withdrawn()
