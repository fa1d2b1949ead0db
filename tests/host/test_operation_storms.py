"""Whatever order blocks, reorgs, lost transactions, other wallets, dapps, locks and restarts come in: each approved step is
executed once or never, no nonce is used twice or left out, and nothing of ours is held in the end.

Each storm is one seed: the chain in memory, the real machinery, sixty turns of chance, then fair weather until all is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import RpcError
from proxy.wallet.fees import Wanted
from proxy.wallet.keyring import Keyring
from tests.host.neighbours import new_keyring
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, Bench, Owner
from tests.wallet.conftest import OWNER, PASSWORD
from tests.wallet.fake_chain import BASE_FEE, FakeChain, gone

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OVER = ("done", "failed", "rejected")
FEES = (BASE_FEE, BASE_FEE, 2 * BASE_FEE, 3 * BASE_FEE, 10 * BASE_FEE)
AWAY = ("eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getTransactionCount")
ODDS = {
    "deposit": 6,
    "send": 3,
    "plan": 3,
    "mine": 20,
    "drop": 5,
    "fee": 5,
    "reorg": 4,
    "restart": 4,
    "away": 4,
    "refuse": 3,
    "dapp": 3,
    "replace": 3,
    "foreign": 2,
    "lock": 3,
    "calm": 10,
}


class Storm:
    """One run. `values` are the wei of each step by operation, all different, so that each is known again on the chain."""

    def __init__(self, seed: int, folder: Path, keyring: Keyring) -> None:
        self.chance = random.Random(seed)
        self.chain = FakeChain(automine=False, is_dev=False)
        self.own = keyring.plugin_account((7002, 0, 0, 0)).address
        self.chain.balances[OWNER] = self.chain.balances[self.own] = 100 * ETHER
        self.chain.codes[GATEWAY] = "0x6001"
        self.keyring = keyring
        self.bench = Bench(folder / str(seed), self.chain, keyring, Owner())
        self.values: dict[str, list[int]] = {}
        self.peak = 0

    async def blow(self) -> None:
        """Take sixty turns."""
        await self.bench.operations.start()
        for _ in range(60):
            self.peak = max(self.peak, self.chain.head)
            turn = self.chance.choices(list(ODDS), list(ODDS.values()))[0]
            with contextlib.suppress(RpcError):  # refused before anything was stored, or a dapp's own misfortune
                await getattr(self, turn)()
            await self.calm()
            if self.chance.random() < 0.3:
                self.chain.refuse_calls.clear()

    async def settle(self) -> None:
        """Fair weather until everything is over; the owner fills a gap that another wallet left, once it is said."""
        self.chain.refuse_calls.clear()
        self.chain.base_fee = BASE_FEE
        if self.keyring.locked:
            self.keyring.unlock(PASSWORD)
        async with asyncio.timeout(60):
            while any(one["status"] not in OVER for one in self.bench.operations.get(PLUGIN)):
                self.chain.mine()
                await self.calm(60)
                said = [one.get("error", {}).get("message", "") for one in self.bench.operations.get(PLUGIN)]
                if any("behind a gap" in message for message in said):
                    await self.dapp()

    def check(self) -> None:
        """Compare what is on the chain with what the records say."""
        executed = self.chain.executed(GATEWAY)
        operations = {one["id"]: one for one in self.bench.operations.get(PLUGIN)}
        assert set(operations) == set(self.values)
        for operation, values in self.values.items():
            for value, step in zip(values, operations[operation]["steps"], strict=False):
                times = sum(sent.value == value for sent in executed)
                assert times == (step["status"] == "confirmed"), operations[operation]
        sends = [one for one in operations.values() if (one["kind"], one["status"]) == ("send", "done")]
        assert sum(sent.sender == self.own for sent in executed) == len(sends)
        for account in (OWNER, self.own):
            nonces = [sent.nonce for sent in self.chain.executed() if sent.sender == account]
            assert nonces == list(range(len(nonces)))
        held = [*self.bench.ledger.of(OWNER), *self.bench.own_ledger.of(self.own)]
        assert [signed for signed in held if signed.holder or signed.over] == []

    # -- turns

    async def deposit(self) -> None:
        value = ETHER // 100 + len(self.values)
        self.values[await self.bench.submit(value=hex(value))] = [value]

    async def send(self) -> None:
        self.values[await self.bench.submit("send", function="answer", args=["0x" + "11" * 32])] = []

    async def plan(self) -> None:
        values = [ETHER // 100 + len(self.values), ETHER // 50 + len(self.values)]
        steps: list[dict[str, Any]] = [
            {"function": "open(address)", "args": [OWNER], "value": hex(value)} for value in values
        ]
        steps[1]["waitFor"] = {"blocks": self.chance.randint(1, 4)}
        self.values[await self.bench.submit("plan", steps=steps)] = values

    async def mine(self) -> None:
        self.chain.mine(self.chance.randint(1, 4))

    async def drop(self) -> None:
        if self.chain.pool:
            del self.chain.pool[self.chance.choice(list(self.chain.pool))]

    async def fee(self) -> None:
        self.chain.base_fee = self.chance.choice(FEES)

    async def reorg(self) -> None:
        blocks = self.chance.randint(1, 2)
        if self.chain.head - blocks >= max(self.peak - 2, 0):  # less deep than three confirmations
            self.chain.unwind(blocks, keep=self.chance.random() < 0.5)

    async def restart(self) -> None:
        await self.bench.rebuild()

    async def away(self) -> None:
        self.chain.refuse_calls[self.chance.choice(AWAY)] = gone()

    async def refuse(self) -> None:
        self.chain.refuse_calls["eth_sendRawTransaction"] = RpcError(-32000, "transaction underpriced")

    async def dapp(self) -> None:
        transactions = self.bench.transactions
        await transactions.execute(await transactions.prepare(OWNER, OTHER, 1))

    async def replace(self) -> None:
        """The owner lets a dapp take the nonce of something of ours."""
        held = list(self.bench.ledger.of(OWNER))
        if held:
            old = self.chance.choice(held)
            wanted = Wanted(max_fee=30 * BASE_FEE, tip=8 * BASE_FEE)
            prepared = await self.bench.transactions.prepare(OWNER, OTHER, 1, nonce=old.nonce, wanted=wanted)
            await self.bench.transactions.execute(prepared, self.bench.transactions.held(OWNER, old.nonce))

    async def foreign(self) -> None:
        """Another wallet of the same phrase uses the next nonce."""
        nonce = int(self.chain.eth_getTransactionCount(OWNER, "latest"), 16)
        fields = {"type": 2, "chainId": 31337, "nonce": nonce, "to": OTHER, "value": 77, "gas": 21000}
        fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 2 * 10**10}
        self.chain.eth_sendRawTransaction("0x" + self.keyring.sign_transaction(OWNER, fields | fees).hex())

    async def lock(self) -> None:
        if self.keyring.locked:
            self.keyring.unlock(PASSWORD)
        else:
            self.keyring.lock()

    async def calm(self, turns: int | None = None) -> None:
        """Let what can run do so for a while."""
        for _ in range(self.chance.randint(0, 60) if turns is None else turns):
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    keyring = new_keyring(tmp_path_factory.mktemp("keys"))
    keyring.open_plugin((7002, 0, 0))
    return keyring


@pytest.mark.parametrize("seed", range(16))
async def test_a_storm_moves_each_amount_once_or_never(seed: int, folder: Path, keyring: Keyring) -> None:
    if keyring.locked:
        keyring.unlock(PASSWORD)
    storm = Storm(seed, folder, keyring)
    try:
        await storm.blow()
        await storm.settle()
        storm.check()
    finally:
        await storm.bench.operations.close()
        storm.bench.database.close()
