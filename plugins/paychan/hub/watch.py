"""The hub's eye on L1: reads confirmed events into the ledger, answers closes, settles, funds channels.

Blocks count once they have the wanted confirmations; a channel is then read at exactly that block, so what is recorded is
one consistent moment of the chain. Deadlines are compared with the chain's clock, never with ours. It must answer a close
with the user's newest voucher inside the window, also after a restart: duties are derived from the ledger each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .book import Book
from .contract import Contract, OnChain
from .layer1 import Node, NodeError
from .ledger import Ledger

log = logging.getLogger("paychan.hub")
FINAL_GRACE = 900  # seconds of chain time the owner has to submit an agreed close before the hub does
BLOCKS_AT_ONCE = 2000


class Watch:
    """Keeps the ledger in step with L1. `changed` is told the channels that moved."""

    def __init__(
        self,
        node: Node,
        contract: Contract,
        ledger: Ledger,
        book: Book,
        hub: str,
        *,
        confirmations: int,
        since: int,
        changed: Callable[[str], None],
    ) -> None:
        self._node = node
        self._contract = contract
        self._ledger = ledger
        self._book = book
        self._hub = hub
        self._confirmations = confirmations
        self._since = since
        self._changed = changed
        self._turn = asyncio.Lock()
        self._funding: dict[str, asyncio.Task[None]] = {}

    async def run(self, interval: float) -> None:
        """Scan for ever; a node that does not answer is tried again."""
        while True:
            try:
                await self.scan()
                await self._duties()
            except NodeError as error:
                log.warning("L1: %s", error)
            await asyncio.sleep(interval)  # plain HTTP and IPC have no push every node offers

    async def scan(self) -> None:
        """Read what is new and confirmed. Raises NodeError."""
        async with self._turn:
            head = int(await self._node.request("eth_blockNumber"), 16)
            upto = head - self._confirmations + 1
            last = int(self._ledger.fact("scanned") or self._since - 1)
            while last < upto:
                until = min(upto, last + BLOCKS_AT_ONCE)
                await self._read(last + 1, until)
                last = until

    async def fund(self, channel: str, amount: int, wait: float) -> bool:
        """Add collateral; return whether it counts already. The transaction goes on if `wait` seconds are too few."""
        task = self._funding.get(channel)
        if task is None:
            task = self._funding[channel] = asyncio.create_task(self._fund(channel, amount))
            task.add_done_callback(lambda _: self._funding.pop(channel, None))
        done, _ = await asyncio.wait({task}, timeout=wait)
        return bool(done) and task.exception() is None

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._funding.values():
            task.cancel()
        await asyncio.gather(*self._funding.values(), return_exceptions=True)

    async def _fund(self, channel: str, amount: int) -> None:
        try:
            block = await self._contract.send("fund(bytes32)", bytes.fromhex(channel[2:]), value=amount)
            log.info("funded %s with %d wei in block %d", channel, amount, block)
            while int(self._ledger.fact("scanned") or 0) < block:
                await self.scan()
                await asyncio.sleep(0.05)  # until the block has its confirmations
        except NodeError as error:
            log.warning("cannot fund %s with %d wei: %s", channel, amount, error)
            raise

    async def _read(self, start: int, end: int) -> None:
        query = {"address": self._contract.address, "fromBlock": hex(start), "toBlock": hex(end)}
        logs: list[dict[str, Any]] = await self._node.request("eth_getLogs", query)
        owners = {"0x" + entry["topics"][1][-40:] for entry in logs if len(entry["topics"]) > 1}
        seen: dict[str, OnChain] = {}
        for owner in sorted(owners):
            newest = await self._contract.channel_of(owner, end)
            for channel in {*self._ledger.channels_of(owner), "0x" + newest.hex()}:
                seen[channel] = await self._contract.channel(bytes.fromhex(channel[2:]), end)
        block = await self._node.request("eth_getBlockByNumber", hex(end), False)
        if block is None:
            raise NodeError(f"block {end} is gone")
        with self._ledger.transaction():
            for channel, state in seen.items():
                self._ledger.put_channel(channel, state)
            self._ledger.remember("scanned", str(end))
            self._ledger.remember("chain_time", str(int(block["timestamp"], 16)))
        self._book.chain_time = int(block["timestamp"], 16)
        for channel in seen:
            self._changed(channel)

    async def _duties(self) -> None:
        for channel in self._ledger.channels_in("closing"):
            await self._attempt(channel, self._answer_or_settle)
        for channel in self._ledger.channels_in("open"):
            side = self._ledger.side(channel)
            if side.final_hub is not None and self._book.chain_time > side.final_time + FINAL_GRACE:
                await self._attempt(channel, self._close_together)

    async def _attempt(self, channel: str, duty: Any) -> None:
        try:
            await duty(channel)
        except NodeError as error:  # one stuck channel must not stop the others
            log.warning("%s: %s", channel, error)

    async def _answer_or_settle(self, channel: str) -> None:
        seen, voucher = self._book.view(channel), self._ledger.side(channel).sent
        raw = bytes.fromhex(channel[2:])
        if self._ledger.side(channel).final_hub is not None:
            await self._close_together(channel)
        elif self._book.chain_time >= seen.closes_at:
            await self._contract.send("settle(bytes32)", raw)
        elif voucher is not None and voucher.amount > seen.sent:
            order, signature = bytes.fromhex(voucher.order[2:]), bytes.fromhex(voucher.signature[2:])
            function = "answer(bytes32,address,uint64,uint256,bytes32,bytes)"
            block = await self._contract.send(
                function, raw, seen.signer, voucher.nonce, voucher.amount, order, signature
            )
            log.info("answered the close of %s with %d wei in block %d", channel, voucher.amount, block)

    async def _close_together(self, channel: str) -> None:
        side = self._ledger.side(channel)
        signatures = [bytes.fromhex((side.final_user or "")[2:]), bytes.fromhex((side.final_hub or "")[2:])]
        function = "closeTogether(bytes32,uint256,uint256,bytes,bytes)"
        amounts = int(side.final_sent or 0), int(side.final_received or 0)
        await self._contract.send(function, bytes.fromhex(channel[2:]), *amounts, *signatures)
