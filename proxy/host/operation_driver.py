"""An operation from one state to the next: the owner asked, each step waited for, sent, followed, ended.

Called by `operations` for as long as there is something to do; whatever is done here is on disk before it is done, so that it
goes on after a crash at any point where the record stands. Nothing is signed here that was not approved, by the owner, a
rule, or for `send` by the policy that the plugin's own gas may be spent in its own gateway (security.md 10).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from middleware.errors import AlreadyPending, Disconnected, LimitExceeded, Refused, RpcError, Unauthorized
from middleware.questions import Withdrawn
from middleware.waist import Origin
from proxy.host.operation_doubts import Doubts
from proxy.host.operation_endings import conclude, left_out, out_of_gas, reverted
from proxy.host.operation_offers import Offer, Offers
from proxy.host.operation_ports import Approvals, Audit, OwnKeys
from proxy.host.operation_questions import operation_digest, operation_question
from proxy.host.operation_records import Operation, OperationRecords, Step
from proxy.host.operation_requests import fill
from proxy.host.operation_rights import Rights
from proxy.host.operation_steps import BUSY, Outcome, Steps
from proxy.host.operation_waits import Waits, arguments_from
from proxy.storage import Batch, StorageError

log = logging.getLogger("l2proxy.operations")


class Driver:
    """Drives operations. `changed` is told after each write; `give_room` gives up room kept on the disk for disputes."""

    def __init__(
        self,
        records: OperationRecords,
        rights: Rights,
        offers: Offers,
        steps: Steps,
        waits: Waits,
        approvals: Approvals,
        own: OwnKeys,
        audit: Audit,
        clock: Callable[[], float],
        changed: Callable[[Operation], None],
        give_room: Callable[[], bool],
        doubts: Doubts,
    ) -> None:
        self._records, self._rights, self._offers, self._steps, self._waits = records, rights, offers, steps, waits
        self._approvals, self._own, self._audit = approvals, own, audit
        self._clock, self._changed, self._give_room, self._doubts = clock, changed, give_room, doubts
        self._asking: dict[str, asyncio.Future[Any]] = {}  # the questions that are open, by operation
        self._recalled: set[str] = set()

    async def advance(self, operation: Operation, offer: Offer | None) -> bool:
        """Do the next thing; `offer`: made for it just now. Return whether to go on at once, False: with the next block.

        Raise `Withdrawn` when the daemon stops, `StorageError` when nothing can be written (nothing was done then), the
        node's error when it is away or too busy.
        """
        if operation.status == "awaiting_approval":
            return await self._ask(operation, offer)
        return await self._run(operation)

    async def _ask(self, operation: Operation, offer: Offer | None) -> bool:
        """Ask the owner; put the answer on disk. Return whether to go on at once."""
        is_new = offer is not None
        if not self._may_sign(operation):
            return False
        if doubt := self._doubts.take(operation):
            self.doubt(operation, doubt)
            return True
        try:
            self._rights.check(operation)
            if offer is None:
                offer = await self.make_offer(operation)
            if operation.kind == "send":
                self.decide_by_policy(operation, offer)
            else:
                await self._decide(operation, offer)
        except Withdrawn:
            raise
        except RpcError as error:
            if _passes(error):
                raise
            if _is_poor(error) and _is_half_done(operation):
                return self._stay(operation, error)
            if isinstance(error, AlreadyPending | LimitExceeded) and not is_new:
                return (
                    False  # what was on its way, or was asked before the restart, fails for no full queue of questions
                )
            self._end(operation, "rejected" if isinstance(error, Refused | Unauthorized) else "failed", error)
        return True

    async def _decide(self, operation: Operation, offer: Offer) -> None:
        def apply(_chosen: Any) -> None:
            # On disk before anybody hears of the approval, and before anything is sent.
            self._approve(operation, offer, {"at": self._clock()})

        question = operation_question(
            operation, offer, operation.caused_by, lambda: self._rights.check(operation), apply
        )
        asking = self._asking[operation.id] = asyncio.ensure_future(self._approvals.ask(question))
        try:
            decision = await asking
        except asyncio.CancelledError:
            if operation.id not in self._recalled:
                raise
            return
        finally:
            self._recalled.discard(operation.id)
            del self._asking[operation.id]
        if operation.status != "running":
            raise RuntimeError(f"operation {operation.id} was approved and its approval was not applied")
        operation.decision = {
            "source": decision.source,
            "id": decision.id,
            "at": decision.at,
            "digest": question.digest,
        }
        self._records.write(operation)

    def decide_by_policy(self, operation: Operation, offer: Offer) -> None:
        """Let a `send` go: it calls the plugin's own gateway with the plugin's own gas. Recorded, or it fails."""
        (step,) = operation.steps
        digest = operation_digest(operation, offer)
        event = {
            "event": "send",
            "origin": str(Origin.plugin(operation.plugin)),
            "operation": operation.id,
            "from": operation.sender,
            "to": step.to,
            "function": step.function,
            "source": "policy",
            "digest": digest,
            **({"warnings": list(offer.warnings)} if offer.warnings else {}),
        }
        self._certainly(lambda: self._audit.append(event))
        decision = {"source": "policy", "at": self._clock(), "digest": digest}
        self._certainly(lambda: self._approve(operation, offer, decision))

    def _certainly(self, write: Callable[[], None]) -> None:
        """Write, if need be into the room that is kept on the disk: a full one stops no answer to a dispute."""
        while True:
            try:
                write()
            except StorageError:
                if not self._give_room():
                    raise
            else:
                return

    def _approve(self, operation: Operation, offer: Offer, decision: dict[str, Any]) -> None:
        for step, prepared, code in zip(offer.steps, offer.prepared, offer.codes, strict=True):
            step.prepared, step.code = prepared.to_json(), code
        if operation.undo is not None and offer.undo is not None:
            operation.undo.prepared = offer.undo.to_json()
        operation.status, operation.error, operation.decision, operation.doubt = "running", None, decision, ""
        self._write(operation)

    async def _run(self, operation: Operation) -> bool:
        """Take the next step of an approved operation. Return whether to go on at once."""
        step = operation.next_step()
        if step is None:
            self._end(operation, "done", None)
            return True
        if not step.is_sent:
            return await self._begin(operation, step)
        self._may_sign(operation)  # an own key is taken out again after a restart, should the fee have to grow
        outcome = await self._steps.follow(operation, step)
        if outcome is Outcome.GAP:
            return self._stay(operation, left_out(operation.sender, step))
        if operation.status == "waiting":
            operation.status, operation.error = "running", None
            self._write(operation)
        if outcome is Outcome.FAILED:
            self._end(operation, "failed", reverted(step))
        if outcome is Outcome.OUT_OF_GAS:
            self._end(operation, "failed", out_of_gas(step))
        if outcome is Outcome.DISPLACED:
            # Nothing was executed and nothing can be any more. A second nonce only by a new question (hardening.md 21).
            log.warning("operation %s: another transaction took nonce %s", operation.id, step.nonce)
            batch = Batch()
            self._steps.displace(operation, step, batch)
            self._ask_again(operation, batch)
            return True
        return outcome is not Outcome.WAIT

    async def _begin(self, operation: Operation, step: Step) -> bool:
        """Send a step once what it waits for has happened and its arguments are known and approved."""
        if doubt := self._doubts.take(operation):
            self.doubt(operation, doubt)
            return True
        try:
            if step.wait is not None and not step.waited and not await self._has_waited(operation, step):
                return self._stay(operation, None)
        except Unauthorized as error:
            self._end(operation, "failed", error)
            return True
        if step.args is None:
            return self._stay(operation, None)
        if step.prepared is None:
            self._ask_again(operation)
            return True
        return await self._send(operation, step)

    async def _has_waited(self, operation: Operation, step: Step) -> bool:
        """Look whether a step's wait is over; an event may bring its arguments along."""
        if step.wait_from is None:
            before = operation.steps[: operation.steps.index(step)]
            step.wait_from = before[-1].block if before and before[-1].block else await self._waits.head()
            self._write(operation)
        event = (step.wait or {}).get("event")
        gateway = None if event is None else self._rights.gateway_named(operation, event["gateway"])
        happened = await self._waits.is_over(step, gateway)
        if happened is None:
            return False
        step.waited = True
        if step.args is None:
            target = self._rights.gateway_named(operation, step.gateway or "")
            if (found := arguments_from(step, target, happened)) is not None:
                fill(step, target, found)
        self._write(operation)
        return True

    async def _send(self, operation: Operation, step: Step) -> bool:
        if not self._may_sign(operation):
            return False
        try:
            self._rights.check(operation)
            gateway = self._rights.gateway_of(operation, step)
            prepared = await self._offers.current(operation, step, gateway)
            if prepared is None:
                self._ask_again(operation)
                return True
            operation.status, operation.error = "running", None
            await self._steps.send(operation, step, prepared)
        except RpcError as error:
            return self._unsent(operation, step, error)
        return True

    def _unsent(self, operation: Operation, step: Step, error: RpcError) -> bool:
        """A step was not sent: try later, ask again, or end. Return whether to go on at once."""
        if step.status != "dropped":
            if _passes(error):
                raise error
            if not self._may_sign(operation):
                return False  # locked in this very moment; nothing was signed
            if isinstance(error, Refused) and not step.is_sent:
                self._ask_again(operation)
                return True
            if _is_poor(error) and _is_half_done(operation):
                return self._stay(operation, error)
        self._end(operation, "failed", error)
        return True

    def doubt(self, operation: Operation, warning: str) -> None:
        """Have what is not signed yet approved once more, with a warning (hardening.md 13); what is signed is followed.

        A `send`, which nobody is asked about, fails: only the plugin knows whether it is still due.
        """
        if operation.status != "awaiting_approval" and not operation.unsent():
            return
        if operation.kind == "send":
            self._end(operation, "failed", RpcError(-32000, f"nothing was sent: {warning.partition(': ')[2]}"))
            return
        operation.doubt = warning
        self._doubts.adopt(operation, warning)
        self._ask_again(operation)

    def recall(self, operation: Operation) -> None:
        """Take back the question that is open about it, if one is: it is asked anew."""
        asking = self._asking.get(operation.id)
        if asking is not None and asking.cancel():
            self._recalled.add(operation.id)

    def _ask_again(self, operation: Operation, batch: Batch | None = None) -> None:
        """What was approved does not hold any more (too late, other code, more gas, nonce gone): back to the owner."""
        operation.status, operation.decision = "awaiting_approval", None
        for step in operation.unsent():
            step.prepared = step.code = None
        self._records.write(operation, batch)
        self._changed(operation)

    def _stay(self, operation: Operation, error: RpcError | None) -> bool:
        """Wait for an event, a block, a time, arguments or funds. Return False: nothing to do before the next block."""
        shown = None if error is None else error.to_json()
        if (operation.status, operation.error) != ("waiting", shown):
            operation.status, operation.error = "waiting", shown
            self._write(operation)
        return False

    def _may_sign(self, operation: Operation) -> bool:
        """Tell whether the lock lets the next step be signed now, its key is at hand, and its plugin's store was looked at."""
        if self._doubts.holds(operation) or not self._rights.may_sign(operation):
            return False
        try:
            return operation.key is None or self._own.address(operation.key) == operation.own
        except Unauthorized:
            return False

    async def make_offer(self, operation: Operation) -> Offer:
        """Return what the operation would cost now. Raise the node's error where its first step would not go through."""
        return await self._offers.make(operation, lambda step: self._rights.gateway_of(operation, step))

    def _end(self, operation: Operation, status: Any, error: RpcError | None) -> None:
        """End an operation, or first take back the allowance that its failure left (hardening.md 20)."""
        conclude(operation, status, error)
        self._write(operation)

    def _write(self, operation: Operation) -> None:
        self._records.write(operation)
        self._changed(operation)


def _passes(error: RpcError) -> bool:
    """Tell whether the node may do later what it did not do now."""
    return isinstance(error, Disconnected) or (type(error) is RpcError and error.code in BUSY)


def _is_poor(error: RpcError) -> bool:
    """Tell whether the sender could not pay."""
    return error.code == -32000 and isinstance(error.data, dict) and "needed" in error.data


def _is_half_done(operation: Operation) -> bool:
    """Tell whether something of it is on L1 already, so that it waits for funds rather than fails."""
    return any(step.status == "confirmed" for step in operation.steps)
