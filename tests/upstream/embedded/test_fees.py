"""Fees: suggestions that work, and a history that agrees with the blocks."""

from __future__ import annotations

import pytest

from tests.upstream.embedded.conftest import GWEI, OTHER, Rpc, sign

SOMEBODY = "0x" + "5e" * 20


async def test_suggestions_are_accepted(rpc: Rpc) -> None:
    price = int(await rpc.result("eth_gasPrice"), 16)
    assert (await rpc.mined(sign(nonce=0, to=SOMEBODY, gasPrice=price)))["status"] == "0x1"
    tip = int(await rpc.result("eth_maxPriorityFeePerGas"), 16)
    base = int(await rpc.result("eth_baseFee"), 16)
    receipt = await rpc.mined(sign(nonce=1, to=SOMEBODY, maxFeePerGas=base + tip, maxPriorityFeePerGas=tip))
    assert int(receipt["effectiveGasPrice"], 16) == base + tip
    block = await rpc.result("eth_getBlockByNumber", "latest", False)
    assert int(block["baseFeePerGas"], 16) == base


async def test_the_history_agrees_with_the_blocks(rpc: Rpc) -> None:
    for nonce, tip in enumerate((1, 3, 2)):
        await rpc.mined(sign(nonce=nonce, to=SOMEBODY, maxPriorityFeePerGas=tip))
    history = await rpc.result("eth_feeHistory", "0x3", "latest", [0, 50.5, 100])
    assert history["oldestBlock"] == "0x1"
    assert history["reward"] == [["0x1"] * 3, ["0x3"] * 3, ["0x2"] * 3]
    for number, (fee, ratio) in enumerate(
        zip(history["baseFeePerGas"], history["gasUsedRatio"], strict=False), start=1
    ):
        block = await rpc.result("eth_getBlockByNumber", hex(number), False)
        assert fee == block["baseFeePerGas"]
        assert ratio == int(block["gasUsed"], 16) / int(block["gasLimit"], 16)
    assert history["baseFeePerGas"][3] == await rpc.result("eth_baseFee")


async def test_rewards_are_weighed_by_gas(rpc: Rpc) -> None:
    await rpc.result("evm_setAutomine", False)
    for nonce, tip in enumerate((5, 7)):
        await rpc.result("eth_sendRawTransaction", sign(nonce=nonce, to=SOMEBODY, maxPriorityFeePerGas=tip))
    large = sign(OTHER, nonce=0, to=SOMEBODY, gas=60_000, data=b"\xff" * 900, maxPriorityFeePerGas=2)
    await rpc.result("eth_sendRawTransaction", large)
    await rpc.result("evm_mine")
    history = await rpc.result("eth_feeHistory", "0x1", "latest", [0, 57, 58, 78, 79, 100])
    assert history["reward"] == [["0x2", "0x2", "0x5", "0x5", "0x7", "0x7"]]


@pytest.mark.parametrize("count", ["0x1", 1, "0x400", "0xffff"])
async def test_a_short_chain_gives_a_short_history(rpc: Rpc, count: object) -> None:
    history = await rpc.result("eth_feeHistory", count, "latest", None)
    assert history["oldestBlock"] == "0x0"
    assert history["baseFeePerGas"] == [hex(GWEI), hex(GWEI * 7 // 8)]
    assert "reward" not in history


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (["0x1", "0x9"], -32000),
        (["0x1", "0x" + "11" * 32], -32602),
        (["0x1"], -32602),
        (["0x1", "latest", [50, 20]], -32602),
        (["0x1", "latest", [101]], -32602),
        (["0x1", "latest", [-1]], -32602),
        (["0x1", "latest", ["50"]], -32602),
        (["0x1", "latest", [True]], -32602),
        (["0x1", "latest", 5], -32602),
        ([-1, "latest", []], -32602),
    ],
)
async def test_refusals(rpc: Rpc, params: list[object], code: int) -> None:
    assert (await rpc.error("eth_feeHistory", *params))["code"] == code
