"""What callers subscribe to that no new block tells: pending transactions and whether the node syncs, made from plain reads.

Run by `subscriptions` where the node pushes nothing (HTTP, the embedded L1), for `syncing` always. Each is an endless coroutine.
Source: geth's pubsub for what is pushed and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from middleware.errors import Disconnected, RpcError

log = logging.getLogger("l2proxy.upstream")

Call: TypeAlias = Callable[..., Awaitable[Any]]
Push: TypeAlias = Callable[[bytes], None]

_PENDING_SECONDS = 1.0
_SYNCING_SECONDS = 2.0
_WAITING = 4096  # hashes that may wait to be looked up


class PendingTransactions:
    """Hashes of pending transactions, from a filter at the node, made anew whenever the node has forgotten it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._number: Any = None

    async def begin(self) -> None:
        """Make the filter. Raise the node's error where it has none."""
        self._number = await self._call("eth_newPendingTransactionFilter")

    async def end(self) -> None:
        """Let the node forget the filter; it forgets it by itself in a while."""
        number, self._number = self._number, None
        if number is not None:
            with contextlib.suppress(RpcError):
                await self._call("eth_uninstallFilter", number)

    async def new(self) -> list[Any]:
        """Return the hashes since the last call. Raise `Disconnected`."""
        if self._number is None:
            await self.begin()
        try:
            found = await self._call("eth_getFilterChanges", self._number)
        except Disconnected:
            raise
        except RpcError as error:  # nodes forget filters, all of them when they restart
            log.debug("the L1 node's filter of pending transactions is made again: %s", error.message)
            await self.begin()
            return []
        return found if isinstance(found, list) else []


async def follow_pending(pending: PendingTransactions, push: Push) -> None:
    """Push the hash of every new pending transaction until cancelled."""
    while True:
        await asyncio.sleep(_PENDING_SECONDS)
        try:
            for transaction in await pending.new():
                push(msgspec.json.encode(transaction))
        except RpcError as error:
            log.debug("pending transactions wait for the L1 node: %s", error.message)


async def follow_syncing(call: Call, before: Any, push: Push) -> None:
    """Push when the node begins to sync, `{"syncing":true,"status":{...}}`, and `false` when it has finished.

    `before`: what `eth_syncing` said when the subscription was made.
    """
    was = bool(before)
    while True:
        await asyncio.sleep(_SYNCING_SECONDS)
        try:
            status = await call("eth_syncing")
        except RpcError as error:
            log.debug("whether the L1 node syncs is asked later: %s", error.message)
            continue
        if bool(status) != was:
            was = bool(status)
            push(msgspec.json.encode({"syncing": True, "status": status} if was else False))


class WholeTransactions:
    """Turns hashes into whole transactions on their way to `push`; what a node pushes whole passes as it is."""

    def __init__(self, call: Call, push: Push) -> None:
        self._call = call
        self._push = push
        self._waiting: deque[bytes] = deque(maxlen=_WAITING)
        self._arrived = asyncio.Event()

    def take(self, raw: bytes) -> None:
        """Take a hash, or a whole transaction (raw JSON)."""
        self._waiting.append(raw)
        self._arrived.set()

    async def run(self) -> None:
        """Look hashes up, in the order they came, until cancelled; a transaction that is gone already is left out."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                raw = self._waiting.popleft()
                if not raw.startswith(b'"'):
                    self._push(raw)
                    continue
                with contextlib.suppress(RpcError):
                    found = await self._call("eth_getTransactionByHash", msgspec.json.decode(raw))
                    if found is not None:
                        self._push(msgspec.json.encode(found))
