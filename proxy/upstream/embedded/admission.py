"""What a raw transaction must satisfy before the node takes it.

py-evm would refuse the same transactions while executing, with its own words; here they are refused in go-ethereum's, which client
libraries recognise. Source: go-ethereum core/txpool/validation.go; EIP-155, 1559, 2718, 3860, 7623.
"""

from __future__ import annotations

import rlp  # type: ignore[import-untyped]
from eth.abc import SignedTransactionAPI, StateAPI
from eth.constants import SECPK1_N
from eth.exceptions import UnrecognizedTransactionType
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_utils.exceptions import ValidationError

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.errors import invalid_params, refused
from proxy.upstream.embedded.evm import MAX_INITCODE_SIZE, least_gas
from proxy.upstream.embedded.wire import data
from proxy.upstream.embedded.wire_transaction import ACCESS_LIST, DYNAMIC_FEE, LEGACY, SET_CODE

_SERVED_TYPES = (LEGACY, ACCESS_LIST, DYNAMIC_FEE, SET_CODE)


def decode(raw: bytes) -> SignedTransactionAPI:
    """Decode a signed transaction and recover its sender.

    Raises NodeError: -32602 if it is no transaction, -32000 for a type, chain or signature this node does not take.
    """
    if raw and raw[0] < 0xC0 and raw[0] not in _SERVED_TYPES:
        raise refused(f"transaction type not supported: {raw[0]:#x} (served: 0x0, 0x1, 0x2, 0x4)")
    try:
        transaction = PragueTransactionBuilder.decode(raw)
        _check_signature_values(transaction)
        _check_chain(transaction)
        _check_signature(transaction)
        transaction.validate()
    except (rlp.DecodingError, rlp.DeserializationError, UnrecognizedTransactionType, ValidationError) as error:
        raise invalid_params(f"not a signed transaction: {error}") from None
    return transaction


def _check_signature_values(transaction: SignedTransactionAPI) -> None:
    v = getattr(transaction, "v", None)  # legacy classes alone have it
    parity_fits = transaction.y_parity in (0, 1) if v is None else v in (27, 28) or v >= 35
    if not (parity_fits and 0 < transaction.r < SECPK1_N and 0 < transaction.s <= SECPK1_N // 2):
        raise refused("invalid transaction v, r, s values")


def _check_chain(transaction: SignedTransactionAPI) -> None:
    # A legacy transaction from before EIP-155 names no chain; deterministic deployers rest on such.
    if getattr(transaction, "v", None) in (27, 28):
        return
    if transaction.chain_id != CHAIN_ID:
        raise refused(f"invalid chain id for signer: have {transaction.chain_id} want {CHAIN_ID}")


def _check_signature(transaction: SignedTransactionAPI) -> None:
    try:
        transaction.check_signature_validity()
    except Exception:  # noqa: BLE001 -- eth-keys' own exceptions; only the wallet may import it (architecture.md)
        raise refused("invalid sender: the signature of the transaction does not fit it") from None


def check(transaction: SignedTransactionAPI, state: StateAPI, gas_limit: int, base_fee: int) -> None:
    """Check a decoded transaction against the state it would run on; `base_fee` in wei is the next block's.

    Raises NodeError -32000.
    """
    _check_gas(transaction, gas_limit)
    _check_fees(transaction, base_fee)
    nonce = state.get_nonce(transaction.sender)
    if transaction.nonce < nonce:
        raise refused(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
    _check_balance(transaction, state)


def _check_gas(transaction: SignedTransactionAPI, gas_limit: int) -> None:
    if transaction.gas > gas_limit:
        raise refused(f"exceeds block gas limit: gas {transaction.gas}, block gas limit {gas_limit}")
    if not transaction.to and len(transaction.data) > MAX_INITCODE_SIZE:
        raise refused(f"max initcode size exceeded: code size {len(transaction.data)} limit {MAX_INITCODE_SIZE}")
    least = least_gas(transaction)
    if transaction.gas < least:
        raise refused(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {least}")


def _check_fees(transaction: SignedTransactionAPI, base_fee: int) -> None:
    fee, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    if tip > fee:
        raise refused(
            f"max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
        )
    if fee < base_fee:
        raise refused(
            "max fee per gas less than block base fee: "
            f"address {data(transaction.sender)}, maxFeePerGas: {fee}, baseFee: {base_fee}"
        )


def _check_balance(transaction: SignedTransactionAPI, state: StateAPI) -> None:
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    balance = state.get_balance(transaction.sender)
    if balance < cost:
        raise refused(
            f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {cost - balance}"
        )
