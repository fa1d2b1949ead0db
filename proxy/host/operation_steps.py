"""One step of an operation on its way through L1: signed, on disk, sent, mined, confirmed (rpc.md, "Operation").

Every method takes the record from one state on disk to the next and can be repeated after a crash at any point: what was
signed is on disk with its nonce before it is sent, and only these bytes are ever sent for the step (hardening.md 21).
Approval lies behind; this module must never be entered for a step whose `prepared` was not approved.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping
from typing import Any

from middleware.errors import Disconnected, RpcError
from proxy.host.operation_ports import L1, Transactions
from proxy.host.operation_records import Operation, OperationRecords, Step
from proxy.storage import Batch

log = logging.getLogger("l2proxy.operations")


BUSY = (-32005, 429)  # what nodes and their gateways answer when they are asked too much
UNSURE = (*BUSY, -32603)  # after one of these it is not known whether the node has taken a transaction


class Outcome(enum.Enum):
    """What became of a step just now."""

    WAIT = "wait"  # nothing more to do before the next block
    CHANGED = "changed"  # go on at once
    FAILED = "failed"  # the step is final and did not do what it should
    DISPLACED = "displaced"  # another transaction is final at its nonce; it can never be mined any more


class Steps:
    """Sends steps and follows them. `confirmations`: blocks until final; `changed` is told after each write."""

    def __init__(
        self,
        l1: L1,
        transactions: Transactions,
        records: OperationRecords,
        confirmations: Callable[[], int],
        changed: Callable[[Operation], None],
    ) -> None:
        self._l1 = l1
        self._transactions = transactions
        self._records = records
        self._confirmations = confirmations
        self._changed = changed

    async def send(self, operation: Operation, step: Step) -> None:
        """Sign the approved step and send it for the first time.

        Raise `Unauthorized` while locked and 4001 when the approval is too old, both before anything is signed; the
        node's error when it refuses (the step is `dropped` and its nonce free again); `Disconnected` when it is unknown
        whether it arrived (the step has a nonce then, and `follow` sends the same bytes again).
        """
        prepared = self._transactions.restore(step.prepared or {})

        def also(batch: Batch, signed: object) -> None:
            step.nonce, step.hashes = signed.nonce, [*step.hashes, signed.hash]  # type: ignore[attr-defined]
            self._records.put(operation, batch)

        signed = await self._transactions.sign(prepared, operation.id, also)
        self._changed(operation)
        try:
            await self._transactions.send(signed)
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
        """Look for the step on the chain; send it again where it got lost."""
        receipt = await self._receipt(step)
        if receipt is None:
            return await self._missing(operation, step)
        number, head = int(receipt["blockNumber"], 16), int(await self._l1.call("eth_blockNumber"), 16)
        confirmations = max(head - number + 1, 1)
        reverted = int(receipt["status"], 16) == 0
        if confirmations < self._confirmations():
            self._seen(operation, step, "reverted" if reverted else "mined", number, confirmations)
            return Outcome.WAIT
        step.block, step.confirmations = number, confirmations
        step.status = "reverted" if reverted else "confirmed"
        if not reverted and operation.kind == "withdraw":
            step.returned = await self._returned(operation, step, receipt)
        self._final(operation, step)
        return Outcome.FAILED if reverted else Outcome.CHANGED

    def displace(self, operation: Operation, step: Step, batch: Batch) -> None:
        """Free the nonce of a displaced step in a batch; what it gets next is another one (hardening.md 21)."""
        self._transactions.release(operation.owner, _nonce(step), batch)
        step.nonce, step.status = None, "pending"

    async def _missing(self, operation: Operation, step: Step) -> Outcome:
        """The chain has no receipt: it is pending, lost, unwound by a reorg, or displaced from its nonce."""
        if step.block is not None or step.status not in ("pending", "submitted"):
            step.block, step.confirmations, step.status = None, 0, "submitted"
            self._write(operation)
        if await self._transactions.is_known(step.hashes[-1]):
            if step.status == "pending":
                step.status = "submitted"
                self._write(operation)
            return Outcome.WAIT
        if await self._nonce_is_gone(operation, step):
            return Outcome.DISPLACED
        return await self._send_again(operation, step)

    async def _send_again(self, operation: Operation, step: Step) -> Outcome:
        signed = self._transactions.held(operation.owner, _nonce(step))
        if signed is None or signed.hash != step.hashes[-1]:
            raise RuntimeError(f"operation {operation.id} has lost the transaction of nonce {step.nonce}")
        try:
            await self._transactions.send(signed)
        except Disconnected:
            raise
        except RpcError as error:
            # It may have been taken once, so a refusal now proves nothing; the next block tells.
            log.info("operation %s: the node does not take %s again: %s", operation.id, signed.hash, error.message)
            return Outcome.WAIT
        if step.status != "submitted":
            step.status = "submitted"
            self._write(operation)
        return Outcome.CHANGED

    async def _receipt(self, step: Step) -> dict[str, str] | None:
        receipt: dict[str, str] | None = await self._l1.call("eth_getTransactionReceipt", step.hashes[-1])
        return receipt

    async def _nonce_is_gone(self, operation: Operation, step: Step) -> bool:
        """Tell whether another transaction is final at the step's nonce."""
        head = int(await self._l1.call("eth_blockNumber"), 16)
        depth = hex(max(head - self._confirmations() + 1, 0))
        if await self._transactions.count(operation.owner, depth) <= _nonce(step):
            return False
        return await self._receipt(step) is None  # asked last: it may have been mined while we looked

    async def _returned(self, operation: Operation, step: Step, receipt: dict[str, str]) -> int | None:
        """Return the wei that the transaction brought the owner, fee and value added back; None: not to be told apart.

        That is what the balance gained in the step's block, if no other transaction there was the owner's or paid them.
        """
        number = int(receipt["blockNumber"], 16)
        try:
            block = await self._l1.call("eth_getBlockByNumber", hex(number), True)
            before = int(await self._l1.call("eth_getBalance", operation.owner, hex(number - 1)), 16)
            after = int(await self._l1.call("eth_getBalance", operation.owner, hex(number)), 16)
        except Disconnected:
            raise
        except RpcError:
            return None  # a node without the state of that block
        touching = [one for one in block["transactions"] if _touches(one, operation.owner)]
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
        self._transactions.release(operation.owner, _nonce(step), batch)
        self._records.write(operation, batch)
        self._changed(operation)

    def _write(self, operation: Operation) -> None:
        self._records.write(operation)
        self._changed(operation)


def _touches(transaction: Mapping[str, Any], owner: str) -> bool:
    """Tell whether a transaction is the owner's, or pays the owner directly."""
    return owner.lower() in (transaction["from"].lower(), (transaction.get("to") or "").lower())


def _nonce(step: Step) -> int:
    if step.nonce is None:
        raise RuntimeError("the step has no nonce yet")
    return step.nonce
