"""What gas costs: eth_gasPrice, eth_maxPriorityFeePerGas, eth_feeHistory, eth_blobBaseFee.

Source: execution-apis FeeHistoryResult; EIP-1559. Blocks are never full here, so the suggested tip is a constant (anvil's).
"""

from __future__ import annotations

from typing import Any

from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas

from proxy.upstream.embedded.chain import Sealed
from proxy.upstream.embedded.errors import invalid_params, refused
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import BlockRef, shown
from proxy.upstream.embedded.wire import Wire, quantity

SUGGESTED_TIP = 1_000_000_000
"""Tip in wei per gas."""

_MAX_BLOCKS = 1024
_BLOB_BASE_FEE = 1


def gas_price(node: Node) -> str:
    """Suggest a legacy gas price: next base fee and tip."""
    return quantity(node.next_base_fee() + SUGGESTED_TIP)


def max_priority_fee(node: Node) -> str:
    """Suggest a tip."""
    return quantity(SUGGESTED_TIP)


def base_fee(node: Node) -> str:
    """Return the base fee of the next block."""
    return quantity(node.next_base_fee())


def blob_base_fee(node: Node) -> str:
    """Return the blob base fee; there are no blobs, so it is the least there is."""
    return quantity(_BLOB_BASE_FEE)


def percentiles(value: Any) -> list[float]:
    """Read reward percentiles: numbers from 0 to 100 that do not fall."""
    if not isinstance(value, list) or any(isinstance(p, bool) or not isinstance(p, int | float) for p in value):
        raise invalid_params(f"expected an array of numbers, got {shown(value)}")
    if any(not 0 <= p <= 100 for p in value) or value != sorted(value):
        raise invalid_params(f"expected percentiles from 0 to 100 in rising order, got {shown(value)}")
    return [float(p) for p in value]


def fee_history(node: Node, count: int, newest: BlockRef, wanted: list[float] | None) -> Wire:
    """Return base fees, fill and rewards of `count` blocks up to `newest`; fewer where the chain is shorter."""
    last = node.chain.find(newest)
    if last is None:
        raise refused(f"request beyond head block: requested {newest!s}, head {node.chain.head.number}")
    count = min(count, _MAX_BLOCKS, last.number + 1)
    if count == 0:
        return {"oldestBlock": "0x0", "baseFeePerGas": [], "gasUsedRatio": []}
    blocks = node.chain.range(last.number - count + 1, last.number)
    fees = [sealed.header.base_fee_per_gas or 0 for sealed in blocks]
    fees.append(int(calculate_expected_base_fee_per_gas(last.header)))
    history: Wire = {
        "oldestBlock": quantity(blocks[0].number),
        "baseFeePerGas": [quantity(fee) for fee in fees],
        "gasUsedRatio": [sealed.header.gas_used / sealed.header.gas_limit for sealed in blocks],
        "baseFeePerBlobGas": [quantity(_BLOB_BASE_FEE)] * (count + 1),
        "blobGasUsedRatio": [0.0] * count,
    }
    return history | ({"reward": [_rewards(sealed, wanted) for sealed in blocks]} if wanted else {})


def _rewards(sealed: Sealed, wanted: list[float]) -> list[str]:
    """Return the tips at percentiles of the gas used in a block; an empty block has none, which is written as zeros."""
    base = sealed.header.base_fee_per_gas or 0
    tips = sorted(
        (int(str(receipt["effectiveGasPrice"]), 16) - base, int(str(receipt["gasUsed"]), 16))
        for receipt in sealed.receipts
    )
    return [quantity(_tip_at(tips, sealed.header.gas_used * percent / 100)) for percent in wanted]


def _tip_at(tips: list[tuple[int, int]], threshold: float) -> int:
    """Return the tip of the transaction that brings the gas used up to a threshold."""
    total = 0
    for tip, gas in tips:
        total += gas
        if total >= threshold:
            return tip
    return tips[-1][0] if tips else 0
