"""One watch following the chain: every block from its cursor on, told once in order, taken back when the chain left it.

Asks the node for ranges while it catches up and block by block at the tip, by block hash, so that no reorg can slip
between two questions. The cursor moves on only after the plugin has answered; hashes of the last blocks it was told lie on
disk with it, so that a reorg is seen after a stop as well. It must never tell a block of a branch whose parent it did not tell,
unless the node insists that both stand.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from middleware.errors import Disconnected, PluginUnavailable, RpcError
from proxy.host.deliveries import Deliveries
from proxy.host.ports import L1
from proxy.storage import StorageError

log = logging.getLogger("l2proxy.host")

DEPTH = 128  # blocks whose hashes and logs are kept to take them back
MAX_KEPT = 1024 * 1024  # bytes of them; a watch of half the chain keeps fewer blocks, but for the newest few
FEWEST = 4
RANGE = 1000  # blocks asked at once while catching up
MAX_LINE = 512 * 1024  # bytes of logs in one line
AGAIN = 1.0  # seconds until a node that failed is asked again
LOOKS = 3  # at a block that does not follow the one before, until the node is believed (anvil does so after evm_revert)


class Told(msgspec.Struct, array_like=True):
    """A block the plugin was told: number, hash, and the logs it got of it."""

    number: int
    hash: str
    logs: list[dict[str, Any]]


class WatchRecord(msgspec.Struct):
    """A watch. `asked`: the `from` of the plugin; `cursor`: the next block to tell; `told`: the newest ones, which lie on disk
    one by one.

    `floor`: the block behind the last one that `told` has let go; everything told from there on with logs stands in it.
    """

    blocks: bool
    logs: dict[str, Any] | None
    confirmations: int
    asked: int | None
    cursor: int
    told: list[Told]
    floor: int = 0

    def same_as(self, other: WatchRecord) -> bool:
        """Tell whether both watch the same."""
        return (self.blocks, self.logs, self.confirmations, self.asked) == (
            other.blocks,
            other.logs,
            other.confirmations,
            other.asked,
        )


Save = Callable[[WatchRecord, list[Told], list[int]], Awaitable[None]]


class Watch:
    """One watch at work. `save` puts the record on disk, with the blocks that were told since and without those let go."""

    def __init__(self, name: str, record: WatchRecord, l1: L1, deliveries: Deliveries, save: Save) -> None:
        self.name = name
        self.record = record
        self.ended = False
        self.telling = False
        self._l1 = l1
        self._deliveries = deliveries
        self._save = save
        self._changed = asyncio.Event()
        self._range = RANGE
        self._unlinked = 0
        self._sizes = {block.number: _size(block) for block in record.told}
        self._on_disk = {block.number: block for block in record.told}

    def poke(self) -> None:
        """Look again: the head has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the chain until ended, cancelled, or the plugin is gone for good."""
        while not self.ended:
            self._changed.clear()
            try:
                moved = await self._step()
            except PluginUnavailable:
                return
            except Disconnected:
                await self._wait(AGAIN)
                continue
            except RpcError as error:
                log.warning("watch %s: the node answered %s", self.name, error.message[:200])
                await self._wait(AGAIN)
                continue
            if not moved:
                await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Tell one stretch, or take one back; False when there is nothing to do until the head changes."""
        head = self._l1.blocks.head
        if head is None:
            return False
        if await self._take_back():
            return True
        target = head.number - self.record.confirmations
        if self.record.cursor > target:
            return False
        if self.record.blocks or target - self.record.cursor < 2:
            return await self._tell_block(self.record.cursor)
        return await self._tell_range(min(target - 1, self.record.cursor + self._range - 1))

    async def _take_back(self) -> bool:
        """Tell the plugin what the chain left since; True when something was."""
        gone: list[Told] = []
        told = list(self.record.told)
        while told:
            present = await self._block(told[-1].number)
            if present is not None and present["hash"] == told[-1].hash:
                break
            gone.append(told.pop())
        if not gone:
            return False
        # After a stretch told at once, blocks without logs are not in `told`: what changed may begin right behind the anchor.
        first, head = told[-1].number + 1 if told else self.record.floor, self._l1.blocks.head
        for block in gone:
            if block.logs:
                await self._tell_logs(list(reversed(block.logs)), removed=True)
        if self.record.blocks:
            last = max(first - 1, 0) if head is None else head.number
            await self._tell("reorg", {"from": hex(first), "to": hex(last)})
        await self._move(first, told)
        return True

    async def _tell_block(self, number: int) -> bool:
        block = await self._block(number)
        if block is None:
            return False  # the node is behind the tracker, or it left that branch; the head will change
        if (
            self.record.told
            and number == self.record.told[-1].number + 1
            and (block["parentHash"] != self.record.told[-1].hash)
        ):
            if self._unlinked < LOOKS:
                self._unlinked += 1
                if self._unlinked > 1:
                    await self._wait(AGAIN)
                return True  # the parent was left in this moment; take it back first
            log.warning(
                "watch %s: block %d does not follow the one before, and both stand: the node errs", self.name, number
            )
        self._unlinked = 0
        logs: list[dict[str, Any]] = []
        if self.record.logs is not None:
            logs = await self._l1.call("eth_getLogs", {**self.record.logs, "blockHash": block["hash"]})
        if self.record.blocks:
            row = {"number": block["number"], "hash": block["hash"], "timestamp": block["timestamp"]}
            await self._tell("block", row)
        if logs:
            await self._tell_logs(logs, removed=False)
        await self._move(number + 1, [*self.record.told, Told(number, block["hash"], logs)])
        return True

    async def _tell_range(self, last: int) -> bool:
        before = await self._block(last)
        if before is None:
            return False
        bounds = {"fromBlock": hex(self.record.cursor), "toBlock": hex(last)}
        try:
            logs = await self._l1.call("eth_getLogs", {**(self.record.logs or {}), **bounds})
        except Disconnected:
            raise
        except RpcError:
            if self._range <= 1:
                raise
            self._range = max(1, self._range // 4)  # many nodes bound what one question may return
            return True
        after = await self._block(last)
        if after is None or after["hash"] != before["hash"] or not await self._stands():
            return True  # a reorg in between: ask again
        if logs:
            await self._tell_logs(logs, removed=False)
        self._range = min(RANGE, self._range * 2)
        await self._move(last + 1, [*self.record.told, *_by_block(logs, last, before["hash"])])
        return True

    async def _tell_logs(self, logs: list[dict[str, Any]], *, removed: bool) -> None:
        for part in _lines(logs):
            rows = [{**row, "removed": removed} for row in part]
            if not await self._tell_rows(rows, removed=removed) and len(rows) > 1:
                for row in rows:  # one of them may be what the plugin cannot take; the others it gets
                    await self._tell_rows([row], removed=removed)

    async def _tell_rows(self, rows: list[dict[str, Any]], *, removed: bool) -> bool:
        lane = f"logs {self.name}"
        return await self._tell("logs", {"watch": self.name, "logs": rows, "removed": removed}, lane)

    async def _tell(self, method: str, params: dict[str, Any], lane: str = "blocks") -> bool:
        """Return False where it was set aside."""
        if self.ended:
            raise asyncio.CancelledError
        self.telling = True
        try:
            return await self._deliveries.deliver(lane, method, params)
        finally:
            self.telling = False

    async def _move(self, cursor: int, told: list[Told]) -> None:
        if self.ended:
            return
        before = {block.number: block for block in self.record.told}
        fresh = [block for block in told if before.get(block.number) is not block]
        sizes = self._sizes | {block.number: _size(block) for block in fresh}
        kept = _newest(told, sizes)
        floor = self.record.floor if len(kept) == len(told) else told[-len(kept) - 1].number + 1
        self._sizes = {block.number: sizes[block.number] for block in kept}
        self.record = msgspec.structs.replace(self.record, cursor=cursor, told=kept, floor=floor)
        added = [block for block in kept if self._on_disk.get(block.number) is not block]
        try:
            await self._save(self.record, added, [number for number in self._on_disk if number not in self._sizes])
        except (
            StorageError
        ) as error:  # it goes on, told what is new; after a stop it is told again from where the disk knows of
            log.warning("watch %s: its place could not be written: %s", self.name, error)
            return
        self._on_disk = {block.number: block for block in kept}

    async def _stands(self) -> bool:
        """Tell whether the newest block that was told is still of the chain."""
        if not self.record.told:
            return True
        last = self.record.told[-1]
        present = await self._block(last.number)
        return present is not None and present["hash"] == last.hash

    async def _block(self, number: int) -> dict[str, Any] | None:
        block = await self._l1.call("eth_getBlockByNumber", hex(number), False)
        return block if isinstance(block, dict) else None


def _by_block(logs: list[dict[str, Any]], last: int, last_hash: str) -> list[Told]:
    found: dict[str, Told] = {}
    for row in logs:
        told = found.setdefault(row["blockHash"], Told(int(row["blockNumber"], 16), row["blockHash"], []))
        told.logs.append(row)
    found.setdefault(last_hash, Told(last, last_hash, []))
    return sorted(found.values(), key=lambda told: told.number)


def _size(block: Told) -> int:
    return len(msgspec.json.encode(block))


def _newest(told: list[Told], sizes: dict[int, int]) -> list[Told]:
    """Return the blocks that are kept: as many as are needed, as far as there is room."""
    count = room = 0
    for block in reversed(told[-DEPTH:]):
        room += sizes[block.number]
        if room > MAX_KEPT and count >= FEWEST:
            break
        count += 1
    return told[len(told) - count :]


def _lines(logs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = [[]]
    size = 0
    for row in logs:
        length = len(json.dumps(row))
        if parts[-1] and size + length > MAX_LINE:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += length
    return parts
