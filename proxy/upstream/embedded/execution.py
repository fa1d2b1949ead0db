"""Executing messages that change nothing: eth_call, eth_estimateGas, eth_createAccessList.

Each run gets a machine of its own from `node` and forgets it. Failure of the called code is an error with the revert's bytes, as
go-ethereum and anvil answer it: code 3, "execution reverted[: reason]".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from eth import exceptions as evm
from eth.abc import ComputationAPI, SignedTransactionAPI
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.spoof import SpoofTransaction

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.call_object import AccessList, Call, Overrides
from proxy.upstream.embedded.errors import REVERTED, NodeError, refused
from proxy.upstream.embedded.evm import MAX_INITCODE_SIZE, EmbeddedState, EmbeddedVM, least_gas
from proxy.upstream.embedded.genesis import GAS_LIMIT
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import BlockRef
from proxy.upstream.embedded.revert_reason import revert_reason
from proxy.upstream.embedded.wire import Wire, data, quantity
from proxy.upstream.embedded.wire_transaction import wire_access_list

_PLAIN_TRANSFER_GAS = 21_000
_CALL_STIPEND = 2_300
_ESTIMATE_TOLERANCE = 0.015
_ACCESS_LIST_ROUNDS = 8

_REASONS: tuple[tuple[type[evm.VMError], str], ...] = (
    (evm.OutOfGas, "out of gas"),
    (evm.InvalidInstruction, "invalid opcode"),
    (evm.InsufficientStack, "stack underflow"),
    (evm.FullStack, "stack limit reached 1024"),
    (evm.InvalidJumpDestination, "invalid jump destination"),
    (evm.WriteProtection, "write protection"),
    (evm.OutOfBoundsRead, "return data out of bounds"),
    (evm.ContractCreationCollision, "contract address collision"),
    (evm.StackDepthLimit, "max call depth exceeded"),
    (evm.InsufficientFunds, "insufficient balance for transfer"),
)


@dataclass(frozen=True)
class Outcome:
    """What an execution did: gas in the sense of a receipt, before and after refunds."""

    computation: ComputationAPI
    gas_used: int
    gas_before_refund: int
    touched: dict[bytes, set[int]]

    def expect_success(self) -> Outcome:
        """Return itself, or raise what the failed code said as NodeError."""
        if self.computation.is_error:
            raise failure(self.computation)
        return self


def failure(computation: ComputationAPI) -> NodeError:
    """Say how code failed: a revert with its data (code 3), anything else as -32000."""
    error = computation.error
    if isinstance(error, evm.Revert):
        reason = revert_reason(computation.output)
        return NodeError(REVERTED, "execution reverted" + (f": {reason}" if reason else ""), data(computation.output))
    return refused(next((text for kind, text in _REASONS if isinstance(error, kind)), "execution failed"))


def execute(node: Node, call: Call, ref: BlockRef, edit: Overrides | None, gas: int) -> Outcome:
    """Run a message with `gas` on the state after a block.

    Raises NodeError -32000 if the message itself is not valid there (funds, gas below the intrinsic cost, fee below the base fee).
    """
    vm = node.vm(ref, free=call.free)
    state = cast(EmbeddedState, vm.state)
    if edit is not None:
        edit(state)
    transaction = _spoofed(call, gas, state.get_nonce(call.sender))
    _check(vm, call, transaction)
    state.touched = {}
    computation = state.apply_transaction(transaction)
    return Outcome(
        computation=computation,
        gas_used=vm.finalize_gas_used(transaction, computation),
        gas_before_refund=gas - computation.get_gas_remaining(),
        touched=state.touched,
    )


def _spoofed(call: Call, gas: int, nonce: int) -> SignedTransactionAPI:
    unsigned = PragueTransactionBuilder.new_unsigned_dynamic_fee_transaction(
        chain_id=CHAIN_ID,
        nonce=nonce,
        max_priority_fee_per_gas=call.tip,
        max_fee_per_gas=call.max_fee,
        gas=gas,
        to=call.to,
        value=call.value,
        data=call.data,
        access_list=call.access_list,
    )
    return cast(SignedTransactionAPI, SpoofTransaction(unsigned, from_=call.sender))


def _check(vm: EmbeddedVM, call: Call, transaction: SignedTransactionAPI) -> None:
    if not call.to and len(call.data) > MAX_INITCODE_SIZE:
        raise refused(f"max initcode size exceeded: code size {len(call.data)} limit {MAX_INITCODE_SIZE}")
    least = least_gas(transaction)
    if transaction.gas < least:
        raise refused(f"intrinsic gas too low: have {transaction.gas}, want {least}")
    base_fee = vm.get_header().base_fee_per_gas or 0
    if call.max_fee < base_fee:
        raise refused(
            "max fee per gas less than block base fee: "
            f"address {data(call.sender)}, maxFeePerGas: {call.max_fee}, baseFee: {base_fee}"
        )
    have, want = vm.state.get_balance(call.sender), call.value + transaction.gas * call.max_fee
    if have < want:
        raise refused(
            f"insufficient funds for gas * price + value: address {data(call.sender)} have {have} want {want}"
        )


def eth_call(node: Node, call: Call, ref: BlockRef, edit: Overrides | None) -> str:
    """Execute and return what the code returned, as data."""
    gas = min(call.gas or GAS_LIMIT, GAS_LIMIT)
    return data(execute(node, call, ref, edit, gas).expect_success().computation.output)


def eth_estimate_gas(node: Node, call: Call, ref: BlockRef, edit: Overrides | None) -> str:
    """Find the least gas with which a message succeeds, within 1.5 % above it; a plain transfer exactly.

    Source: go-ethereum eth/gasestimator, whose search this follows so that estimates agree.
    """
    cap = _gas_cap(node, call, ref, edit)
    if _is_plain_transfer(node, call, ref, edit) and cap >= _PLAIN_TRANSFER_GAS:
        execute(node, call, ref, edit, _PLAIN_TRANSFER_GAS).expect_success()
        return quantity(_PLAIN_TRANSFER_GAS)
    return quantity(_search(node, call, ref, edit, cap))


def _is_plain_transfer(node: Node, call: Call, ref: BlockRef, edit: Overrides | None) -> bool:
    if edit is not None or call.data or call.access_list or not call.to:
        return False
    return bytes(call.to) not in _precompiles() and not node.state(ref).get_code(call.to)


def _gas_cap(node: Node, call: Call, ref: BlockRef, edit: Overrides | None) -> int:
    cap = min(call.gas or GAS_LIMIT, GAS_LIMIT)
    if call.free:
        return cap
    state = node.state(ref)
    if edit is not None:
        edit(state)
    return min(cap, max(state.get_balance(call.sender) - call.value, 0) // call.max_fee)


def _search(node: Node, call: Call, ref: BlockRef, edit: Overrides | None, cap: int) -> int:
    if cap < least_gas(_spoofed(call, cap, 0)):
        raise refused(f"gas required exceeds allowance ({cap})")
    first = execute(node, call, ref, edit, cap)
    if first.computation.is_error and isinstance(first.computation.error, evm.OutOfGas):
        raise refused(f"gas required exceeds allowance ({cap})")
    first.expect_success()

    def succeeds(gas: int) -> bool:
        return not execute(node, call, ref, edit, gas).computation.is_error

    # What was used after refunds can never suffice with one unit less; calls forward at most 63/64 of what is left.
    low, high = first.gas_used - 1, cap
    hopeful = (first.gas_before_refund + _CALL_STIPEND) * 64 // 63
    if low < hopeful < high:
        low, high = (low, hopeful) if succeeds(hopeful) else (hopeful, high)
    while low + 1 < high and (high - low) / high >= _ESTIMATE_TOLERANCE:
        middle = min((low + high) // 2, low * 2)
        low, high = (low, middle) if succeeds(middle) else (middle, high)
    return high


def eth_create_access_list(node: Node, call: Call, ref: BlockRef, edit: Overrides | None) -> Wire:
    """Return the EIP-2930 access list a message would use, and its gas with that list; a failing call says so in `error`."""
    gas = min(call.gas or GAS_LIMIT, GAS_LIMIT)
    # Warm from the start (EIP-2929, 3651), so listing them would only cost gas.
    excluded = {bytes(call.sender), bytes(call.to), bytes(node.chain.head.header.coinbase)} | _precompiles()
    for _ in range(_ACCESS_LIST_ROUNDS):
        outcome = execute(node, call, ref, edit, gas)
        listed = _listed(outcome.touched, excluded)
        if listed == call.access_list:
            break
        # Warm slots change gas, and gas can change what code does: again, until the list no longer changes.
        call = replace(call, access_list=listed)
    answer: Wire = {"accessList": wire_access_list(listed), "gasUsed": quantity(outcome.gas_used)}
    return answer | ({"error": failure(outcome.computation).message} if outcome.computation.is_error else {})


def _precompiles() -> set[bytes]:
    return {bytes(address) for address in EmbeddedState.computation_class.get_precompiles()}


def _listed(touched: dict[bytes, set[int]], excluded: set[bytes]) -> AccessList:
    return cast(
        AccessList,
        tuple(
            (address, tuple(sorted(slots)))
            for address, slots in sorted(touched.items())
            if slots or address not in excluded
        ),
    )
