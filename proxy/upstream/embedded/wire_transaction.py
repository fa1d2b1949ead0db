"""Transactions in wire form, mined or waiting.

Source: execution-apis TransactionInfo; EIP-2718 types 0 (legacy), 1 (2930), 2 (1559), 4 (7702). `blockTimestamp` is what nodes add today.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth.abc import BlockHeaderAPI, SetCodeAuthorizationAPI, SignedTransactionAPI
from eth_typing import Address

from proxy.upstream.embedded.wire import Wire, address_or_null, data, quantity, word

LEGACY, ACCESS_LIST, DYNAMIC_FEE, SET_CODE = 0, 1, 2, 4


def transaction_type(transaction: SignedTransactionAPI) -> int:
    """Return the EIP-2718 type."""
    return getattr(transaction, "type_id", None) or LEGACY


def effective_gas_price(transaction: SignedTransactionAPI, base_fee: int) -> int:
    """Return what one gas costs the sender, in wei, under a base fee (EIP-1559)."""
    return min(transaction.max_fee_per_gas, base_fee + transaction.max_priority_fee_per_gas)


def wire_transaction(
    transaction: SignedTransactionAPI, header: BlockHeaderAPI | None = None, index: int | None = None
) -> Wire:
    """Put a transaction into wire form; without a header it is waiting in the pool, and its place is null."""
    kind = transaction_type(transaction)
    mined = header is not None and index is not None
    wire: Wire = {
        "type": quantity(kind),
        "hash": data(transaction.hash),
        "nonce": quantity(transaction.nonce),
        "blockHash": data(header.hash) if mined and header else None,
        "blockNumber": quantity(header.block_number) if mined and header else None,
        "blockTimestamp": quantity(header.timestamp) if mined and header else None,
        "transactionIndex": quantity(index) if mined and index is not None else None,
        "from": data(transaction.sender),
        "to": address_or_null(transaction.to),
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(_price(transaction, header)),
        "input": data(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    return wire | (_legacy_fields(transaction) if kind == LEGACY else _typed_fields(transaction, kind))


def _price(transaction: SignedTransactionAPI, header: BlockHeaderAPI | None) -> int:
    if transaction_type(transaction) in (LEGACY, ACCESS_LIST):
        return transaction.gas_price
    if header is None or header.base_fee_per_gas is None:
        return transaction.max_fee_per_gas
    return effective_gas_price(transaction, header.base_fee_per_gas)


def _legacy_fields(transaction: SignedTransactionAPI) -> Wire:
    v = int(getattr(transaction, "v"))  # noqa: B009 -- only legacy classes have it, the interface does not name it
    # EIP-155 folds the chain id into v; before it, v was 27 or 28.
    wire: Wire = {"v": quantity(v)}
    return wire | {"chainId": quantity((v - 35) // 2)} if v >= 35 else wire


def _typed_fields(transaction: SignedTransactionAPI, kind: int) -> Wire:
    wire: Wire = {
        "chainId": quantity(transaction.chain_id or 0),
        "accessList": wire_access_list(transaction.access_list),
        "v": quantity(transaction.y_parity),
        "yParity": quantity(transaction.y_parity),
    }
    if kind >= DYNAMIC_FEE:
        wire["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        wire["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    if kind == SET_CODE:
        wire["authorizationList"] = [_authorization(entry) for entry in transaction.authorization_list]
    return wire


def wire_access_list(entries: Sequence[tuple[Address, Sequence[int]]]) -> list[Wire]:
    """Put an EIP-2930 access list into wire form."""
    return [{"address": data(address), "storageKeys": [word(slot) for slot in slots]} for address, slots in entries]


def _authorization(entry: SetCodeAuthorizationAPI) -> Wire:
    return {
        "chainId": quantity(entry.chain_id),
        "address": data(entry.address),
        "nonce": quantity(entry.nonce),
        "yParity": quantity(entry.y_parity),
        "r": quantity(entry.r),
        "s": quantity(entry.s),
    }
