"""Everything the parts of the plugin share: services, contract, link, the record, and how it is written and shown.

`save` is the only way a change of the record reaches the store; it is awaited before anything about the change leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable
from typing import Any

from l2proxy_sdk import Account, ActionError, ChannelClosed, HostError, Plugin

from .link import HubAway, Link
from .onchain import Contract, OnChain
from .record import Record
from .typed import Typed

RECORD = "channel"
AGREE_SECONDS = 8.0  # a call may come right after a start, a deposit or a reconnection


class Desk:
    """The shared state of one running plugin."""

    def __init__(self, plugin: Plugin) -> None:
        gateway = plugin.gateways["main"]
        self.plugin = plugin
        self.owner = plugin.layer1_owner_address.lower()
        self.gateway = gateway.address.lower()
        self.typed = Typed(plugin.layer1_network_id, self.gateway)
        self.contract = Contract(plugin.layer1.request, self.gateway)
        self.link = Link(self._send)
        self.turn = asyncio.Lock()  # one payment, withdrawal or close at a time
        self.account: Account | None = None
        self.hub = ""  # the hub's key, from the contract
        self.record: Record | None = None
        self.chain: OnChain | None = None
        self.synced = False
        self.frozen: str | None = None
        self._looked = False  # L1 was read at least once
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read account, record and contract."""
        self.account = await self.plugin.keys.account(0)
        text = await self.plugin.store.get(RECORD)
        self.record = None if text is None else Record.from_text(str(text))

    async def save(self, put: dict[str, str | bytes] | None = None, delete: list[str | bytes] | None = None) -> None:
        """Write the record, and what belongs to the same moment, as one batch."""
        async with self._writing:  # so that an older record can never be written over a newer one
            batch: dict[str, str | bytes] = dict(put or {})
            if self.record is not None:
                batch[RECORD] = self.record.to_text()
            await self.plugin.store.write(batch, delete or [])

    async def refresh(self) -> None:
        """Read the channel from L1; a new channel begins a new record."""
        if not self.hub:
            self.hub = await self.contract.hub()
        chain = await self.contract.newest(self.owner)
        self.chain, self._looked = chain, True
        if chain is None:
            return
        if self.record is None or self.record.channel != chain.channel:
            await self._begin(chain)
        record = self.record
        if record is not None and record.authorised and chain.user_out >= record.authorised.total:
            record.authorised = None
            await self.save()

    async def _begin(self, chain: OnChain) -> None:
        account = self.account or await self.plugin.keys.account(0)
        old = self.record
        if old is not None and not await self._is_over(old):
            raise LookupError(f"L1 shows the channel {chain.channel}, while {old.channel} is not closed")
        self.record = Record(chain.channel, account.address.lower(), account.path)
        self.synced = False
        await self.save({} if old is None else {f"old/{old.channel}": old.to_text()})

    async def _is_over(self, old: Record) -> bool:
        return (await self.contract.read(old.channel)).status in ("closed", "none")

    def spendable(self) -> int:
        """Return what can be paid or taken out now, in wei."""
        if self.record is None or self.chain is None or self.chain.status != "open" or self.closing():
            return 0
        return max(0, self.record.spendable(self.chain.user_in, self.chain.user_out))

    async def settle(self) -> None:
        """Wait until L1 and hub have been asked, for a bounded time; must not be awaited while holding `turn`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGREE_SECONDS):
                while not self._is_definite():
                    self._moved.clear()
                    await self._moved.wait()

    def _is_definite(self) -> bool:
        if not self._looked or self.chain is None or self.chain.status in ("none", "closed"):
            return self._looked
        return self.synced or self.frozen is not None or self.closing()

    def open_record(self) -> Record:
        """Return the record of an open, agreed channel. Raises ActionError that nothing was spent."""
        record, chain = self.record, self.chain
        if record is None or chain is None or chain.status in ("none", "closed"):
            raise ActionError(1, "there is no open channel; `deposit` opens one", spent=False)
        if self.closing():
            raise ActionError(2, "the channel is closing", spent=False)
        if self.frozen is not None:
            raise ActionError(3, f"the channel is frozen: {self.frozen}; `close` it", spent=False)
        return record

    def agreed_record(self) -> Record:
        """Return the record of an open channel whose newest state the hub has confirmed. Raises ActionError."""
        record = self.open_record()
        if not self.link.connected:
            raise ActionError(4, "the hub is not connected; try again when it is back", spent=False)
        if not self.synced:
            raise ActionError(5, "the hub has not confirmed the newest state yet; try again", spent=False)
        return record

    async def verified(self, data: dict[str, Any], signature: str, signer: str) -> bool:
        """Whether `signer` signed typed data; what the host refuses to read was signed by nobody."""
        try:
            return (await self.plugin.keys.recover(signature, typed_data=data)).lower() == signer
        except HostError:
            return False

    async def publish(self) -> None:
        """Show the state to sites."""
        record, chain = self.record, self.chain
        shown: dict[str, Any] = {
            "hub": "connected" if self.link.connected else "away",
            "channel": None if chain is None else chain.channel,
            "status": "none" if chain is None else self._status(chain),
            "balance": hex(self.spendable()),
            "deposited": hex(chain.user_in if chain else 0),
            "withdrawn": hex(chain.user_out if chain else 0),
            "sent": hex(record.sent_amount if record else 0),
            "received": hex(record.received_amount if record else 0),
            "nonce": hex(record.sent_nonce if record else 0),
            "pending": None,
            "frozen": self.frozen,
            "payments": record.recent if record else [],
        }
        if record is not None and record.pending is not None:
            pending = record.pending
            shown["pending"] = {"nonce": hex(pending.nonce), "to": pending.to, "value": hex(pending.value)}
        if chain is not None and chain.status == "closing":
            shown["closesAt"] = hex(chain.closes_at)
        self._moved.set()
        await self.plugin.state.update(shown)

    def spawn(self, work: Awaitable[None], what: str) -> None:
        """Run something in the background; what it raises goes to the log."""

        async def run() -> None:
            try:
                await work
            except ChannelClosed:
                return  # the proxy has gone; this process ends with it
            except (HostError, HubAway, LookupError, TypeError, ValueError) as error:
                self.plugin.log.warning(what, reason=f"{type(error).__name__}: {error}")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel what runs in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def closing(self) -> bool:
        """Whether the channel is on its way out: nothing is paid in or out of it any more."""
        if self.chain is None or self.chain.status in ("none", "closed"):
            return False
        return self.chain.status == "closing" or (self.record is not None and self.record.final is not None)

    def _status(self, chain: OnChain) -> str:
        return "closing" if self.closing() else chain.status

    async def _send(self, text: str) -> None:
        try:
            await self.plugin.hub.send(text)
        except HostError as error:
            raise HubAway(f"the hub cannot be reached: {error.message}") from None


def entry(direction: str, nonce: int, other: str, value: int, outcome: str) -> dict[str, Any]:
    """Return a payment as the state and the store show it."""
    return {"direction": direction, "nonce": hex(nonce), "with": other, "value": hex(value), "outcome": outcome}


def to_text(value: Any) -> str:
    """Return compact JSON for the store."""
    return json.dumps(value, separators=(",", ":"))
