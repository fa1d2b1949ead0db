"""Blocks in wire form.

Source: execution-apis Block, Prague header. `totalDifficulty` is left out as current nodes do: after the merge it says nothing.
"""

from __future__ import annotations

from typing import cast

import rlp  # type: ignore[import-untyped]
from eth.vm.forks.prague.blocks import PragueBlockHeader

from proxy.upstream.embedded.chain import Sealed
from proxy.upstream.embedded.wire import Wire, data, quantity


def wire_block(sealed: Sealed, *, full: bool) -> Wire:
    """Put a block into wire form, with whole transactions if `full`, else with their hashes."""
    header = sealed.header
    return {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "mixHash": data(header.mix_hash),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "extraData": data(header.extra_data),
        "size": quantity(len(rlp.encode(sealed.block))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee_per_gas or 0),
        "withdrawalsRoot": data(header.withdrawals_root or b""),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root or b""),
        "requestsHash": data(cast(PragueBlockHeader, header).requests_hash),
        "transactions": list(sealed.transactions) if full else [wire["hash"] for wire in sealed.transactions],
        "uncles": [],
        "withdrawals": [],
    }
