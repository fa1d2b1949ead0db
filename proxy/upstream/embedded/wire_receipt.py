"""Receipts and logs in wire form.

Source: execution-apis ReceiptInfo and Log. eth-tester numbers logs per transaction; a log's index counts within its block, and so here.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth._utils.address import generate_contract_address
from eth.abc import BlockAPI, LogAPI, ReceiptAPI, SignedTransactionAPI

from proxy.upstream.embedded.wire import Wire, address_or_null, data, quantity, word
from proxy.upstream.embedded.wire_transaction import effective_gas_price, transaction_type

_SUCCESS = b"\x01"


def wire_receipts(block: BlockAPI, receipts: Sequence[ReceiptAPI]) -> list[Wire]:
    """Put the receipts of a block into wire form, in the order of its transactions."""
    wires: list[Wire] = []
    gas_before = logs_before = 0
    for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        wires.append(_receipt(block, index, transaction, receipt, gas_before, logs_before))
        gas_before = receipt.gas_used
        logs_before += len(receipt.logs)
    return wires


def _receipt(
    block: BlockAPI,
    index: int,
    transaction: SignedTransactionAPI,
    receipt: ReceiptAPI,
    gas_before: int,
    logs_before: int,
) -> Wire:
    creates = not transaction.to
    place: Wire = {
        "blockHash": data(block.hash),
        "blockNumber": quantity(block.number),
        "transactionHash": data(transaction.hash),
        "transactionIndex": quantity(index),
    }
    stamped = place | {"blockTimestamp": quantity(block.header.timestamp)}
    return place | {
        "type": quantity(transaction_type(transaction)),
        "status": quantity(int(receipt.state_root == _SUCCESS)),
        "from": data(transaction.sender),
        "to": address_or_null(transaction.to),
        "contractAddress": data(generate_contract_address(transaction.sender, transaction.nonce)) if creates else None,
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(receipt.gas_used - gas_before),
        "effectiveGasPrice": quantity(effective_gas_price(transaction, block.header.base_fee_per_gas or 0)),
        "logs": [_log(stamped, logs_before + offset, log) for offset, log in enumerate(receipt.logs)],
        "logsBloom": f"0x{receipt.bloom:0512x}",
    }


def _log(stamped: Wire, index: int, log: LogAPI) -> Wire:
    return stamped | {
        "address": data(log.address),
        "topics": [word(topic) for topic in log.topics],
        "data": data(log.data),
        "logIndex": quantity(index),
        "removed": False,
    }
