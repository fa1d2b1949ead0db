"""A process that dies at any write or any exchange with the node moves the money exactly once, after exactly one yes.

Each boundary is one fail point: a write to the database or a call of the node, before it and after it. At each the
process "dies" (every object is thrown away, the database stays), starts again and must come to the end a run without a
crash comes to (security.md 10, 11, 23; hardening.md 13, 21).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.storage import Batch, Database
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, TOKEN, Bench, Owner, token_plugin
from tests.wallet.conftest import OWNER, PASSWORD
from tests.wallet.fake_chain import GAS_USED, FakeChain, price


class Death(BaseException):
    """The process ends here. No `except Exception` catches it."""


class Fuse:
    """Blows at the n-th boundary; afterwards every boundary is the end as well, for a dead process does nothing."""

    def __init__(self, blows_at: int) -> None:
        self.blows_at = blows_at
        self.passed = 0
        self.blown = asyncio.Event()

    def boundary(self) -> None:
        self.passed += 1
        if self.passed >= self.blows_at:
            self.blown.set()
            raise Death

    def on_database(self, database: Database) -> None:
        commit = database.commit

        def crashing(batch: Batch) -> None:
            self.boundary()
            commit(batch)
            self.boundary()

        database.commit = crashing  # type: ignore[method-assign]

    def on_node(self, _method: str) -> None:
        self.boundary()


def make_bench(path: Path, keyring: Keyring, fuse: Fuse, *, is_dev: bool) -> Bench:
    chain = FakeChain(is_dev=is_dev)
    chain.balances[OWNER] = 100 * ETHER
    chain.codes[GATEWAY] = "0x6001"
    chain.codes[TOKEN] = "0x6003"
    chain.tokens[TOKEN] = 0
    bench = Bench(path / "chain.db", chain, keyring, Owner())
    bench.plugin = token_plugin()
    fuse.on_database(bench.database)
    chain.before = chain.after = fuse.on_node
    return bench


async def run_until_death(bench: Bench, fuse: Fuse, params: dict[str, Any]) -> bool:
    """Submit and follow until the fuse blows or the operation is done; return whether it blew."""
    await bench.operations.start()
    try:
        await bench.submit(**params)
    except Death:
        return True
    while not fuse.blown.is_set():
        if bench.operations.get(PLUGIN)[-1]["status"] == "done":
            return False
        if not bench.chain.is_dev:
            bench.chain.mine()
        await asyncio.sleep(0)
    return True


async def finish(bench: Bench) -> list[dict[str, Any]]:
    """Start again and go on until everything is over."""
    await bench.rebuild()
    async with asyncio.timeout(20):
        while not all(one["status"] == "done" for one in bench.operations.get(PLUGIN)):
            if not bench.chain.is_dev:
                bench.chain.mine()
            await asyncio.sleep(0.001)
    return bench.operations.get(PLUGIN)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """One unlocked keyring for all deaths: it is not what is tried here."""
    keystore = Keystore(tmp_path_factory.mktemp("keys") / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    keyring = Keyring(keystore)
    keyring.unlock(PASSWORD)
    return keyring


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        await bench.operations.close()
        bench.database.close()


TOKEN_DEPOSIT = {"function": "openToken", "args": [500], "value": 500, "token": TOKEN}


@pytest.mark.parametrize("is_dev", [True, False], ids=["dev", "real"])
@pytest.mark.parametrize("params", [{}, TOKEN_DEPOSIT], ids=["eth", "token"])
async def test_death_at_every_boundary_moves_the_money_once(
    tmp_path: Path, keyring: Keyring, benches: list[Bench], params: dict[str, Any], is_dev: bool
) -> None:
    blew, point = True, 0
    while blew:
        point += 1
        (folder := tmp_path / str(point)).mkdir()
        fuse = Fuse(point)
        bench = make_bench(folder, keyring, fuse, is_dev=is_dev)
        benches.append(bench)
        blew = await run_until_death(bench, fuse, params)
        operations = await finish(bench)
        executed = bench.chain.executed(GATEWAY)
        assert len(executed) == len(operations) <= 1, f"fail point {point}"
        fees = sum(GAS_USED * price(sent) for sent in bench.chain.executed())
        value = sum(sent.value for sent in executed)
        assert bench.chain.balances[OWNER] == 100 * ETHER - value - fees, f"fail point {point}"
        assert bench.chain.balances[GATEWAY] == value == (2 * ETHER if executed and not params else 0)
        assert [sent.nonce for sent in bench.chain.executed()] == list(range(len(bench.chain.executed())))
        assert list(bench.ledger.of(OWNER)) == [], f"fail point {point}: a nonce is held for ever"
        if executed and params:
            assert bench.chain.tokens[TOKEN] == 500
        # Asked again only where the first yes was not on disk yet.
        assert len(bench.owner.asked) <= 2
        await bench.operations.close()
    assert point > 40, "the fail points were not reached"
