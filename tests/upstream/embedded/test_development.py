"""Snapshots, time, edits of state, mining on demand: what test suites written for anvil and Hardhat use."""

from __future__ import annotations

import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.upstream.embedded import clock
from proxy.upstream.embedded.node import Node
from tests.upstream.embedded.conftest import ETHER, GWEI, OTHER, OWNER, Probe, Rpc, sign

SOMEBODY = "0x" + "5e" * 20


async def number(rpc: Rpc, tag: str = "latest", field: str = "number") -> int:
    return int((await rpc.result("eth_getBlockByNumber", tag, False))[field], 16)


async def test_a_revert_undoes_everything_after_the_snapshot(rpc: Rpc, probe: Probe) -> None:
    receipt = await rpc.mined(sign(nonce=0, to=None, gas=900_000, data=probe.bytecode))
    contract = receipt["contractAddress"]
    before = await rpc.result("eth_getBlockByNumber", "latest", True)
    snapshot = await rpc.result("evm_snapshot")
    raw = sign(nonce=1, to=contract, gas=200_000, value=5, data=probe.store(9))
    undone = await rpc.mined(raw)
    await rpc.result("anvil_setBalance", SOMEBODY, "0x5")
    await rpc.result("evm_increaseTime", 1000)
    await rpc.result("anvil_mine", "0x3")
    assert await rpc.result("evm_revert", snapshot) is True
    assert await rpc.result("eth_getBlockByNumber", "latest", True) == before
    assert await rpc.result("eth_getStorageAt", contract, "0x0", "latest") == f"0x{7:064x}"
    assert await rpc.result("eth_getBalance", SOMEBODY, "latest") == "0x0"
    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert await rpc.result(method, undone["transactionHash"]) is None
    assert await rpc.result("eth_getBlockByHash", undone["blockHash"], False) is None
    assert await rpc.result("eth_getLogs", {"fromBlock": "0x0"}) == []
    again = await rpc.mined(raw)
    assert (again["blockNumber"], again["status"]) == ("0x2", "0x1")
    assert again["blockHash"] != undone["blockHash"]
    assert await number(rpc, field="timestamp") < time.time() + 100


async def test_a_snapshot_is_used_up_with_all_later_ones(rpc: Rpc) -> None:
    first, second, third = [await rpc.result("evm_snapshot") for _ in range(3)]
    assert len({first, second, third}) == 3
    assert await rpc.result("evm_revert", second) is True
    assert await rpc.result("evm_revert", second) is False
    assert await rpc.result("evm_revert", third) is False
    assert await rpc.result("evm_revert", "0x99") is False
    assert await rpc.result("evm_revert", first) is True


async def test_edits_of_state_hold_for_calls_blocks_and_history(rpc: Rpc, probe: Probe) -> None:
    await rpc.result("anvil_setBalance", SOMEBODY, hex(3 * ETHER))
    await rpc.result("hardhat_setNonce", SOMEBODY, "0x7")
    await rpc.result("anvil_setCode", SOMEBODY, "0x602a60005260206000f3")
    assert await rpc.result("hardhat_setStorageAt", SOMEBODY, "0x1", f"0x{9:064x}") is True
    for mined in range(2):
        assert await number(rpc) == mined
        assert await rpc.result("eth_getBalance", SOMEBODY, "latest") == hex(3 * ETHER)
        assert await rpc.result("eth_getTransactionCount", SOMEBODY, "latest") == "0x7"
        assert int(await rpc.result("eth_call", {"to": SOMEBODY}, "latest"), 16) == 42
        assert await rpc.result("eth_getStorageAt", SOMEBODY, "0x1", "latest") == f"0x{9:064x}"
        if not mined:
            await rpc.mined(sign(nonce=0, to="0x" + "77" * 20, value=1))
    await rpc.result("hardhat_setBalance", OTHER.address, "0x0")
    error = await rpc.error("eth_sendRawTransaction", sign(OTHER, nonce=0, to=SOMEBODY))
    assert error["message"].startswith("insufficient funds")
    await rpc.result("evm_mine")
    assert await rpc.result("eth_getBalance", OTHER.address, "0x0") == hex(10_000 * ETHER)


async def test_time_jumps_and_stands(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: now + 0.5))
    assert await rpc.result("evm_increaseTime", 1000) == 1000
    assert await rpc.result("evm_increaseTime", "0x10") == 1016
    assert await rpc.result("evm_mine") == "0x0"
    assert await number(rpc, field="timestamp") == now + 1016
    await rpc.result("evm_setNextBlockTimestamp", now + 5000)
    await rpc.result("evm_mine")
    assert await number(rpc, field="timestamp") == now + 5000
    await rpc.result("evm_mine")
    assert await number(rpc, field="timestamp") == now + 5001
    await rpc.result("evm_mine", hex(now + 6000))
    assert await number(rpc, field="timestamp") == now + 6000
    await rpc.result("evm_mine", {"timestamp": now + 7000})
    assert await number(rpc, field="timestamp") == now + 7000
    error = await rpc.error("evm_setNextBlockTimestamp", now)
    assert "not later than the newest block's" in error["message"]
    assert (await rpc.error("evm_increaseTime", hex(2**63)))["code"] == -32602


