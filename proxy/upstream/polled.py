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
from proxy.upstream.headers import read_head

log = logging.getLogger("l2proxy.upstream")

Call: TypeAlias = Callable[..., Awaitable[Any]]
Push: TypeAlias = Callable[[bytes], None]

_PENDING_SECONDS = 1.0
_SYNCING_SECONDS = 2.0
_WAITING = 4096  # hashes that may wait to be looked up
_SEEN = 16_384  # hashes remembered where they are found in blocks
_MISSED = 64  # blocks between two looks whose transactions are told
# What nodes say of a method they do not have: JSON-RPC, EIP-1474, EIP-1193.
METHOD_MISSING = (-32601, -32004, 4200)


class PendingTransactions:
    """Hashes of pending transactions, from a filter at the node, made anew whenever the node has forgotten it.

    Where nodes have no such filter, as the embedded L1 and many hosted ones, from the blocks they show.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._number: Any = None
        self._blocks: _FromBlocks | None = None

    async def begin(self) -> None:
        """Make the filter. Raise the node's error where it refuses one that it has."""
        try:
            self._number = await self._call("eth_newPendingTransactionFilter")
        except RpcError as error:
            if error.code not in METHOD_MISSING:
                raise
            blocks = _FromBlocks(self._call)
            await blocks.new()  # what is there already is not new
            self._blocks = blocks

    async def end(self) -> None:
        """Let the node forget the filter; it forgets it by itself in a while."""
        number, self._number, self._blocks = self._number, None, None
        if number is not None:
            with contextlib.suppress(RpcError):
                await self._call("eth_uninstallFilter", number)

    async def new(self) -> list[Any]:
        """Return the hashes since the last call. Raise `Disconnected`."""
        if self._number is None and self._blocks is None:
            await self.begin()
        if self._blocks is not None:
            return await self._blocks.new()
        try:
            found = await self._call("eth_getFilterChanges", self._number)
        except Disconnected:
            raise
        except RpcError as error:  # nodes forget filters, all of them when they restart
            log.debug("the L1 node's filter of pending transactions is made again: %s", error.message)
            self._number = None
            await self.begin()
            return []
        return found if isinstance(found, list) else []


class _FromBlocks:
    """Hashes of transactions the moment they are first seen, in the block that would be next or in one that has come."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seen: dict[str, None] = {}
        self._looked_at: dict[str, None] = {}  # hashes of blocks

    async def new(self) -> list[Any]:
        """Return the hashes not seen before. Raise `Disconnected`; then they are found by the next call."""
        blocks = await self._since()
        pending = await self._ask("eth_getBlockByNumber", "pending")
        found = [one for block in [*blocks, pending] for one in _hashes(block)]
        new = [one for one in dict.fromkeys(found) if one not in self._seen]
        _remember(self._seen, new, _SEEN)
        _remember(self._looked_at, [read_head(block, "eth_getBlockByNumber").hash for block in blocks], 2 * _MISSED)
        return new

    async def _since(self) -> list[Any]:
        """Return the blocks of the chain that were not looked at, ascending; at first the newest alone."""
        blocks = [await self._call("eth_getBlockByNumber", "latest", False)]
        head = read_head(blocks[0], "eth_getBlockByNumber")
        if head.hash in self._looked_at:
            return []
        while self._looked_at and head.parent_hash not in self._looked_at and head.number > 0 and len(blocks) < _MISSED:
            parent = await self._ask("eth_getBlockByHash", head.parent_hash)
            if parent is None:
                break  # it has left the chain meanwhile; the next look goes down from a newer one
            blocks.append(parent)
            head = read_head(parent, "eth_getBlockByHash")
        return blocks[::-1]

    async def _ask(self, method: str, which: str) -> Any:
        try:
            return await self._call(method, which, False)
        except Disconnected:
            raise
        except RpcError as error:  # not every node shows the next block
            log.debug("pending transactions are not seen in block %s: %s", which, error.message)
            return None


def _remember(kept: dict[str, None], more: list[str], most: int) -> None:
    """Add `more` to `kept`, which forgets its oldest beyond `most`."""
    kept.update(dict.fromkeys(more))
    while len(kept) > most:
        del kept[next(iter(kept))]


def _hashes(block: Any) -> list[str]:
    found = block.get("transactions") if isinstance(block, dict) else None
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


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
