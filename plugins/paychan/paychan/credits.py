"""Being paid: the hub's vouchers for us, checked one by one and on disk before they are confirmed.

It must never count a promise that the hub's part of the channel does not cover, nor one that is no higher than the last.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from .desk import Desk, entry, to_text
from .record import Received, Record
from .typed import order_of

UNKNOWN = "0x" + "00" * 20


class BadCredit(ValueError):
    """A message that is no payment; it says why."""


class Gap(BadCredit):
    """Payments before this one have not arrived here."""


class Credits:
    """Takes vouchers of the hub."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.turn = asyncio.Lock()  # totals are read and written back

    async def take(self, message: dict[str, Any]) -> bool:
        """Count a credit; return whether it was new. Raises BadCredit."""
        async with self.turn:
            return await self._take(message)

    async def _take(self, message: dict[str, Any]) -> bool:
        record, voucher, sender, value = self._read(message)
        if voucher.nonce <= record.received_nonce:
            return False
        if voucher.nonce != record.received_nonce + 1:
            raise Gap(f"payments {record.received_nonce + 1} to {voucher.nonce - 1} are missing")
        if voucher.amount != record.received_amount + value:
            raise BadCredit("the amount does not follow from the last one")
        await self._check(record, voucher)
        kind = str(message.get("kind", "payment"))
        total = {} if kind == "refund" else await self._from(sender, value)
        record.received = voucher
        record.show(entry("in", voucher.nonce, sender, value, kind))
        await self._desk.save(total)
        return True

    async def take_newest(self, row: dict[str, Any]) -> None:
        """Count the hub's newest voucher without knowing who paid: our store is older than what we confirmed."""
        async with self.turn:
            record, voucher = self._record(), _voucher(row)
            if voucher.nonce <= record.received_nonce or voucher.amount <= record.received_amount:
                return
            await self._check(record, voucher)
            gained = voucher.amount - record.received_amount
            total = await self._from(UNKNOWN, gained)
            record.received = voucher
            record.show(entry("in", voucher.nonce, UNKNOWN, gained, "recovered"))
            await self._desk.save(total)

    async def confirm(self) -> None:
        """Tell the hub which credits are on disk here."""
        record = self._record()
        await self._desk.link.tell("credited", {"nonce": record.received_nonce})

    async def total(self, sender: str) -> dict[str, int]:
        """Return what a sender paid us in this channel and what of it was taken out, in wei."""
        text = await self._desk.plugin.store.get(self._key(sender))
        found: dict[str, int] = {"received": 0, "taken": 0} if text is None else json.loads(text)
        return found

    async def taking(self, sender: str, amount: int) -> dict[str, str | bytes]:
        """Return the write by which `amount` more (or less) counts as taken out; the caller holds `turn`."""
        total = await self.total(sender)
        return {self._key(sender): to_text(total | {"taken": max(0, total["taken"] + amount)})}

    async def _from(self, sender: str, value: int) -> dict[str, str | bytes]:
        total = await self.total(sender)
        return {self._key(sender): to_text(total | {"received": total["received"] + value})}

    async def _check(self, record: Record, voucher: Received) -> None:
        desk = self._desk
        data = desk.typed.voucher(record.channel, desk.hub, voucher.nonce, voucher.amount, voucher.order)
        if voucher.amount <= record.received_amount:
            raise BadCredit("the amount is no higher than the last one")
        if not await desk.verified(data, voucher.signature, desk.hub):
            raise BadCredit("the hub did not sign it")
        if desk.chain is None or not record.covered(voucher.amount, desk.chain.hub_in):
            await desk.refresh()  # collateral may have come a moment ago
        if desk.chain is None or not record.covered(voucher.amount, desk.chain.hub_in):
            raise BadCredit("the hub's part of the channel does not cover it")

    def _read(self, message: dict[str, Any]) -> tuple[Record, Received, str, int]:
        record = self._record()
        if message.get("channel") != record.channel:
            raise BadCredit("it is for another channel")
        voucher, sender = _voucher(message), str(message.get("from")).lower()
        try:
            value = int(message["value"])
            order = order_of(sender, value)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BadCredit("it names no sender or value") from None
        if order != voucher.order:
            raise BadCredit("it was signed for another payment")
        return record, voucher, sender, value

    def _record(self) -> Record:
        if self._desk.record is None:
            raise BadCredit("there is no channel")
        return self._desk.record

    def _key(self, sender: str) -> str:
        return f"from/{self._record().channel}/{sender.lower()}"


def _voucher(row: dict[str, Any]) -> Received:
    try:
        voucher = Received(int(row["nonce"]), int(row["amount"]), str(row["order"]), str(row["signature"]))
    except (KeyError, TypeError, ValueError):
        raise BadCredit("it is not a voucher") from None
    if not 0 < voucher.nonce < 2**63 or not 0 < voucher.amount < 2**128:
        raise BadCredit("its numbers are out of range")
    return voucher
