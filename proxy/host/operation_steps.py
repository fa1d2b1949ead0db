"""One step of an operation on its way through L1: signed, on disk, sent, mined, confirmed (rpc.md, "Operation").

Every method takes the record from one state on disk to the next and can be repeated after a crash at any point: what was
signed is on disk with its nonce before it is sent, and only these bytes are ever sent for the step, or the same with a
higher fee at the same nonce, within what was approved (hardening.md 21). Approval lies behind; this module must never be
entered for a step whose `prepared` was not approved.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping
from typing import Any

from middleware.errors import Disconnected, InvalidParams, RpcError, Unauthorized
from proxy.host.operation_ports import L1, Prepared, Signed, Transactions
from proxy.host.operation_records import Operation, OperationRecords, Step
from proxy.storage import Batch, StorageError

log = logging.getLogger("l2proxy.operations")


BUSY = (-32005, 429)  # what nodes and their gateways answer when they are asked too much
STUCK_BLOCKS = 3  # mined without it before it is sent for a higher fee
UNSURE = (*BUSY, -32603)  # after one of these it is not known whether the node has taken a transaction


class Outcome(enum.Enum):
    """What became of a step just now."""

    WAIT = "wait"  # nothing more to do before the next block
    CHANGED = "changed"  # go on at once
    FAILED = "failed"  # the step is final and did not do what it should
    OUT_OF_GAS = "out_of_gas"  # likewise, for it needed more gas than its limit
    GAP = "gap"  # a nonce before its own is used by nobody; it waits until somebody does
    DISPLACED = "displaced"  # another transaction is final at its nonce; it can never be mined any more


class Steps:
    """Sends steps and follows them. `confirmations`: blocks until final; `changed` is told after each write."""

    def __init__(
        self,
        l1: L1,
        transactions_of: Callable[[Operation], Transactions],
        records: OperationRecords,
        confirmations: Callable[[], int],
        changed: Callable[[Operation], None],
    ) -> None:
        self._l1 = l1
        self._transactions_of = transactions_of
        self._records = records
        self._confirmations = confirmations
        self._changed = changed

    async def send(self, operation: Operation, step: Step, prepared: Prepared) -> None:
        """Sign the approved step, at the fee of now, and send it for the first time.

        Raise `Unauthorized` while locked and 4001 when the approval is too old, both before anything is signed; the node's
        error when it refuses (the step is `dropped` and its nonce free again); `Disconnected` when it is unknown whether it
        arrived (the step has a nonce then, and `follow` sends the same bytes again).
        """
        transactions = self._transactions_of(operation)
        async with transactions.in_line(operation.sender):
            signed = await self._sign(operation, step, prepared, None)
            try:
                await transactions.send(signed)
            except Disconnected:
                raise
            except RpcError as error:
                if error.code in UNSURE:
                    raise Disconnected(f"the node answered {error.code} to {signed.hash}: {error.message}") from error
                # The only attempt there ever was has been refused: these bytes are with nobody but us.
                step.status = "dropped"
                self._final(operation, step)
                raise
        step.status = "submitted"
        self._write(operation)

    async def follow(self, operation: Operation, step: Step) -> Outcome:
        """Look for the step on the chain; send it again where it got lost, for a higher fee where it is stuck."""
        receipt = await self._receipt(step)
        if receipt is None:
            return await self._missing(operation, step)
        number, head = int(receipt["blockNumber"], 16), await self._head()
        confirmations = max(head - number + 1, 1)
        reverted = int(receipt["status"], 16) == 0
        if confirmations < self._confirmations():
            self._seen(operation, step, "reverted" if reverted else "mined", number, confirmations)
            return Outcome.WAIT
        # All the node is asked first: what is shown lies on disk, and a node that goes away now is asked again.
        if not reverted and operation.kind in ("withdraw", "plan"):
            step.returned = await self._returned(operation, step, receipt)
        step.block, step.confirmations = number, confirmations
        step.status = "reverted" if reverted else "confirmed"
        self._final(operation, step)
        if reverted:
            return Outcome.OUT_OF_GAS if _ran_out(step, receipt) else Outcome.FAILED
        return Outcome.CHANGED

    def displace(self, operation: Operation, step: Step, batch: Batch) -> None:
        """Free the nonce of a displaced step in a batch; what it gets next is another one (hardening.md 21)."""
        self._transactions_of(operation).release(operation.sender, _nonce(step), batch)
        step.nonce, step.status, step.attempt, step.sent_at = None, "pending", None, None

    async def _sign(self, operation: Operation, step: Step, prepared: Any, replaces: Signed | None) -> Signed:
        """Sign one attempt; its bytes, nonce and hash are on disk together, or it never was."""
        head = await self._head()

        def also(batch: Batch, signed: Any) -> None:
            step.nonce, step.hashes = signed.nonce, [*step.hashes, signed.hash]
            step.attempt, step.sent_at = prepared.to_json(), head
            self._records.put(operation, batch)

        try:
            signed = await self._transactions_of(operation).sign(prepared, operation.id, also, replaces)
        except StorageError:
            self._records.restore(operation)
            raise
        self._records.committed()
        self._changed(operation)
        return signed

    async def _missing(self, operation: Operation, step: Step) -> Outcome:
        """The chain has no receipt: it is pending, stuck, lost, unwound by a reorg, or displaced from its nonce."""
        if step.block is not None or step.status not in ("pending", "submitted"):
            step.block, step.confirmations, step.status = None, 0, "submitted"
            self._write(operation)
        transactions = self._transactions_of(operation)
        if await transactions.is_known(step.hashes[-1]):
            if step.status == "pending":
                step.status = "submitted"
                self._write(operation)
            return await self._outbid(operation, step)
        if await self._nonce_is_gone(operation, step):
            return Outcome.DISPLACED
        return await self._send_again(operation, step)

    async def _outbid(self, operation: Operation, step: Step, *, is_lost: bool = False) -> Outcome:
        """The node mines others: send it for a higher fee, as far as what was approved goes.

        `is_lost`: the node does not have it. It may be that the owner's other wallet put another one in its place, which is
        not to be fought; so only where there is none, and no block could take it at its present fee.
        """
        if await self._head() - (step.sent_at or 0) < STUCK_BLOCKS or step.attempt is None:
            return Outcome.WAIT
        transactions = self._transactions_of(operation)
        if await transactions.mend(operation.sender, _nonce(step)):
            return Outcome.WAIT
        if await transactions.gap(operation.sender, _nonce(step)) is not None:
            return Outcome.GAP  # the other wallet that had it lost it again; a higher fee would help nobody
        held = await transactions.held_by(operation.sender, _nonce(step), operation.id)
        if held is None or (is_lost and await transactions.count(operation.sender, "pending") > _nonce(step)):
            return Outcome.WAIT
        attempt = transactions.restore(step.attempt)
        dearer = await transactions.dearer(attempt, _nonce(step), if_too_low=is_lost)
        if dearer is None:
            return Outcome.WAIT
        try:
            signed = await self._sign(operation, step, dearer, held)
            await transactions.send(signed)
        except Disconnected:
            raise
        except (Unauthorized, InvalidParams) as error:
            log.info("operation %s: no higher fee now: %s", operation.id, error.message)  # locked, or mined just now
        except RpcError as error:
            log.info("operation %s: the node does not take %s: %s", operation.id, step.hashes[-1], error.message)
        return Outcome.WAIT

    async def _send_again(self, operation: Operation, step: Step) -> Outcome:
        transactions = self._transactions_of(operation)
        signed = await transactions.held_by(operation.sender, _nonce(step), operation.id)
        if signed is None:
            # The owner let another transaction take the nonce: one of both will be final there, if nothing lacks below.
            gap = await transactions.gap(operation.sender, _nonce(step))
            return Outcome.WAIT if gap is None else Outcome.GAP
        if signed.hash not in step.hashes:
            raise RuntimeError(f"operation {operation.id} has lost the transaction of nonce {step.nonce}")
        try:
            await transactions.send(signed)
        except Disconnected:
            raise
        except RpcError as error:
            # It may have been taken once, so a refusal now proves nothing; the next block tells.
            log.info("operation %s: the node does not take %s again: %s", operation.id, signed.hash, error.message)
            return await self._outbid(operation, step, is_lost=True)
        if step.status != "submitted":
            step.status = "submitted"
            self._write(operation)
        return Outcome.CHANGED

    async def _receipt(self, step: Step) -> dict[str, str] | None:
        """Return the receipt of whichever attempt was mined; its hash becomes the last one."""
        for place in reversed(range(len(step.hashes))):
            receipt: dict[str, str] | None = await self._l1.call("eth_getTransactionReceipt", step.hashes[place])
            if receipt is not None:
                step.hashes = [*step.hashes[:place], *step.hashes[place + 1 :], step.hashes[place]]
                return receipt
        return None

    async def _head(self) -> int:
        return int(await self._l1.call("eth_blockNumber"), 16)

    async def _nonce_is_gone(self, operation: Operation, step: Step) -> bool:
        """Tell whether another transaction is final at the step's nonce."""
        depth = hex(max(await self._head() - self._confirmations() + 1, 0))
        if await self._transactions_of(operation).count(operation.sender, depth) <= _nonce(step):
            return False
        return await self._receipt(step) is None  # asked last: it may have been mined while we looked

    async def _returned(self, operation: Operation, step: Step, receipt: dict[str, str]) -> int | None:
        """Return the wei that the transaction brought the owner, fee and value added back; None: not to be told apart.

        That is what the balance gained in the step's block, if no other transaction there was the owner's or paid them.
        """
        number = int(receipt["blockNumber"], 16)
        try:
            block = await self._l1.call("eth_getBlockByNumber", hex(number), True)
            before = int(await self._l1.call("eth_getBalance", operation.sender, hex(number - 1)), 16)
            after = int(await self._l1.call("eth_getBalance", operation.sender, hex(number)), 16)
        except Disconnected:
            raise
        except RpcError:
            return None  # a node without the state of that block
        touching = [one for one in block["transactions"] if _touches(one, operation.sender)]
        if [one["hash"].lower() for one in touching] != [step.hashes[-1].lower()]:
            return None
        fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        return max(after - before + fee + step.value, 0)

    def _seen(self, operation: Operation, step: Step, status: str, block: int, confirmations: int) -> None:
        if (step.status, step.block, step.confirmations) != (status, block, confirmations):
            step.status, step.block, step.confirmations = status, block, confirmations  # type: ignore[assignment]
            self._write(operation)

    def _final(self, operation: Operation, step: Step) -> None:
        batch = Batch()
        self._transactions_of(operation).release(operation.sender, _nonce(step), batch)
        self._records.write(operation, batch)
        self._changed(operation)

    def _write(self, operation: Operation) -> None:
        self._records.write(operation)
        self._changed(operation)


def _touches(transaction: Mapping[str, Any], owner: str) -> bool:
    """Tell whether a transaction is the owner's, or pays the owner directly."""
    return owner.lower() in (transaction["from"].lower(), (transaction.get("to") or "").lower())


def _ran_out(step: Step, receipt: Mapping[str, Any]) -> bool:
    """Tell whether a reverted transaction used all the gas it had."""
    return step.attempt is not None and int(receipt["gasUsed"], 16) >= int(step.attempt["gas"], 16)


def _nonce(step: Step) -> int:
    if step.nonce is None:
        raise RuntimeError("the step has no nonce yet")
    return step.nonce
