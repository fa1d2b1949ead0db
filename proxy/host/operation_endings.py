"""How an operation ends, and what it says: done, rejected or failed; a failed token deposit first takes its allowance back
(hardening.md 20).

Pure: changes the record alone, whoever calls writes it. Until the allowance is taken back its amount counts as spent
(`deposits`). That step was approved together with the deposit; where its approval does not hold any more it is asked anew.
"""

from __future__ import annotations

from typing import Literal

from middleware.errors import RpcError
from proxy.host.operation_records import Ending, Operation, Step


def conclude(operation: Operation, status: Literal["done", "rejected", "failed"], error: RpcError | None) -> None:
    """Give an operation its final status, or the step that has to come before."""
    if operation.ending is None:
        if status != "done" and operation.undo is not None and operation.allowed() is not None:
            operation.ending = Ending(status=status, error=None if error is None else error.to_json())
            operation.steps, operation.undo = [*operation.steps, operation.undo], None
            operation.status = "running"
            return
        operation.status, operation.error = status, None if error is None else error.to_json()
        return
    operation.status, operation.error = operation.ending.status, operation.ending.error
    if error is not None:
        allowed = operation.allowed()
        left = f"{allowed.amount} units of token {allowed.asset}" if allowed is not None else "tokens"
        said = (operation.ending.error or {}).get("message", "")
        operation.error = (operation.ending.error or {"code": error.code}) | {
            "message": f"{said}; its allowance of {left} still stands, for taking it back failed: {error.message}"
        }


def reverted(step: Step) -> RpcError:
    """Return the error of a step that was executed and undone."""
    return RpcError(-32000, f"{step.function or 'the transfer'} reverted on L1", {"hash": step.hashes[-1]})


def out_of_gas(step: Step) -> RpcError:
    """Return the error of a step that needed more gas than was approved."""
    limit = int((step.attempt or {}).get("gas", "0x0"), 16)
    return RpcError(
        -32000,
        f"{step.function or 'the transfer'} ran out of gas on L1: it used its whole limit of {limit}; ask again",
        {"hash": step.hashes[-1], "reason": "out_of_gas", "gas": hex(limit)},
    )


def left_out(sender: str, step: Step) -> RpcError:
    """Return the error of a step that waits behind a nonce nobody uses."""
    return RpcError(
        -32000,
        f"it waits behind a gap: a transaction of {sender} with a nonce below {step.nonce} was made elsewhere and got lost;"
        " send any transaction from that account to fill it",
    )
