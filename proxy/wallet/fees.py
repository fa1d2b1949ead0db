"""What a transaction may cost at most: gas and fee bounds from the node's present state. Source: EIP-1559.

Asked before the owner is, so that the question shows an upper bound, and the transaction signed is exactly that one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from middleware.errors import Disconnected, InvalidParams, RpcError
from proxy.wallet.l1_port import L1

TRANSFER_GAS = 21_000
MAX_TRANSACTION_GAS = 1 << 24  # EIP-7825
FALLBACK_TIP = 10**9  # 1 gwei, for nodes without eth_maxPriorityFeePerGas


@dataclass(frozen=True, slots=True)
class Wanted:
    """Fees the asker named, in wei per gas; None: ours to choose. `legacy`: a transaction of type 0 or 1 is asked for."""

    gas_price: int | None = None
    max_fee: int | None = None
    tip: int | None = None
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Fees:
    """Upper bounds in wei per gas; `tip` None: a legacy gas price. `gas_limit` is that of a block."""

    max_fee: int
    tip: int | None
    gas_limit: int


@dataclass(frozen=True, slots=True)
class Market:
    """What a block takes now, in wei per gas: `base` fee (None: a chain without one) and the node's tip or gas price."""

    base: int | None
    tip: int

    @property
    def price(self) -> int:
        """What gets a transaction into the next blocks: room for the base fee to rise twice (EIP-1559: an eighth a block)."""
        return self.tip if self.base is None else self.base * 5 // 4 + self.tip

    @property
    def least(self) -> int:
        """What a block takes at all."""
        return self.base or 0


async def market_of(l1: L1) -> Market:
    """Return the present market. Raise `Disconnected` or the node's error."""
    block = await l1.call("eth_getBlockByNumber", "latest", False)
    if block.get("baseFeePerGas") is None:
        return Market(None, int(await l1.call("eth_gasPrice"), 16))
    return Market(int(block["baseFeePerGas"], 16), await _tip(l1))


async def choose_fees(l1: L1, wanted: Wanted) -> Fees:
    """Return the fee bounds: twice the base fee and the node's tip where the asker named none. Raise `InvalidParams`."""
    if wanted.gas_price is not None and (wanted.max_fee is not None or wanted.tip is not None):
        raise InvalidParams("gasPrice", "either gasPrice or maxFeePerGas and maxPriorityFeePerGas", "both")
    block = await l1.call("eth_getBlockByNumber", "latest", False)
    limit = int(block["gasLimit"], 16)
    base = int(block["baseFeePerGas"], 16) if block.get("baseFeePerGas") is not None else None
    if wanted.gas_price is not None:
        _at_least(base, wanted.gas_price, "gasPrice")
        return Fees(wanted.gas_price, None, limit)
    if base is None or wanted.legacy:
        if wanted.max_fee is not None or wanted.tip is not None:
            raise InvalidParams("maxFeePerGas", "gasPrice (no base fee here, or type 0 or 1)", "EIP-1559 fees")
        return Fees(max(2 * (base or 0), int(await l1.call("eth_gasPrice"), 16)), None, limit)
    tip = wanted.tip if wanted.tip is not None else await _tip(l1)
    if wanted.max_fee is None:
        return Fees(2 * base + tip, tip, limit)
    _at_least(base, wanted.max_fee, "maxFeePerGas")
    if wanted.tip is not None and wanted.tip > wanted.max_fee:
        raise InvalidParams("maxPriorityFeePerGas", "at most maxFeePerGas", hex(wanted.tip))
    return Fees(wanted.max_fee, min(tip, wanted.max_fee), limit)


async def bound_gas(l1: L1, call: dict[str, Any], gas_limit: int) -> int:
    """Return the node's estimate and a quarter more, within a block. Raise the node's error when the call reverts."""
    estimate = int(await l1.call("eth_estimateGas", call), 16)
    if estimate == TRANSFER_GAS:
        return estimate
    return min(estimate * 5 // 4, max(estimate, min(gas_limit, MAX_TRANSACTION_GAS)))


def check_gas(gas: int, gas_limit: int) -> None:
    """Raise `InvalidParams` for a gas limit that no node takes: below a plain transfer's, above a block's."""
    if not TRANSFER_GAS <= gas <= gas_limit:
        raise InvalidParams("gas", f"{hex(TRANSFER_GAS)} to {hex(gas_limit)}, the limit of a block", hex(gas))


async def balance_of(l1: L1, address: str) -> int:
    """Return the account's balance in wei with its pending transactions applied."""
    return int(await l1.call("eth_getBalance", address, "pending"), 16)


async def fees_and_balance(l1: L1, address: str, wanted: Wanted) -> tuple[Fees, int]:
    """Return both, asked at once."""
    fees, balance = await asyncio.gather(choose_fees(l1, wanted), balance_of(l1, address))
    return fees, balance


async def _tip(l1: L1) -> int:
    try:
        return int(await l1.call("eth_maxPriorityFeePerGas"), 16)
    except Disconnected:
        raise
    except RpcError:
        return FALLBACK_TIP


def _at_least(base: int | None, fee: int, param: str) -> None:
    if base is not None and fee < base:
        raise InvalidParams(param, f"at least the present base fee, {hex(base)}", hex(fee))
