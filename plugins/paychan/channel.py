"""A payment channel between the owner and a hub: deposit, pay, be paid, take out, close.

The plugin's entry: turns actions and deliveries into the parts of `paychan/`. It must never await the hub's answer inside
a delivery (the answer would be the next delivery), and never sign before hub and L1 have been read (hardening.md 24).
README.md tells the protocol and what is trusted for how long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from l2proxy_sdk import ActionError, Address, Bool, Call, Operation, Plugin, StartInfo, String, Uint64, Uint256, action
from paychan.credits import BadCredit, Credits, Gap
from paychan.desk import Desk
from paychan.exits import SETTLE_TIMER, Exits
from paychan.link import HubAway
from paychan.payments import Payments
from paychan.resync import Resync

WATCH = "channel"


class Paid(TypedDict):
    """What `makePayment` returns: the payment's number and what is left, in wei."""

    nonce: Uint64
    balance: Uint256


class Started(TypedDict):
    """The operation to follow with l2_getOperations."""

    operation: String


class Withdrawn(TypedDict):
    """The operation, and what it takes out in wei."""

    operation: String
    amount: Uint256


class Closed(TypedDict):
    """The operation; `agreed` is false where the hub did not sign and the challenge window has to pass."""

    operation: String
    agreed: Bool


class PaymentChannel(Plugin):
    """One owner's channel with the hub of the gateway."""

    async def start(self, info: StartInfo) -> None:
        """Load, read L1, watch it; the hub is asked when it connects."""
        self._desk = Desk(self)
        self._credits = Credits(self._desk)
        self._payments = Payments(self._desk)
        self._resync = Resync(self._desk, self._credits, self._payments)
        self._exits = Exits(self._desk, self._credits, self._resync)
        await self._desk.load()
        if info.restored is not False:
            self.log.warning(
                "the store may be older than what was signed; hub and L1 are asked", restored=info.restored
            )
        owner = "0x" + self._desk.owner[2:].rjust(64, "0")
        logs = {"address": self._desk.gateway, "topics": [None, owner]}
        await self.layer1.watch(WATCH, logs=logs, from_block=info.gateways["main"].since)
        self._desk.spawn(self._look(), "L1 cannot be read")
        self._desk.spawn(self._take_over(), "the hub could not be asked")

    async def stop(self) -> None:
        """End what runs in the background; everything that matters is on disk."""
        await self._desk.stop()

    @action(spends=("value", "ETH"), approval="policy")
    async def deposit(self, value: Uint256) -> Started:
        """Pay into the channel, opening it where there is none; zero opens one that can only receive."""
        desk = self._desk
        if desk.closing():
            raise ActionError(2, "the channel is closing; deposit again when it is closed", spent=False)
        account = desk.account or await self.keys.account(0)
        operation = await self.gateway.deposit(function="open(address)", args=[account.address], value=value)
        return {"operation": operation.id}

    @action(spends=("value", "ETH"), approval="policy", idempotent=True)
    async def makePayment(self, toAddress: Address, value: Uint256, call: Call) -> Paid:
        """Pay someone who has a channel at the same hub."""
        nonce = await self._payments.pay(toAddress, value, call.origin, call.idempotency_key)
        return {"nonce": nonce, "balance": self._desk.spendable()}

    @action(approval="policy")
    async def requestWithdrawPayment(self, fromAddress: Address, latestMessage: String) -> Withdrawn:
        """Take what fromAddress paid out of the channel to the main account; the owner's own address takes everything.

        `latestMessage` is a payment message of the hub in JSON that may not have arrived here yet, or "".
        """
        if latestMessage:
            await self._hand_in(latestMessage)
        way = await self._exits.withdraw(fromAddress.lower())
        return {"operation": way.operation, "amount": way.amount}

    @action(approval="policy")
    async def close(self) -> Closed:
        """Close the channel and pay everything out: at once where the hub agrees, else after the challenge window."""
        way = await self._exits.close()
        return {"operation": way.operation, "agreed": way.agreed}

    async def get_layer2_state(self, path: str | None, origin: str) -> Any:
        """Read L1 again and return the state."""
        try:
            await self._desk.refresh()
        except LookupError as error:
            self.log.warning(str(error))
        await self._desk.publish()
        return self.state.published

    async def on_hub_open(self) -> None:
        """Agree with the hub in the background: its answers are the next deliveries."""
        self._desk.link.connected = True
        self._desk.spawn(self._resync.run(), "the hub could not be synchronised")

    async def on_hub_close(self, code: int | None, reason: str | None) -> None:
        """Nothing is agreed until it is back."""
        self._desk.synced = False
        self._desk.link.closed()
        await self._desk.publish()

    async def on_hub_message(self, message: str | bytes) -> None:
        """Answers go to who waits for them; credits are counted here, in order."""
        try:
            push = self._desk.link.receive(message if isinstance(message, str) else message.decode())
        except (ValueError, RecursionError):
            self.log.warning("the hub sent something that is no message")
            return
        if push is None:
            return
        method, params = push
        if method == "credit":
            await self._credit(params)
        elif method == "channel":
            self._desk.spawn(self._look(), "L1 cannot be read")

    async def on_logs(self, watch: str, logs: Sequence[Mapping[str, Any]], removed: bool) -> None:
        """Something happened to the channel on L1: read it anew."""
        await self._look()

    async def on_operation(self, operation: Operation) -> None:
        """A deposit or a way out went on."""
        await self._exits.operation(operation)
        if operation.settled:
            await self._look()

    async def on_scheduled(self, id: str, data: Any, missed: bool) -> None:  # noqa: A002 - the wire's name
        """The challenge window is over."""
        if id == SETTLE_TIMER:
            self._desk.spawn(self._exits.window_over(), "the channel could not be settled")

    async def _take_over(self) -> None:
        """Go on with a connection that an earlier process of this plugin left open: no `open` comes for that one."""
        try:
            await self._desk.link.tell("sync", {})
        except HubAway:
            return  # `open` says when it is there
        if not self._desk.link.connected:
            await self.on_hub_open()

    async def _look(self) -> None:
        """Read L1; where a channel appeared, agree on it with the hub."""
        desk = self._desk
        try:
            await desk.refresh()
        except LookupError as error:
            self.log.warning(str(error))
            return
        await self._exits.chain_moved()
        await desk.publish()
        if desk.link.connected and not desk.synced and desk.record is not None:
            desk.spawn(self._resync.run(), "the hub could not be synchronised")

    async def _credit(self, message: dict[str, Any]) -> None:
        try:
            new = await self._credits.take(message)
            await self._credits.confirm()
        except Gap:
            self._desk.spawn(self._resync.run(), "the hub could not be synchronised")
            return
        except (BadCredit, HubAway) as error:
            self.log.warning("a payment of the hub was not counted", reason=str(error))
            return
        if new:
            await self._desk.publish()

    async def _hand_in(self, text: str) -> None:
        try:
            message = json.loads(text)
            credit = dict(message.get("params", message))
            try:
                await self._credits.take(credit)
            except Gap:
                await self._credits.take_newest(credit)  # it is cumulative: worth all before it, whoever paid that
        except (ValueError, TypeError, AttributeError, RecursionError) as bad:
            why = "it is no JSON object" if isinstance(bad, json.JSONDecodeError) else str(bad)
            raise ActionError(23, f"latestMessage is no payment of this hub: {why}", spent=False) from None
