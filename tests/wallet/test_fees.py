"""Bounds of gas and fee, on chains with a base fee and without, from nodes that know little."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.errors import Disconnected, InvalidParams, RpcError
from proxy.wallet.fees import FALLBACK_TIP, Fees, Wanted, bound_gas, choose_fees
from tests.wallet.fake_chain import BASE_FEE, FakeChain, gone


@pytest.fixture
def before_london(chain: FakeChain, monkeypatch: pytest.MonkeyPatch) -> FakeChain:
    """A chain whose blocks have no base fee."""
    monkeypatch.setattr(chain, "eth_getBlockByNumber", lambda *_: {"gasLimit": hex(8_000_000)})
    monkeypatch.setattr(chain, "eth_gasPrice", lambda: hex(7 * 10**9), raising=False)
    return chain


async def test_without_a_base_fee_it_is_a_legacy_price(before_london: FakeChain) -> None:
    assert await choose_fees(before_london, Wanted()) == Fees(7 * 10**9, None, 8_000_000)
    with pytest.raises(InvalidParams, match="maxFeePerGas"):
        await choose_fees(before_london, Wanted(max_fee=10**9))


async def test_a_node_without_a_tip_gets_the_usual_one(chain: FakeChain) -> None:
    chain.refuse_calls["eth_maxPriorityFeePerGas"] = RpcError(-32601, "method not found")
    assert await choose_fees(chain, Wanted()) == Fees(2 * BASE_FEE + FALLBACK_TIP, FALLBACK_TIP, 30_000_000)
    chain.refuse_calls["eth_maxPriorityFeePerGas"] = gone()
    with pytest.raises(Disconnected):
        await choose_fees(chain, Wanted())


async def test_a_named_fee_bounds_the_tip(chain: FakeChain) -> None:
    assert await choose_fees(chain, Wanted(max_fee=BASE_FEE)) == Fees(BASE_FEE, BASE_FEE, 30_000_000)
    assert await choose_fees(chain, Wanted(tip=5)) == Fees(2 * BASE_FEE + 5, 5, 30_000_000)


@pytest.mark.parametrize(
    ("estimate", "limit", "bound"),
    [
        (21_000, 30_000_000, 21_000),  # a plain transfer needs no margin
        (21_001, 30_000_000, 26_251),
        (100_000, 110_000, 110_000),  # never above a block
        (120_000, 110_000, 120_000),  # but what the node itself said stays
        (16_000_000, 60_000_000, 1 << 24),  # EIP-7825
    ],
)
async def test_gas_is_a_quarter_above_the_estimate(chain: FakeChain, estimate: int, limit: int, bound: int) -> None:
    chain.estimate = estimate
    call: dict[str, Any] = {"to": "0x" + "11" * 20}
    assert await bound_gas(chain, call, limit) == bound
