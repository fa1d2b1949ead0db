"""The turns of an operation on a real node: stuck below the base fee, dropped, reorganised, displaced, planned, sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from proxy.upstream.l1 import L1
from tests.conftest import Anvil
from tests.host.neighbours import new_keyring
from tests.host.operations_bench import ETHER, PLUGIN, Bench, Owner, plugin
from tests.host.small_gateway import CREATION
from tests.wallet.conftest import OWNER

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
GWEI = 10**9
pytestmark = pytest.mark.node


@pytest.fixture
async def bench(anvil: Anvil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A bench on a chain that counts three confirmations and mines when it is told to, with the gateway deployed."""
    monkeypatch.setattr(L1, "is_dev", property(lambda _: False))
    l1 = L1([anvil.ipc])
    await l1.start()
    keyring = new_keyring(tmp_path)
    bench = Bench(tmp_path / "chain.db", l1, keyring, Owner())
    created = await bench.transactions.execute(await bench.transactions.prepare(OWNER, None, 0, CREATION))
    async with asyncio.timeout(60):
        while (receipt := await l1.call("eth_getTransactionReceipt", created)) is None:  # noqa: ASYNC110  anvil tells nobody
            await asyncio.sleep(0.005)
    gateway = to_checksum_address(receipt["contractAddress"])
    bench.plugin = plugin(gateways=(replace(plugin().gateways[0], address=gateway),))
    await l1.call("evm_setAutomine", False)
    await bench.operations.start()
    yield bench
    await bench.operations.close()
    bench.database.close()
    await l1.close()


def steps(bench: Bench) -> list[dict[str, Any]]:
    """The steps of the newest operation."""
    found: list[dict[str, Any]] = bench.operations.get(PLUGIN)[-1]["steps"]
    return found


async def mine(bench: Bench, base_fee: int = GWEI) -> None:
    """Mine one block of that base fee."""
    await bench.chain.call("anvil_setNextBlockBaseFeePerGas", hex(base_fee))
    await bench.chain.call("anvil_mine", "0x1")


