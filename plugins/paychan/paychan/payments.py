"""Paying: one voucher at a time, written before it is signed, sent until its outcome is known.

Order: route asked (nothing is at risk) → intention on disk → signature → hub → outcome on disk. Signatures are
deterministic and the intention fixes every signed byte, so a crash anywhere leads to the same voucher again, never to a
second one at the same nonce.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from l2proxy_sdk import ActionError

from .desk import Desk, entry, to_text
from .link import HubAway, HubRefused
from .record import Pending, Record
from .typed import order_of

KEPT = 5000  # payments back whose outcome can still be asked for by their idempotency key


class Payments:
    """Sends vouchers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def pay(self, to: str, value: int, origin: str, key: str | None) -> int:
        """Pay `value` wei; return the payment's nonce. Raises ActionError."""
        desk, to = self._desk, to.lower()
        mark = None if key is None else "key/" + sha256(f"{origin}\n{key}".encode()).hexdigest()
        await desk.settle()
        async with desk.turn:
            if mark is not None and (nonce := await self._paid_before(mark)) is not None:
                return nonce
            record = desk.agreed_record()
            await self._clear_way(record)
            self._check(to, value)
            await self._route(to, value)
            order = order_of(to, value)
            record.pending = Pending(record.sent_nonce + 1, record.sent_amount + value, to, value, order, mark)
            known: dict[str, str | bytes] = {} if mark is None else {mark: to_text({"nonce": record.pending.nonce})}
            await desk.save(known)
            return await self._finish(record, record.pending)

    async def settle_pending(self, record: Record) -> None:
        """Ask for the outcome of a payment that was cut off; a hub that still refuses it leaves it pending."""
        pending = record.pending
        if pending is None:
            return
        try:
            outcome = await self._send(record, pending)
        except HubRefused as refused:
            self._desk.plugin.log.warning("a payment is still pending", nonce=pending.nonce, reason=str(refused))
            return
        await self._write(record, pending, outcome)

    async def _finish(self, record: Record, pending: Pending) -> int:
        try:
            outcome = await self._send(record, pending)
        except (HubAway, HubRefused) as error:
            await self._desk.publish()
            message = f"payment {pending.nonce} is on its way, but the hub did not confirm it: {error}"
            raise ActionError(10, message, {"nonce": hex(pending.nonce)}) from None
        await self._write(record, pending, outcome)
        await self._desk.publish()
        if outcome["outcome"] != "paid":
            raise ActionError(11, f"the hub gave the payment back: {outcome['reason']}", spent=False)
        return pending.nonce

    async def _send(self, record: Record, pending: Pending) -> dict[str, Any]:
        desk = self._desk
        data = desk.typed.voucher(record.channel, record.signer, pending.nonce, pending.amount, pending.order)
        signature = await desk.plugin.keys.sign(record.signer_path, typed_data=data)
        voucher = {
            "nonce": pending.nonce,
            "amount": str(pending.amount),
            "order": pending.order,
            "signature": signature,
        }
        answer = await desk.link.request("pay", voucher | {"to": pending.to, "value": str(pending.value)})
        if not isinstance(answer, dict) or answer.get("outcome") not in ("paid", "refunded"):
            raise HubRefused("answer", "its answer is no outcome")
        return answer

    async def _write(self, record: Record, pending: Pending, outcome: dict[str, Any]) -> None:
        record.sent_nonce, record.sent_amount, record.pending = pending.nonce, pending.amount, None
        shown = entry("out", pending.nonce, pending.to, pending.value, outcome["outcome"])
        record.show(shown)
        put: dict[str, str | bytes] = {_payment(record, pending.nonce): to_text(shown | {"key": pending.key})}
        await self._desk.save(put, await self._forget(record, pending.nonce - KEPT))

    async def _forget(self, record: Record, nonce: int) -> list[str | bytes]:
        """Return what to delete of a payment long ago."""
        if nonce <= 0:
            return []
        text = await self._desk.plugin.store.get(_payment(record, nonce))
        key = None if text is None else json.loads(text).get("key")
        return [_payment(record, nonce), *([key] if key else [])]

    async def _paid_before(self, mark: str) -> int | None:
        """Return the nonce of a payment made under an idempotency key, finishing it where it was cut off."""
        text = await self._desk.plugin.store.get(mark)
        record = self._desk.record
        if text is None or record is None:
            return None
        nonce = int(json.loads(text)["nonce"])
        if record.pending is not None and record.pending.nonce == nonce:
            self._desk.agreed_record()
            return await self._finish(record, record.pending)
        paid = await self._desk.plugin.store.get(_payment(record, nonce))
        if paid is None or json.loads(paid)["outcome"] != "paid":
            raise ActionError(11, f"payment {nonce} was given back by the hub", spent=False)
        return nonce

    async def _clear_way(self, record: Record) -> None:
        if record.pending is None:
            return
        nonce = record.pending.nonce
        try:
            await self.settle_pending(record)
        except HubAway as away:
            raise ActionError(10, f"payment {nonce} is still on its way: {away}", spent=False) from None
        if record.pending is not None:
            raise ActionError(10, f"payment {nonce} is still on its way; `close` ends it", spent=False)

    def _check(self, to: str, value: int) -> None:
        balance = self._desk.spendable()
        if value <= 0:
            raise ActionError(12, "a payment is at least 1 wei", spent=False)
        if to == self._desk.owner:
            raise ActionError(12, "payer and payee are the same", spent=False)
        if value > balance:
            raise ActionError(13, f"{value} wei is more than the {balance} wei in the channel", spent=False)

    async def _route(self, to: str, value: int) -> None:
        try:
            await self._desk.link.request("route", {"to": to, "value": str(value)})
        except HubRefused as refused:
            raise ActionError(
                14, f"the hub cannot pay {to}: {refused}", {"reason": refused.code}, spent=False
            ) from None
        except HubAway as away:
            raise ActionError(4, str(away), spent=False) from None


def _payment(record: Record, nonce: int) -> str:
    return f"payment/{record.channel}/{nonce:012}"
