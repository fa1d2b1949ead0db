"""Events of a gateway that lock and release the owner's money, read from L1 as the manifest names them.

Confirmed blocks are read once and remembered in memory, with the hash of the newest of them: where that block is not on
the chain any more (a reorg deeper than was final, a developer's reset), all is read anew. The newest blocks are read again
each time. Logs that do not decode exactly are left out. Sources: manifest `locked` and `released`, the ABI.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from middleware.errors import Disconnected, RpcError
from proxy.host.gateway_abi import find_event
from proxy.host.gateway_logs import arguments_of, topic_of
from proxy.host.gateways import NodeCalls
from proxy.host.installed import EventMap, Gateway
from proxy.host.operation_records import ETH

log = logging.getLogger("l2proxy.deposits")

SPAN = 50_000  # blocks asked for at once; halved where the node says it is too many
TURNS = 64  # blocks, at least as deep as any reorg of a living chain
MOST_SKIPPED = 10_000  # logs that do not decode are counted and said up to here

Skip = Callable[[Gateway, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """One event: `amount` of `asset` (ETH or a checksummed token) locked, or released."""

    released: bool
    asset: str
    amount: int
    hash: str
    log_index: int
    block: int
    confirmed: bool


@dataclass
class _Known:
    """What confirmed blocks held, up to and including `until`, whose hash is `block`; None: nothing was read yet."""

    until: int
    block: str | None = None
    moved: list[Moved] = field(default_factory=list)


class GatewayEvents:
    """Reads the events of gateways. `confirmations` says how many blocks are final here."""

    def __init__(self, l1: NodeCalls, confirmations: Callable[[], int]) -> None:
        self._l1 = l1
        self._confirmations = confirmations
        self._known: dict[tuple[str, str, str], _Known] = {}
        self._skipped: set[tuple[str, str]] = set()

    @property
    def skipped(self) -> int:
        """How many logs were left out because they do not decode, each counted and said once (hardening.md 28)."""
        return len(self._skipped)

    async def of(self, gateway: Gateway, owner: str) -> list[Moved]:
        """Return the owner's events in the order of the chain. Raise `Disconnected`, or the node's error."""
        head = int(await self._l1.call("eth_blockNumber"), 16)
        final = head - self._confirmations() + 1
        found: list[Moved] = []
        for released, event in ((False, gateway.locked), (True, gateway.released)):
            if event is not None:
                found += await self._read(_Reader(gateway, event, owner, released), head, final)
        return sorted(found, key=lambda moved: (moved.block, moved.log_index))

    async def gone(self, transactions: Mapping[str, int]) -> set[str]:
        """Return those transactions, mined in blocks of these heights, that a reorg took away. Raise `Disconnected`.

        Only young ones are looked at: a chain does not turn deeper, and a developer's that was set back is shorter.
        """
        head = int(await self._l1.call("eth_blockNumber"), 16) if transactions else 0
        young = [row for row, block in transactions.items() if block > head - TURNS]
        return {row for row in young if await self._l1.call("eth_getTransactionReceipt", row) is None}

    async def _read(self, reader: _Reader, head: int, final: int) -> list[Moved]:
        known = self._known.get(reader.key)
        if known is None or (known.block is not None and known.block != await self._hash(known.until)):
            known = self._known[reader.key] = _Known(reader.gateway.since - 1)
        # Asked before the logs: should the chain turn meanwhile, the next call sees another block here.
        block = await self._hash(final) if final > known.until else None
        rows = await self._logs(reader, known.until + 1, head)
        fresh = [moved for row in rows if (moved := reader.read(row, final, self._skip)) is not None]
        kept = [moved for moved in fresh if moved.confirmed]
        present = [*known.moved, *fresh]
        if block is not None:
            self._known[reader.key] = _Known(final, block, [*known.moved, *kept])
        return present

    def _skip(self, gateway: Gateway, row: Mapping[str, Any]) -> None:
        place = (str(row["transactionHash"]), str(row["logIndex"]))
        if place in self._skipped or len(self._skipped) >= MOST_SKIPPED:
            return
        self._skipped.add(place)
        log.warning(
            "log %s of transaction %s of gateway %s was left out: it does not decode", place[1], place[0], gateway.name
        )

    async def _hash(self, number: int) -> str | None:
        """Return the hash of the block at a height, None where the chain has none there."""
        block = await self._l1.call("eth_getBlockByNumber", hex(number), False) if number >= 0 else None
        return None if block is None else str(block["hash"])

    async def _logs(self, reader: _Reader, start: int, end: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        span = SPAN
        while start <= end:
            until = min(start + span - 1, end)
            request = reader.filter | {"fromBlock": hex(start), "toBlock": hex(until)}
            try:
                rows += await self._l1.call("eth_getLogs", request)
            except Disconnected:
                raise
            except RpcError:
                if span <= 16:
                    raise
                span //= 4  # most nodes bound the range or the number of logs
                continue
            start = until + 1
        return rows


class _Reader:
    """Knows one event of one gateway for one owner."""

    def __init__(self, gateway: Gateway, event: EventMap, owner: str, released: bool) -> None:
        self.gateway, self._map, self._owner, self._released = gateway, event, owner, released
        entry = find_event(gateway.abi, event.event)
        if entry is None:
            raise RuntimeError(f"gateway {gateway.name}: the ABI has no event {event.event}")
        self._inputs: list[Mapping[str, Any]] = entry["inputs"]
        self._topic = topic_of(entry)
        self.key = (gateway.address, f"{event}", owner)

    @property
    def filter(self) -> dict[str, Any]:
        """The filter of `eth_getLogs`, by owner where the owner is indexed."""
        topics: list[str | None] = [self._topic]
        for declared in self._inputs:
            if declared.get("indexed"):
                is_owner = declared["name"] == self._map.owner
                topics.append("0x" + self._owner[2:].lower().rjust(64, "0") if is_owner else None)
        while topics[-1] is None:
            topics.pop()
        return {"address": self.gateway.address, "topics": topics}

    def read(self, row: Mapping[str, Any], final: int, skip: Skip) -> Moved | None:
        """Return what a log says, None for another owner's or one that does not decode, which `skip` is told."""
        values = arguments_of(self._inputs, row)
        if values is None:
            skip(self.gateway, row)
            return None
        if values[self._map.owner] != self._owner:
            return None
        asset = ETH
        if self._map.asset is not None:
            token = values[self._map.asset]
            asset = ETH if int(token, 16) == 0 else token
        block = int(row["blockNumber"], 16)
        return Moved(
            self._released,
            asset,
            int(values[self._map.amount], 16),
            row["transactionHash"],
            int(row["logIndex"], 16),
            block,
            block <= final,
        )