async def test_many_blocks_at_an_interval(rpc: Rpc) -> None:
    await rpc.result("anvil_mine", "0x4", "0x3c")
    times = [await number(rpc, hex(n), "timestamp") for n in range(1, 5)]
    assert [b - a for a, b in pairwise(times)] == [60, 60, 60]
    assert (await rpc.error("hardhat_mine", "0x989680"))["code"] == -32602


async def test_later_nonces_wait_for_earlier_ones(rpc: Rpc) -> None:
    second = await rpc.result("eth_sendRawTransaction", sign(nonce=1, to=SOMEBODY, value=1))
    assert await number(rpc) == 0
    waiting = await rpc.result("eth_getTransactionByHash", second)
    assert (waiting["blockNumber"], waiting["blockHash"], waiting["transactionIndex"]) == (None, None, None)
    assert await rpc.result("eth_getTransactionReceipt", second) is None
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "pending") == "0x0"
    first = await rpc.mined(sign(nonce=0, to=SOMEBODY, value=2))
    assert first["blockNumber"] == "0x1"
    assert (await rpc.result("eth_getTransactionReceipt", second))["blockNumber"] == "0x2"
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "pending") == "0x2"


async def test_without_automine_blocks_are_made_on_demand(rpc: Rpc, node: Node) -> None:
    assert await rpc.result("evm_setAutomine", False) is True
    sent = [await rpc.result("eth_sendRawTransaction", sign(nonce=n, to=SOMEBODY, value=1)) for n in range(2)]
    sent.append(await rpc.result("eth_sendRawTransaction", sign(OTHER, nonce=0, to=SOMEBODY, value=1)))
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "pending") == "0x2"
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "latest") == "0x0"
    assert await rpc.result("eth_getBalance", SOMEBODY, "pending") == "0x3"
    assert await rpc.result("eth_getBalance", SOMEBODY, "latest") == "0x0"
    pending = await rpc.result("eth_getBlockByNumber", "pending", False)
    assert (pending["number"], set(pending["transactions"])) == ("0x1", set(sent))
    await rpc.result("evm_mine")
    block = await rpc.result("eth_getBlockByNumber", "latest", False)
    assert set(block["transactions"]) == set(sent)
    receipts = await rpc.result("eth_getBlockReceipts", "latest")
    assert [receipt["cumulativeGasUsed"] for receipt in receipts] == [hex(21_000 * n) for n in (1, 2, 3)]
    assert [receipt["transactionIndex"] for receipt in receipts] == ["0x0", "0x1", "0x2"]
    assert not list(node.pool)


async def test_a_waiting_transaction_can_be_outbid(rpc: Rpc) -> None:
    await rpc.result("evm_setAutomine", False)
    fees = {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI}
    await rpc.result("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY, value=1, **fees))
    slightly: dict[str, Any] = {"maxFeePerGas": 3 * GWEI + 1, "maxPriorityFeePerGas": GWEI + 1}
    error = await rpc.error("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY, value=2, **slightly))
    assert error == {"code": -32000, "message": "replacement transaction underpriced"}
    more: dict[str, Any] = {"maxFeePerGas": 33 * GWEI // 10, "maxPriorityFeePerGas": 11 * GWEI // 10}
    winner = await rpc.result("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY, value=2, **more))
    await rpc.result("evm_setAutomine", True)
    assert (await rpc.result("eth_getTransactionReceipt", winner))["status"] == "0x1"
    assert await rpc.result("eth_getBalance", SOMEBODY, "latest") == "0x2"


async def test_a_snapshot_remembers_what_waited(rpc: Rpc) -> None:
    await rpc.result("evm_setAutomine", False)
    sent = await rpc.result("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY, value=1))
    snapshot = await rpc.result("evm_snapshot")
    await rpc.result("evm_mine")
    assert (await rpc.result("eth_getTransactionByHash", sent))["blockNumber"] == "0x1"
    await rpc.result("evm_revert", snapshot)
    assert (await rpc.result("eth_getTransactionByHash", sent))["blockNumber"] is None
    await rpc.result("evm_mine")
    assert await rpc.result("eth_getBalance", SOMEBODY, "latest") == "0x1"


@pytest.mark.parametrize("method", ["anvil_setBalance", "hardhat_setNonce"])
async def test_values_too_large_are_refused(rpc: Rpc, method: str) -> None:
    assert (await rpc.error(method, SOMEBODY, str(2**256)))["code"] == -32602
