"""Ways out: taking money out of an open channel, closing with the hub or without it, answering, settling.

Every transaction goes through the owner's `withdraw`, with value zero. A close that the hub began or that is stale is
answered with the best voucher the hub ever gave us; deadlines are the chain's, not this machine's.
"""

from __future__ import annotations

from dataclasses import dataclass

from l2proxy_sdk import ActionError, HostError, Operation

from .credits import Credits
from .desk import Desk
from .link import HubAway, HubRefused
from .record import Authorised, Final, Received, Record
from .resync import Resync

NO_ORDER = "0x" + "00" * 32
ANSWER = "answer(bytes32,address,uint64,uint256,bytes32,bytes)"
START = "startClose(bytes32,address,uint64,uint256,bytes32,bytes)"
TOGETHER = "closeTogether(bytes32,uint256,uint256,bytes,bytes)"
WITHDRAW = "withdraw(bytes32,uint256,uint256,bytes)"
SETTLE_TIMER = "settle"
SETTLE_SLACK = 15  # seconds after the window, so that a block with a later timestamp exists


@dataclass(frozen=True)
class WayOut:
    """The operation that takes money out; `agreed` is False for a close without the hub."""

    operation: str
    amount: int = 0
    agreed: bool = True


class Exits:
    """Takes money back to the main account."""

    def __init__(self, desk: Desk, paid: Credits, resync: Resync) -> None:
        self._desk = desk
        self._credits = paid
        self._resync = resync

    async def withdraw(self, sender: str) -> WayOut:
        """Take out what `sender` paid us (the owner itself: everything). Raises ActionError."""
        desk = self._desk
        await desk.settle()
        async with desk.turn:
            record = desk.agreed_record()
            await desk.refresh()
            given = record.authorised
            if given is not None and not given.idle:
                raise ActionError(20, f"a withdrawal is on its way: operation {given.operation}")
            out = desk.chain.user_out if desk.chain else 0
            idle = 0 if given is None else given.total - out  # consented to before, and not executed
            amount = await self._amount(sender, desk.spendable() + idle)
            consent = await self._consent(record, max(out + amount, out + idle))
            consent.sender, consent.amount = sender, consent.total - out
            record.authorised = consent
            await self._save_taking(sender, consent.amount)
            return await self._propose_withdrawal(record, consent)

    async def close(self) -> WayOut:
        """Close the channel: with the hub where it agrees, else alone. Raises ActionError."""
        desk = self._desk
        await desk.settle()
        async with desk.turn:
            await desk.refresh()
            record, chain = desk.record, desk.chain
            if record is None or chain is None or chain.status == "closed":
                raise ActionError(1, "there is no open channel")
            if chain.status == "closing":
                return await self._after_window(record)
            final = record.final
            if final is None or final.hub_signature is None:
                final = await self._agree(record)
            way = await self._start(record) if final is None else await self._together(record, final)
            await desk.publish()
            return way

    async def chain_moved(self) -> None:
        """L1 changed: answer a close that does not show our best voucher, and see to it that it is settled."""
        desk = self._desk
        record, chain = desk.record, desk.chain
        if record is None or chain is None or chain.status != "closing":
            return
        best = record.received
        if best is not None and best.amount > chain.received and record.answered < best.amount:
            record.answered = best.amount
            await desk.save()
            await self._answer(record, best)
        try:
            await desk.plugin.schedule(SETTLE_TIMER, time=chain.closes_at + SETTLE_SLACK)
        except HostError as error:
            desk.plugin.log.warning("no timer for the end of the window; call `close` then", reason=str(error))

    async def window_over(self) -> None:
        """The timer fired: settle, or wait on where the chain's clock is behind."""
        desk = self._desk
        async with desk.turn:
            await desk.refresh()
            record, chain = desk.record, desk.chain
            if record is None or chain is None or chain.status != "closing":
                return
            behind = chain.closes_at - await desk.contract.chain_time()
            if behind > 0:
                await desk.plugin.schedule(SETTLE_TIMER, time=chain.closes_at + behind + SETTLE_SLACK)
                return
            await self._withdraw("settle(bytes32)", record.channel)

    async def operation(self, operation: Operation) -> None:
        """An operation of ours ended: what was refused may be proposed again."""
        record = self._desk.record
        if record is None or not operation.settled:
            return
        given = record.authorised
        if given is not None and given.operation == operation.id and operation.status != "done":
            given.idle = True
            await self._save_taking(given.sender, -given.amount)

    async def _save_taking(self, sender: str, amount: int) -> None:
        async with self._credits.turn:
            await self._desk.save(await self._credits.taking(sender, amount))

    async def _amount(self, sender: str, most: int) -> int:
        if sender == self._desk.owner:
            amount = most
        else:
            total = await self._credits.total(sender)
            amount = min(most, total["received"] - total["taken"])
        if amount <= 0:
            raise ActionError(21, f"nothing that {sender} paid is left in the channel")
        return amount

    async def _consent(self, record: Record, total: int) -> Authorised:
        desk = self._desk
        try:
            answer = await desk.link.request("withdraw", {"total": str(total)})
            deadline, signature = int(answer["deadline"]), str(answer["signature"])
        except (HubAway, HubRefused) as error:
            raise ActionError(22, f"the hub does not consent: {error}; `close` needs no consent") from None
        if not await desk.verified(desk.typed.withdrawal(record.channel, total, deadline), signature, desk.hub):
            raise ActionError(22, "the hub's consent is not signed by it; `close` needs no consent")
        return Authorised(total, deadline, signature, "", 0)

    async def _propose_withdrawal(self, record: Record, given: Authorised) -> WayOut:
        try:
            operation = await self._withdraw(WITHDRAW, record.channel, given.total, given.deadline, given.signature)
        except HostError:
            given.idle = True
            await self._save_taking(given.sender, -given.amount)
            raise
        given.operation = operation.id
        await self._desk.save()
        await self._desk.publish()
        return WayOut(operation.id, given.amount)

    async def _agree(self, record: Record) -> Final | None:
        """Agree with the hub on the last word; None where it is away or disagrees."""
        desk = self._desk
        if not (desk.link.connected and desk.synced):
            return None
        try:
            sync = await desk.link.request("finish", {})
            await self._resync.adopt(record, sync)
            if desk.frozen is not None:
                return None
            return await self._sign_final(record, sync)
        except (HubAway, HubRefused) as error:
            desk.plugin.log.warning("the hub does not agree to close", reason=str(error))
            return None

    async def _sign_final(self, record: Record, sync: dict[str, object]) -> Final | None:
        desk = self._desk
        row = sync.get("sent")
        sent = int(row["amount"]) if isinstance(row, dict) else 0
        final = record.final or Final(sent, record.received_amount)
        if (final.sent, final.received) != (sent, record.received_amount):
            return None
        record.final = final
        await desk.save()  # from here on nothing is paid any more
        data = desk.typed.final(record.channel, final.sent, final.received)
        final.user_signature = await desk.plugin.keys.sign(record.signer_path, typed_data=data)
        amounts = {"sent": str(final.sent), "received": str(final.received)}
        answer = await desk.link.request("close", amounts | {"signature": final.user_signature})
        if not await desk.verified(data, str(answer.get("signature")), desk.hub):
            raise HubRefused("signature", "it did not sign the agreed state")
        final.hub_signature = str(answer["signature"])
        await desk.save()
        return final

    async def _together(self, record: Record, final: Final) -> WayOut:
        signatures = (final.user_signature, final.hub_signature)
        operation = await self._withdraw(TOGETHER, record.channel, final.sent, final.received, *signatures)
        final.operation = operation.id
        await self._desk.save()
        return WayOut(operation.id)

    async def _start(self, record: Record) -> WayOut:
        best = record.received or Received(0, 0, NO_ORDER, "0x")
        args = (record.channel, self._desk.hub, best.nonce, best.amount, best.order, best.signature)
        operation = await self._withdraw(START, *args)
        record.closing_operation = operation.id
        await self._desk.save()
        return WayOut(operation.id, agreed=False)

    async def _after_window(self, record: Record) -> WayOut:
        ends = self._desk.chain.closes_at if self._desk.chain else 0
        now = await self._desk.contract.chain_time()
        if now < ends:
            raise ActionError(2, f"the channel is closing; it can be settled in {ends - now} s")
        operation = await self._withdraw("settle(bytes32)", record.channel)
        return WayOut(operation.id, agreed=False)

    async def _answer(self, record: Record, best: Received) -> None:
        desk = self._desk
        args = (record.channel, desk.hub, best.nonce, best.amount, best.order, best.signature)
        try:
            await desk.plugin.gateway.send(function=ANSWER, args=args)
        except HostError as error:
            desk.plugin.log.warning("own key cannot answer a close; the owner is asked", reason=str(error))
            await self._withdraw(ANSWER, *args)

    async def _withdraw(self, function: str, *args: object) -> Operation:
        return await self._desk.plugin.gateway.withdraw(function=function, args=args)
