"""After every start and every reconnection: learn the newest state from L1 and hub before anything is signed.

The hub may be ahead of us (our store was rolled back): then it must show our own signature, and we adopt it. It may claim
what it cannot show, or have lost what it had confirmed: then the channel is frozen and only closing is left. A payment
whose outcome we never learnt is asked for again with the very same voucher.
"""

from __future__ import annotations

from typing import Any

from .credits import BadCredit, Credits
from .desk import Desk
from .link import HubRefused
from .payments import Payments
from .record import Record


class Resync:
    """The conversation that begins a connection."""

    def __init__(self, desk: Desk, paid: Credits, payments: Payments) -> None:
        self._desk = desk
        self._credits = paid
        self._payments = payments
        self._queued = False

    async def run(self) -> None:
        """Agree with the hub on the newest state. Raises HubAway, HostError."""
        desk = self._desk
        if self._queued:
            return  # one waits for its turn already and will see everything newer
        self._queued = True
        async with desk.turn:
            self._queued = False
            await desk.refresh()
            try:
                await self._greet()
            except HubRefused as refused:
                desk.plugin.log.info("the hub does not synchronise yet", reason=str(refused))
            await desk.publish()

    async def adopt(self, record: Record, sync: dict[str, Any]) -> None:
        """Compare the hub's view with ours; freeze, adopt or agree."""
        desk = self._desk
        if sync.get("channel") != record.channel:
            desk.synced = False
            desk.plugin.log.info("the hub has not seen the newest channel yet; it says so when it has")
            return
        desk.frozen = await self._compare(record, sync.get("sent"))
        if desk.frozen is not None:
            desk.synced = False
            desk.plugin.log.error("the channel is frozen", reason=desk.frozen)
            return
        while await self._take_credits(record, sync):
            sync = await desk.link.request("sync", {})
        await self._drop_expired(record, int(sync["authorised"]["total"]))
        desk.synced = True

    async def _drop_expired(self, record: Record, authorised: int) -> None:
        """Forget a consent that expired by the confirmed chain's clock: the hub counts the money as ours again."""
        given = record.authorised
        if given is None or authorised >= given.total:
            return
        record.authorised = None
        async with self._credits.turn:
            await self._desk.save({} if given.idle else await self._credits.taking(given.sender, -given.amount))

    async def _greet(self) -> None:
        desk = self._desk
        record = desk.record
        session = record.session if record else None
        hello = await desk.link.request("hello", {"owner": desk.owner, "session": session})
        wrong = self._stranger(hello)
        if wrong is not None:
            desk.frozen = wrong
            desk.plugin.log.error(wrong)
            return
        if not desk.plugin.is_ready:
            await desk.plugin.ready()  # L1 and hub have been asked; what they disagree about is settled below
        if record is None or desk.chain is None or desk.chain.status == "closed":
            return
        sync = hello.get("sync")
        if sync is None:
            sync = await self._login(record, str(hello["challenge"]))
        await self.adopt(record, sync)
        if desk.synced and record.pending is not None:
            await self._payments.settle_pending(record)

    def _stranger(self, hello: dict[str, Any]) -> str | None:
        desk = self._desk
        told = {"chainId": hello.get("chainId"), "gateway": hello.get("gateway"), "hub": hello.get("hub")}
        mine = {"chainId": hex(desk.plugin.layer1_network_id), "gateway": desk.gateway, "hub": desk.hub}
        for name, value in mine.items():
            if str(told[name]).lower() != value:
                return f"this hub serves another {name}: {told[name]!r}, not {value}"
        return None

    async def _login(self, record: Record, challenge: str) -> dict[str, Any]:
        desk = self._desk
        data = desk.typed.login(desk.owner, challenge)
        signature = await desk.plugin.keys.sign(record.signer_path, typed_data=data)
        answer = await desk.link.request("login", {"signature": signature})
        record.session = str(answer["session"])
        await desk.save()
        sync: dict[str, Any] = answer["sync"]
        return sync

    async def _compare(self, record: Record, row: dict[str, Any] | None) -> str | None:
        """Return why the channel must freeze, or None."""
        nonce, amount = (int(row["nonce"]), int(row["amount"])) if row else (0, 0)
        if nonce < record.sent_nonce:
            return f"the hub has lost payments it had confirmed (it knows {nonce} of {record.sent_nonce})"
        if nonce == record.sent_nonce:
            return None if amount == record.sent_amount else f"the hub shows another payment {nonce} than ours"
        pending = record.pending
        if pending is not None and (nonce, amount) == (pending.nonce, pending.amount):
            return None  # its outcome is asked for next
        if row is None or not await self._is_ours(record, row):
            return f"the hub claims payment {nonce}, but shows no signature of ours"
        self._desk.plugin.log.warning("the store was older than the hub", stored=record.sent_nonce, signed=nonce)
        record.sent_nonce, record.sent_amount, record.pending = nonce, amount, None
        await self._desk.save()
        return None

    async def _is_ours(self, record: Record, row: dict[str, Any]) -> bool:
        nonce, amount, order = int(row["nonce"]), int(row["amount"]), str(row["order"])
        if amount < record.sent_amount:
            return False
        data = self._desk.typed.voucher(record.channel, record.signer, nonce, amount, order)
        return await self._desk.verified(data, str(row["signature"]), record.signer)

    async def _take_credits(self, record: Record, sync: dict[str, Any]) -> bool:
        """Count what the hub shows; return whether it has more that did not fit into one message."""
        shown = sync.get("credits") or []
        newest = sync.get("received")
        more = False
        try:
            for credit in shown:
                if int(credit["nonce"]) == record.received_nonce + 1:
                    await self._credits.take(credit)
                    more = True
            more = more and newest is not None and int(newest["nonce"]) > record.received_nonce
            if newest is not None and not more:
                await self._credits.take_newest(newest)
        except BadCredit as bad:
            more = False
            self._desk.plugin.log.warning("a payment of the hub was not counted", reason=str(bad))
        if record.received_nonce:
            await self._credits.confirm()
        return more
