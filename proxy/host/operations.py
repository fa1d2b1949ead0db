"""Deposits and withdrawals of plugins: persisted state machines from the plugin's wish to the confirmed transaction.

submit → checked → on disk, awaiting approval → the owner asked → the approval on disk with the operation → each step
signed, on disk, sent, confirmed (`operation_steps`) → done. A crash at any point loses nothing that was acknowledged and
sends nothing twice: whatever is open when the daemon starts goes on where its record stands. No money moves here without
an approval or an attested rule (security.md 10); a question still open at the end of the process is asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from middleware.errors import Disconnected, Refused, RpcError, Unauthorized, Unsupported
from middleware.questions import Withdrawn
from middleware.waist import Context, Origin
from proxy.host.gateways import Gateways
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_offers import Offer, Offers
from proxy.host.operation_ports import L1, Accounts, Approvals, Transactions
from proxy.host.operation_questions import operation_question
from proxy.host.operation_records import Operation, OperationRecords, Step
from proxy.host.operation_requests import gateway_of, read_step
from proxy.host.operation_steps import BUSY, Outcome, Steps
from proxy.storage import Batch, Space

log = logging.getLogger("l2proxy.operations")

KINDS = ("deposit", "withdraw")
PATIENCE = 15.0  # seconds after which an operation looks again although no block was announced

Changed = Callable[[str, dict[str, Any]], None]


class Operations:
    """All operations of all plugins. `installed` returns a plugin as it is now; `confirmations` is for real chains."""

    def __init__(
        self,
        space: Space,
        transactions: Transactions,
        l1: L1,
        approvals: Approvals,
        accounts: Accounts,
        gateways: Gateways,
        installed: Callable[[str], InstalledPlugin | None],
        confirmations: int = 12,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._l1, self._approvals, self._accounts, self._installed = l1, approvals, accounts, installed
        self._clock = clock
        self._records = OperationRecords(space)
        self._offers = Offers(transactions, gateways, clock)
        self._steps = Steps(l1, transactions, self._records, lambda: 1 if l1.is_dev else confirmations, self._tell)
        self._callbacks: list[Changed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat = asyncio.Event()
        accounts.on_unlock(self._pulse)

    async def start(self) -> None:
        """Go on with everything that is open."""
        self._spawn(self._listen(), "operations: blocks")
        for operation in self._records.open():
            self._spawn(self._drive(operation, None), f"operation {operation.id}")

    async def close(self) -> None:
        """Stop where everything stands; the records say how to go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_change(self, callback: Changed) -> None:
        """Call `callback(plugin id, operation)` after each change that is on disk."""
        self._callbacks.append(callback)

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        """Return operations as callers see them, oldest first; with `origin`, without those another origin caused."""
        found = [one for one in self._records.of(plugin_id) if operation_id in (None, one.id)]
        return [one.shown() for one in found if origin is None or one.caused_by in (None, origin)]

    def records_of(self, plugin_id: str) -> list[Operation]:
        """Return the records of a plugin, oldest first, for the proxy's own reckoning."""
        return list(self._records.of(plugin_id))

    async def submit(self, plugin: InstalledPlugin, kind: str, params: dict[str, Any], context: Context) -> str:
        """Store an operation and return its id at once; the owner is asked next.

        Raise before anything is stored: `InvalidParams`, `Unauthorized` outside manifest or gateway and while locked,
        the node's error where the call would revert or cannot be paid, `Disconnected`.
        """
        if kind not in KINDS:
            raise Unsupported(kind, "this version serves deposit and withdraw")
        gateway = gateway_of(plugin, params)
        step = read_step(kind, gateway, params)
        self._refuse(plugin)
        operation = Operation(
            id=self._records.new_id(self._clock()),
            plugin=plugin.id,
            kind=kind,
            status="awaiting_approval",
            owner=plugin.owner,
            chain=self._l1.chain_id,
            code=plugin.digest,
            steps=await self._offers.steps(gateway, step, plugin.owner),
            created=self._clock(),
            serving=None if context.serving is None else (context.serving.kind.value, context.serving.name),
        )
        offer = await self._offers.make(operation, gateway)
        self._write(operation)
        self._spawn(self._drive(operation, offer), f"operation {operation.id}")
        return operation.id

    # -- driving

    async def _drive(self, operation: Operation, offer: Offer | None) -> None:
        """Take an operation through its states until it is over."""
        while not operation.over:
            beat = self._beat
            try:
                if operation.status == "awaiting_approval":
                    goes_on = await self._ask(operation, offer)
                    offer = None
                else:
                    goes_on = await self._run(operation)
            except Withdrawn:
                return  # the daemon stops; the question is asked again under a new id
            except RpcError as error:
                # What is final was caught where it is known; here the node is away, too busy, or lacks a state.
                log.info("operation %s waits for the node: %s", operation.id, error.message)
                goes_on = False
            if not goes_on:
                await self._wait(beat)

    async def _ask(self, operation: Operation, offer: Offer | None) -> bool:
        """Ask the owner; put the answer on disk. Return whether to go on at once."""
        if self._accounts.locked:
            return False
        try:
            gateway = self._present(operation)
            if offer is None:
                offer = await self._offers.make(operation, gateway)
            await self._decide(operation, offer)
        except Withdrawn:
            raise
        except RpcError as error:
            if _passes(error):
                raise
            self._end(operation, "rejected" if isinstance(error, Refused | Unauthorized) else "failed", error)
        return True

    async def _decide(self, operation: Operation, offer: Offer) -> None:
        def check() -> None:
            self._present(operation)

        def apply(_chosen: Any) -> None:
            # On disk before anybody hears of the approval, and before anything is sent.
            for step, prepared, code in zip(operation.steps, offer.prepared, offer.codes, strict=True):
                step.prepared, step.code = prepared.to_json(), code
            operation.status = "running"
            operation.decision = {"at": self._clock()}
            self._write(operation)

        question = operation_question(operation, offer.prepared, offer.warnings, operation.caused_by, check, apply)
        decision = await self._approvals.ask(question)
        if operation.status != "running":
            raise RuntimeError(f"operation {operation.id} was approved and its approval was not applied")
        operation.decision = {
            "source": decision.source,
            "id": decision.id,
            "at": decision.at,
            "digest": question.digest,
        }
        self._records.write(operation)

    async def _run(self, operation: Operation) -> bool:
        """Take the next step of an approved operation. Return whether to go on at once."""
        step = operation.next_step()
        if step is None:
            self._end(operation, "done", None)
            return True
        if step.nonce is None:
            return await self._send(operation, step)
        outcome = await self._steps.follow(operation, step)
        if outcome is Outcome.FAILED:
            self._end(operation, "failed", _reverted(step))
        if outcome is Outcome.DISPLACED:
            # Nothing was executed and nothing can be any more. A second nonce only by a new question (hardening.md 21).
            log.warning("operation %s: another transaction took nonce %s", operation.id, step.nonce)
            batch = Batch()
            self._steps.displace(operation, step, batch)
            self._ask_again(operation, batch)
            return True
        return outcome is not Outcome.WAIT

    async def _send(self, operation: Operation, step: Step) -> bool:
        if self._accounts.locked:
            return False
        try:
            gateway = self._present(operation)
            if not await self._offers.holds(step, gateway):
                self._ask_again(operation)
                return True
            await self._steps.send(operation, step)
        except RpcError as error:
            if step.status != "dropped" and _passes(error):
                raise
            if step.status != "dropped" and self._accounts.locked:
                return False  # locked in this very moment; nothing was signed
            if step.status != "dropped" and isinstance(error, Refused) and step.nonce is None:
                self._ask_again(operation)
                return True
            self._end(operation, "failed", error)
        return True

    def _ask_again(self, operation: Operation, batch: Batch | None = None) -> None:
        """What was approved does not hold any more (too late, other code, more gas, nonce gone): back to the owner."""
        operation.status, operation.decision = "awaiting_approval", None
        for step in operation.steps:
            if step.nonce is None:
                step.prepared = step.code = None
        self._records.write(operation, batch)
        self._tell(operation)

    def _present(self, operation: Operation) -> Gateway:
        """Return the operation's gateway if the plugin still is what asked for it. Raise `Unauthorized` otherwise."""
        plugin = self._installed(operation.plugin)
        if plugin is None or plugin.digest != operation.code or plugin.owner != operation.owner:
            raise Unauthorized(f"{operation.plugin} was removed or changed since it asked for this")
        self._refuse(plugin)
        step = operation.steps[-1]
        gateway = plugin.gateway(step.gateway)
        if gateway is None or gateway.address != step.to:
            raise Unauthorized(f"the gateway {step.gateway} is not the approved one any more")
        return gateway

    def _refuse(self, plugin: InstalledPlugin) -> None:
        if not plugin.enabled:
            raise Unauthorized(f"{plugin.id} is disabled: {plugin.why_disabled}")
        if "gateway" not in plugin.grants:
            raise Unauthorized(f"{plugin.id} was not granted its gateway", f"l2proxy plugin info {plugin.id}")
        if plugin.owner not in self._accounts.addresses():
            raise Unauthorized(f"{plugin.owner}, the owner of {plugin.id}, is no account of this wallet")
        if self._accounts.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")

    # -- keeping

    def _end(self, operation: Operation, status: Any, error: RpcError | None) -> None:
        operation.status = status
        operation.error = None if error is None else error.to_json()
        self._write(operation)

    def _write(self, operation: Operation) -> None:
        self._records.write(operation)
        self._tell(operation)

    def _tell(self, operation: Operation) -> None:
        for callback in tuple(self._callbacks):
            callback(operation.plugin, operation.shown())

    # -- waiting

    async def _listen(self) -> None:
        async for _ in self._l1.blocks.events():
            self._pulse()

    def _pulse(self) -> None:
        beat, self._beat = self._beat, asyncio.Event()
        beat.set()

    async def _wait(self, beat: asyncio.Event) -> None:
        """Return at the next block or unlock, or after a while in case none is announced."""
        try:
            async with asyncio.timeout(PATIENCE):
                await beat.wait()
        except TimeoutError:
            return

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("%s stopped and goes on at the next start", task.get_name(), exc_info=failure)


def _passes(error: RpcError) -> bool:
    """Tell whether the node may do later what it did not do now."""
    return isinstance(error, Disconnected) or (type(error) is RpcError and error.code in BUSY)


def _reverted(step: Step) -> RpcError:
    return RpcError(-32000, f"{step.function} reverted on L1", {"hash": step.hashes[-1]})
