"""Not a wei goes astray on a real node: transactions, deposits and withdrawals against anvil, balances checked exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from middleware.errors import RpcError
from proxy.upstream.l1 import L1
from proxy.wallet.fees import Wanted
from tests.conftest import Anvil
from tests.host.neighbours import new_keyring
from tests.host.operations_bench import ETHER, PLUGIN, Bench, Owner, plugin
from tests.host.small_gateway import CREATION
from tests.wallet.conftest import OWNER

RECEIVER = to_checksum_address("0x00000000000000000000000000000000000a11ce")
pytestmark = pytest.mark.node


@dataclass
class Real:
    """A bench on a real node, with the gateway deployed."""

    bench: Bench
    l1: L1
    gateway: str

    async def balance(self, address: str) -> int:
        return int(await self.l1.call("eth_getBalance", address, "latest"), 16)

    async def fee(self, transaction_hash: str) -> int:
        receipt = await receipt_of(self.l1, transaction_hash)
        return int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)


async def receipt_of(l1: L1, transaction_hash: str) -> Any:
    """Wait for the receipt: anvil mines a moment after it took the transaction."""
    async with asyncio.timeout(60):
        while (receipt := await l1.call("eth_getTransactionReceipt", transaction_hash)) is None:  # noqa: ASYNC110  anvil tells nobody
            await asyncio.sleep(0.005)
        return receipt


@pytest.fixture(params=["http", "ws", "ipc"])
async def real(request: pytest.FixtureRequest, anvil: Anvil, tmp_path: Path) -> AsyncIterator[Real]:
    l1 = L1([getattr(anvil, request.param)])
    await l1.start()
    keyring = new_keyring(tmp_path)
    bench = Bench(tmp_path / "chain.db", l1, keyring, Owner())
    created = await bench.transactions.execute(await bench.transactions.prepare(OWNER, None, 0, CREATION))
    gateway = to_checksum_address((await receipt_of(l1, created))["contractAddress"])
    bench.plugin = plugin(gateways=(replace(plugin().gateways[0], address=gateway),))
    await bench.operations.start()
    yield Real(bench, l1, gateway)
    await bench.operations.close()
    bench.database.close()
    await l1.close()


async def test_every_kind_of_transaction_costs_exactly_its_value_and_fee(real: Real) -> None:
    transactions = real.bench.transactions
    kinds: list[dict[str, Any]] = [
        {},
        {"wanted": Wanted(gas_price=3 * 10**9)},
        {"wanted": Wanted(legacy=True)},
        {"wanted": Wanted(max_fee=5 * 10**9, tip=10**9)},
        {"data": b"\x01", "access_list": ((RECEIVER, ("0x" + "00" * 32,)),)},
        {"wanted": Wanted(gas_price=3 * 10**9), "access_list": ((RECEIVER, ()),)},
        {"gas": 100_000},
    ]
    for nonce, kind in enumerate(kinds, start=1):
        before, received = await real.balance(OWNER), await real.balance(RECEIVER)
        data = kind.pop("data", b"")
        prepared = await transactions.prepare(OWNER, RECEIVER, 10**15 + nonce, data, **kind)
        sent = await transactions.execute(prepared)
        fee = await real.fee(sent)
        assert await real.balance(OWNER) == before - (10**15 + nonce) - fee
        assert await real.balance(RECEIVER) == received + 10**15 + nonce
        assert fee <= prepared.fee_bound
        mined = await real.l1.call("eth_getTransactionByHash", sent)
        assert int(mined["nonce"], 16) == nonce


async def test_in_and_out_again_to_the_wei(real: Real) -> None:
    before = await real.balance(OWNER)
    await real.bench.submit(value=hex(3 * ETHER + 7))
    (deposited,) = (await real.bench.until("done"))["steps"]
    assert await real.balance(real.gateway) == 3 * ETHER + 7
    spent = 3 * ETHER + 7 + await real.fee(deposited["hashes"][0])
    assert await real.balance(OWNER) == before - spent

    assert real.bench.plugin is not None
    events, operations = await real.bench.deposits.of(real.bench.plugin)
    row = {
        "hash": deposited["hashes"][0],
        "logIndex": "0x0",
        "block": deposited["blockNumber"],
        "amount": hex(3 * ETHER + 7),
        "confirmed": True,
    }
    assert events == {
        "gateway": "main",
        "asset": "ETH",
        "source": "events",
        "locked": hex(3 * ETHER + 7),
        "pending": "0x0",
        "deposits": [row],
    }
    assert operations["source"] == "operations"
    assert operations["locked"] == hex(3 * ETHER + 7)
    assert operations["deposits"] == [{name: value for name, value in row.items() if name != "logIndex"}]

    out = await real.bench.submit("withdraw", args=[f"0x{2 * ETHER + 5:064x}"])
    (released,) = (await real.bench.until("done", out))["steps"]
    back = 2 * ETHER + 5 - await real.fee(released["hashes"][0])
    assert await real.balance(OWNER) == before - spent + back
    assert await real.balance(real.gateway) == ETHER + 2
    events, operations = await real.bench.deposits.of(real.bench.plugin)
    assert (events["locked"], operations["locked"]) == (hex(ETHER + 2), hex(ETHER + 2))


async def test_a_restart_before_the_block_sends_nothing_twice(real: Real) -> None:
    await real.l1.call("evm_setAutomine", False)
    operation = await real.bench.submit()
    await real.bench.until("submitted")
    await real.bench.rebuild()
    await real.l1.call("anvil_mine", "0x1")
    done = await real.bench.until("done", operation)
    assert len(done["steps"][0]["hashes"]) == 1
    assert await real.balance(real.gateway) == 2 * ETHER
    assert int(await real.l1.call("eth_getTransactionCount", OWNER, "latest"), 16) == 2


async def test_a_transaction_that_fell_out_of_the_pool_is_sent_again(real: Real) -> None:
    await real.l1.call("evm_setAutomine", False)
    operation = await real.bench.submit()
    first = await real.bench.until("submitted")
    await real.l1.call("anvil_dropTransaction", first["steps"][0]["hashes"][0])
    await real.l1.call("anvil_mine", "0x1")
    await real.l1.call("evm_setAutomine", True)
    done = await real.bench.until("done", operation)
    assert done["steps"][0]["hashes"] == first["steps"][0]["hashes"]
    assert await real.balance(real.gateway) == 2 * ETHER


async def test_what_would_revert_or_cannot_be_paid_is_never_asked(real: Real) -> None:
    with pytest.raises(RpcError, match="insufficient funds"):
        await real.bench.submit(value=hex(10_001 * ETHER))
    assert real.bench.owner.asked == []
    assert real.bench.operations.get(PLUGIN) == []