async def mine_until(bench: Bench, condition: Any, base_fee: int = GWEI) -> None:
    """Mine blocks of that base fee until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await mine(bench, base_fee)
            await asyncio.sleep(0.02)


async def known(bench: Bench, transaction: str) -> dict[str, Any]:
    """Return a transaction once the node has it: its hash is on disk before it is sent."""
    async with asyncio.timeout(60):
        while (found := await bench.chain.call("eth_getTransactionByHash", transaction)) is None:  # noqa: ASYNC110  anvil tells nobody
            await asyncio.sleep(0.005)
    return dict(found)


async def balance(bench: Bench, address: str) -> int:
    return int(await bench.chain.call("eth_getBalance", address, "latest"), 16)


async def nonces(bench: Bench, address: str = OWNER) -> int:
    return int(await bench.chain.call("eth_getTransactionCount", address, "latest"), 16)


async def test_below_the_base_fee_it_goes_out_for_more_and_is_mined_once(bench: Bench) -> None:
    assert bench.plugin is not None
    await bench.submit()
    first = await bench.until("submitted")
    attempt = await known(bench, first["steps"][0]["hashes"][0])
    bound = int(bench.owner.asked[0].details["steps"][0]["maxFeePerGasBound"], 16)
    await mine_until(bench, lambda: len(steps(bench)[0]["hashes"]) == 2, int(attempt["maxFeePerGas"], 16) + 1)
    await known(bench, steps(bench)[0]["hashes"][-1])  # else the first could still be mined
    await mine_until(bench, lambda: bench.operations.get(PLUGIN)[-1]["status"] == "done")
    second = await bench.chain.call("eth_getTransactionByHash", steps(bench)[0]["hashes"][-1])
    assert second["nonce"] == attempt["nonce"]
    assert int(attempt["maxFeePerGas"], 16) < int(second["maxFeePerGas"], 16) <= bound
    assert await balance(bench, bench.plugin.gateways[0].address) == 2 * ETHER
    assert await nonces(bench) == 2
    assert list(bench.ledger.of(OWNER)) == []


async def test_a_reorg_and_a_forgetful_pool_get_the_same_bytes_again(bench: Bench) -> None:
    assert bench.plugin is not None
    await bench.submit()
    first = await bench.until("submitted")
    await known(bench, first["steps"][0]["hashes"][0])
    await mine(bench)  # one block, and no more before that one was seen: deeper, the reorg would not reach it
    await bench.until("mined")
    await bench.chain.call("anvil_reorg", 1, [])
    await bench.chain.call("anvil_dropAllTransactions")
    assert await bench.chain.call("eth_getTransactionReceipt", first["steps"][0]["hashes"][0]) is None
    await mine_until(bench, lambda: bench.operations.get(PLUGIN)[-1]["status"] == "done")
    assert steps(bench)[0]["hashes"] == first["steps"][0]["hashes"]
    assert await balance(bench, bench.plugin.gateways[0].address) == 2 * ETHER
    assert await nonces(bench) == 2


async def test_displaced_by_another_wallet_it_is_asked_again_for_the_next_nonce(bench: Bench) -> None:
    assert bench.plugin is not None
    await bench.submit()
    await bench.until("submitted")
    fields = {"type": 2, "chainId": 31337, "nonce": 1, "to": OTHER, "value": 1, "gas": 21000}
    foreign = bench.keyring.sign_transaction(
        OWNER, fields | {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": 50 * GWEI}
    )
    await bench.chain.call("eth_sendRawTransaction", "0x" + foreign.hex())
    await mine_until(bench, lambda: len(bench.owner.asked) == 2)
    assert "took its nonce" in bench.owner.asked[1].summary
    await mine_until(bench, lambda: bench.operations.get(PLUGIN)[-1]["status"] == "done")
    assert await nonces(bench) == 3
    assert await balance(bench, bench.plugin.gateways[0].address) == 2 * ETHER


async def test_a_plan_out_and_an_answer_with_the_own_key_across_a_restart(bench: Bench) -> None:
    assert bench.plugin is not None
    gateway = bench.plugin.gateways[0].address
    own = bench.keyring.plugin_account((7002, 0, 0, 0)).address
    await bench.chain.call("anvil_setBalance", own, hex(ETHER))
    await bench.chain.call("anvil_setBalance", gateway, hex(10 * ETHER))
    out = {"function": "close", "args": [f"0x{ETHER:064x}"]}
    event = {"event": {"name": "Released", "args": {"user": OWNER, "amount": hex(ETHER)}}}
    plan = await bench.submit("plan", steps=[out, out | {"waitFor": event}, out | {"waitFor": {"blocks": 4}}])
    send = await bench.submit("send", function="answer", args=[f"0x{7:064x}"])

    def confirmed(count: int) -> bool:
        (found,) = bench.operations.get(PLUGIN, plan)
        return [step["status"] for step in found["steps"]].count("confirmed") == count

    await mine_until(bench, lambda: confirmed(2))
    await bench.rebuild()
    await mine_until(bench, lambda: confirmed(3))
    blocks = [int(step["blockNumber"], 16) for step in bench.operations.get(PLUGIN, plan)[0]["steps"]]
    assert blocks[2] > blocks[1] + 4
    (record,) = [one for one in bench.operations.records_of(PLUGIN) if one.id == plan]
    assert [step.returned for step in record.steps] == [ETHER] * 3
    assert len(bench.owner.asked) == 1
    await mine_until(bench, lambda: bench.operations.get(PLUGIN, send)[0]["status"] == "done")
    assert await balance(bench, gateway) == 7 * ETHER - 7
    assert await nonces(bench, own) == 1
    assert ETHER > await balance(bench, own) > ETHER - 10**15
