"""The hub's rules: who can pay whom, what a voucher is worth, when money may go out, when a channel may end.

Stands between the server (messages) and the ledger (disk). Every public method decides and writes in one go without
awaiting, so two requests can never see one balance; what it returns may be sent, because it is on disk. It must never give
a voucher that the channel's collateral does not cover, and never refuse the outcome of a voucher it took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .contract import OnChain
from .digests import Domain, Key, order_of, recover
from .ledger import Ledger, Side, Voucher

ROUTE_SECONDS = 60.0
FINISH_SECONDS = 120.0
CREDITS_AT_ONCE = 200


class Refused(Exception):
    """A request that cannot be served; the message is for the user, the code for its plugin."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Route:
    """Room kept in a payee's channel for one payment that is about to come."""

    payee: str
    value: int
    until: float


@dataclass(frozen=True)
class Outcome:
    """What became of a voucher, and the credit to push where it made one."""

    answer: dict[str, Any]
    credited: str | None = None


class Book:
    """All channels of one hub."""

    def __init__(self, ledger: Ledger, domain: Domain, key: Key, withdraw_seconds: int = 3600) -> None:
        self._ledger = ledger
        self._domain = domain
        self._key = key
        self._withdraw_seconds = withdraw_seconds
        self._routes: dict[str, Route] = {}
        self._finishing: dict[str, float] = {}
        self.chain_time = 0  # timestamp of the newest confirmed block

    def channel_of(self, owner: str) -> str | None:
        """Return the owner's channel that is not closed."""
        found = self._ledger.channels_of(owner)
        return found[-1] if found else None

    def view(self, channel: str) -> OnChain:
        """Return a channel as L1 shows it. Raises Refused."""
        seen = self._ledger.channel(channel)
        if seen is None:
            raise Refused("unknown", "the hub does not know this channel yet")
        return seen

    def available(self, channel: str) -> int:
        """Return what the user can still spend, in wei."""
        seen, side = self.view(channel), self._ledger.side(channel)
        return seen.user_in + side.received_amount - side.sent_amount - max(seen.user_out, self._authorised(side))

    def room(self, channel: str) -> int:
        """Return what the user can still be paid out of the hub's part of the channel, in wei."""
        seen, side = self.view(channel), self._ledger.side(channel)
        now = time.monotonic()
        kept = sum(route.value for route in self._routes.values() if route.payee == channel and route.until > now)
        return seen.hub_in + side.sent_amount - side.received_amount - kept

    def payee(self, channel: str, to: str, value: int) -> str:
        """Check a payment before anything is signed; return the payee's channel. Raises Refused."""
        self._must_be_open(channel)
        if value <= 0:
            raise Refused("value", "a payment is at least 1 wei")
        available = self.available(channel)
        if value > available:
            raise Refused("balance", f"{value} wei is more than the {available} wei in the channel")
        payee = self.channel_of(to)
        if payee is None:
            raise Refused("payee", f"{to} has no channel at this hub; it opens one with a deposit, of zero if need be")
        if payee == channel:
            raise Refused("payee", "payer and payee are the same")
        self._must_be_open(payee)
        return payee

    def keep_route(self, channel: str, payee: str, value: int) -> None:
        """Keep room for a payment. Raises Refused where there is too little."""
        self._routes.pop(channel, None)  # a payer has one payment on its way at a time
        if self.room(payee) < value:
            raise Refused("collateral", "the hub has too little collateral in the payee's channel")
        self._routes[channel] = Route(payee, value, time.monotonic() + ROUTE_SECONDS)

    def pay(self, channel: str, voucher: Voucher, to: str, value: int) -> Outcome:
        """Take a voucher: the payee is credited, or the payer refunded. The same voucher again: the same outcome."""
        side = self._ledger.side(channel)
        if voucher.nonce <= side.sent_nonce:
            return self._paid_before(channel, voucher, to, value)
        self._must_be_open(channel)
        self._check(channel, side, voucher, to, value)
        route = self._routes.pop(channel, None)
        if route is not None and route.value != value:
            route = None
        with self._ledger.transaction():
            order, signature = voucher.order, voucher.signature
            changes = {"sent_nonce": voucher.nonce, "sent_amount": voucher.amount}
            self._ledger.change(side, **changes, sent_order=order, sent_signature=signature)
            payer = self.view(channel).owner
            try:
                payee = self._payee_now(to, value)
            except Refused as refused:
                self._ledger.put_payment(channel, voucher, to, value, "refunded", str(refused))
                self._credit(channel, payer, value, "refund")
                payee, reason, outcome = channel, str(refused), "refunded"
            else:
                self._ledger.put_payment(channel, voucher, to, value, "paid", "")
                self._credit(payee, payer, value, "payment")
                reason, outcome = "", "paid"
        return Outcome({"nonce": voucher.nonce, "outcome": outcome, "reason": reason}, payee)

    def confirm(self, channel: str, nonce: int) -> None:
        """The user has these credits on its own disk."""
        side = self._ledger.side(channel)
        if side.credited_nonce < nonce <= side.received_nonce:
            with self._ledger.transaction():
                self._ledger.change(side, credited_nonce=nonce)

    def withdraw(self, channel: str, total: int) -> dict[str, Any]:
        """Consent to take money out: `total` wei ever since the channel opened. Raises Refused."""
        self._must_be_open(channel)
        seen, side = self.view(channel), self._ledger.side(channel)
        active = self._authorised(side)
        again = total == active and side.deadline - self.chain_time > self._withdraw_seconds // 2
        if again and side.authorised_signature is not None:
            return {"total": str(total), "deadline": side.deadline, "signature": side.authorised_signature}
        already = max(seen.user_out, active)
        if total < already or total <= seen.user_out:
            raise Refused("value", f"{total} wei in all is no more than the {already} wei already taken out")
        if total - already > self.available(channel):
            raise Refused("balance", f"{total - already} wei is more than the {self.available(channel)} wei there are")
        deadline = self.chain_time + self._withdraw_seconds
        digest = self._domain.withdrawal(bytes.fromhex(channel[2:]), total, deadline)
        signature = "0x" + self._key.sign(digest).hex()
        with self._ledger.transaction():
            self._ledger.change(side, authorised=total, deadline=deadline, authorised_signature=signature)
        return {"total": str(total), "deadline": deadline, "signature": signature}

    def finish(self, channel: str) -> dict[str, Any]:
        """Stop payments for a while, so that both sides can agree on the last word."""
        if self._ledger.side(channel).final_hub is None:
            self._must_be_open(channel, finishing=True)
            self._finishing[channel] = time.monotonic() + FINISH_SECONDS
        return self.sync(channel)

    def close(self, channel: str, sent: int, received: int, signature: str) -> dict[str, Any]:
        """Countersign a final state that equals the hub's own. Raises Refused."""
        seen, side = self.view(channel), self._ledger.side(channel)
        if (sent, received) != (side.sent_amount, side.received_amount):
            raise Refused("stale", "the final state is not the hub's newest; read it with `finish`")
        if side.final_hub is not None:
            return {"signature": side.final_hub}
        if seen.status == "closed":
            raise Refused("closed", "the channel is closed")
        digest = self._domain.final(bytes.fromhex(channel[2:]), sent, received)
        if recover(digest, _bytes(signature, 65)) != seen.signer:
            raise Refused("signature", "the channel's key did not sign this close")
        hub = "0x" + self._key.sign(digest).hex()
        final = {"final_sent": str(sent), "final_received": str(received), "final_user": signature, "final_hub": hub}
        with self._ledger.transaction():
            self._ledger.change(side, **final, final_time=self.chain_time)
        return {"signature": hub}

    def sync(self, channel: str) -> dict[str, Any]:
        """Return everything the user has to know to go on: both newest vouchers and the credits it has not confirmed."""
        seen, side = self.view(channel), self._ledger.side(channel)
        rows = self._ledger.credits_after(channel, side.credited_nonce, CREDITS_AT_ONCE)
        return {
            "channel": channel,
            "status": seen.status,
            "userIn": str(seen.user_in),
            "sent": side.sent.to_json() if side.sent else None,
            "received": side.received.to_json() if side.received else None,
            "authorised": {"total": str(self._authorised(side)), "deadline": side.deadline},
            "final": None if side.final_hub is None else {"sent": side.final_sent, "received": side.final_received},
            "credits": [credit_json(row) for row in rows],
        }

    def newest_credit(self, channel: str) -> dict[str, Any] | None:
        """Return the newest credit of a channel, as it is pushed."""
        rows = self._ledger.credits_after(channel, self._ledger.side(channel).received_nonce - 1, 1)
        return credit_json(rows[0]) if rows else None

    def _payee_now(self, to: str, value: int) -> str:
        payee = self.channel_of(to)
        if payee is None:
            raise Refused("payee", f"{to} has no open channel any more")
        self._must_be_open(payee)
        if self.room(payee) < value:
            raise Refused("collateral", "the payee's channel has too little collateral")
        return payee

    def _credit(self, channel: str, sender: str, value: int, kind: str) -> None:
        side = self._ledger.side(channel)
        nonce, amount = side.received_nonce + 1, side.received_amount + value
        order = order_of(sender, value)
        digest = self._domain.voucher(bytes.fromhex(channel[2:]), self._key.address, nonce, amount, order)
        voucher = Voucher(nonce, amount, "0x" + order.hex(), "0x" + self._key.sign(digest).hex())
        self._ledger.put_credit(channel, voucher, sender, value, kind)
        changes = {"received_nonce": nonce, "received_amount": amount}
        self._ledger.change(side, **changes, received_order=voucher.order, received_signature=voucher.signature)

    def _check(self, channel: str, side: Side, voucher: Voucher, to: str, value: int) -> None:
        if voucher.nonce != side.sent_nonce + 1:
            raise Refused("nonce", f"the next payment has nonce {side.sent_nonce + 1}, not {voucher.nonce}")
        if value <= 0 or voucher.amount != side.sent_amount + value:
            raise Refused("amount", f"the voucher must promise {side.sent_amount + value} wei in all")
        self._must_be_signed(channel, voucher, to, value)
        available = self.available(channel)
        if value > available:
            raise Refused("balance", f"{value} wei is more than the {available} wei in the channel")

    def _must_be_signed(self, channel: str, voucher: Voucher, to: str, value: int) -> None:
        order = order_of(to, value)
        if voucher.order != "0x" + order.hex():
            raise Refused("order", "the voucher was signed for another payment")
        signer = self.view(channel).signer
        digest = self._domain.voucher(bytes.fromhex(channel[2:]), signer, voucher.nonce, voucher.amount, order)
        if recover(digest, _bytes(voucher.signature, 65)) != signer:
            raise Refused("signature", "the channel's key did not sign this voucher")

    def _paid_before(self, channel: str, voucher: Voucher, to: str, value: int) -> Outcome:
        known = self._ledger.payment(channel, voucher.nonce)
        same = known is not None and (known["amount"], known["recipient"]) == (str(voucher.amount), to)
        if known is not None and same and known["value"] == str(value):
            return Outcome({"nonce": voucher.nonce, "outcome": known["outcome"], "reason": known["reason"]})
        self._must_be_signed(channel, voucher, to, value)
        with self._ledger.transaction():
            self._ledger.keep_evidence(channel, voucher)
        raise Refused("nonce", f"nonce {voucher.nonce} was used for another payment; both vouchers are kept")

    def _must_be_open(self, channel: str, finishing: bool = False) -> None:
        seen = self.view(channel)
        if seen.status != "open":
            raise Refused(seen.status, f"the channel of {seen.owner} is {seen.status}")
        final = self._ledger.side(channel).final_hub is not None
        if final or (not finishing and self._finishing.get(channel, 0.0) > time.monotonic()):
            raise Refused("closing", f"the channel of {seen.owner} is about to close")

    def _authorised(self, side: Side) -> int:
        """Return what may be taken out by the newest consent; void once the confirmed chain is past its deadline."""
        return side.authorised if self.chain_time <= side.deadline else 0


def credit_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a credit as it travels."""
    return {
        "channel": row["channel"],
        "nonce": row["nonce"],
        "amount": row["amount"],
        "order": row["order"],
        "signature": row["signature"],
        "from": row["sender"],
        "value": row["value"],
        "kind": row["kind"],
    }


def _bytes(data: str, size: int) -> bytes:
    try:
        raw = bytes.fromhex(data.removeprefix("0x"))
    except ValueError:
        raise Refused("signature", "a signature is 0x data") from None
    if len(raw) != size:
        raise Refused("signature", f"a signature has {size} bytes")
    return raw
