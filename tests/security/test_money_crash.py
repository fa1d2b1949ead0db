"""A process that dies at any write or any exchange with the node moves the money exactly once, after exactly one yes.

Each boundary is one fail point: a write to the database or a call of the node, before it and after it. At each the
process "dies" (every object is thrown away, the database stays), starts again and must come to the end a run without a
crash comes to (security.md 10, 11, 23; hardening.md 13, 21).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.storage import Batch, Database
from proxy.wallet.keyring import Keyring
from tests.host.neighbours import new_keyring
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, TOKEN, Bench, Owner, token_plugin
from tests.wallet.conftest import OWNER
from tests.wallet.fake_chain import BASE_FEE, GAS_USED, FakeChain, price


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

        def crashing(batch: Batch, *, synced: bool = True) -> None:
            self.boundary()
            commit(batch, synced=synced)
            self.boundary()

        database.commit = crashing  # type: ignore[method-assign]

    def on_node(self, _method: str) -> None:
        self.boundary()


@dataclass(frozen=True)
class Scenario:
    """What is asked for, on which chain, what the chain does meanwhile, and what must have come of it: `ends` is the status,
    `nonces` those used if anything was, `value` the wei that came to the gateway.
    """

    kind: str = "deposit"
    params: dict[str, Any] = field(default_factory=dict)
    is_dev: bool = True
    ends: str = "done"
    nonces: tuple[int, ...] = (0,)
    value: int = 0
    own: bool = False
    reverting: bool = False
    stuck: bool = False
    questions: int = 2  # asked again only where the first yes was not on disk yet

    def make(self, path: Path, keyring: Keyring, fuse: Fuse) -> Bench:
        """Return a bench on a chain as the scenario wants it."""
        chain = FakeChain(is_dev=self.is_dev, automine=not self.stuck)
        chain.balances[OWNER] = 100 * ETHER
        chain.balances[keyring.plugin_account(OWN).address] = 100 * ETHER
        chain.codes[GATEWAY] = "0x6001"
        chain.codes[TOKEN] = "0x6003"
        chain.tokens[TOKEN] = 0
        if self.reverting:
            chain.reverting.add(GATEWAY)
        bench = Bench(path / "chain.db", chain, keyring, Owner())
        bench.plugin = token_plugin()
        fuse.on_database(bench.database)
        chain.before = chain.after = fuse.on_node
        return bench

    def pass_time(self, bench: Bench) -> None:
        """Let the chain go on, where it must for the operation to go on."""
        chain = bench.chain
        if self.stuck:  # the base fee is too high for the first attempt
            attempts = [len(step["hashes"]) for one in bench.operations.get(PLUGIN) for step in one["steps"]]
            chain.base_fee = BASE_FEE * (3 if attempts == [1] else 1)
        if not self.is_dev or self.kind == "plan":
            chain.mine()

    async def run_until_death(self, bench: Bench, fuse: Fuse) -> bool:
        """Submit and follow until the fuse blows or the operation is over; return whether it blew."""
        await bench.operations.start()
        try:
            await bench.submit(self.kind, **self.params)
        except Death:
            return True
        while not fuse.blown.is_set():
            if bench.operations.get(PLUGIN)[-1]["status"] == self.ends:
                return False
            self.pass_time(bench)
            await asyncio.sleep(0)
        return True

    async def finish(self, bench: Bench) -> list[dict[str, Any]]:
        """Start again and go on until everything is over."""
        await bench.rebuild()
        async with asyncio.timeout(60):
            while not all(one["status"] == self.ends for one in bench.operations.get(PLUGIN)):
                self.pass_time(bench)
                await asyncio.sleep(0.001)
        return bench.operations.get(PLUGIN)

    def check(self, bench: Bench, operations: list[dict[str, Any]], point: int) -> None:
        """Compare with what a run without a crash comes to."""
        executed = bench.chain.executed()
        assert len(operations) <= 1
        assert tuple(sent.nonce for sent in executed) == (self.nonces if operations else ()), f"fail point {point}"
        sender = bench.keyring.plugin_account(OWN).address if self.own else OWNER
        assert {sent.sender for sent in executed} <= {sender}
        fees = sum(GAS_USED * price(sent) for sent in executed)
        value = sum(sent.value for sent in bench.chain.executed(GATEWAY))
        assert bench.chain.balances[sender] == 100 * ETHER - value - fees, f"fail point {point}"
        assert bench.chain.balances[GATEWAY] == value == (self.value if operations else 0)
        assert [*bench.ledger.of(sender), *bench.own_ledger.of(sender)] == [], f"fail point {point}: a nonce is held"
        assert len(bench.owner.asked) <= self.questions
        if operations and TOKEN in self.params.values():
            assert bench.chain.tokens[TOKEN] == (0 if self.reverting else 500)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """One unlocked keyring for all deaths: it is not what is tried here."""
    return new_keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        await bench.operations.close()
        bench.database.close()


OWN = (7002, 0, 0, 0)
CHANNEL = "0x" + "11" * 32
CLOSE = {"function": "close", "args": [CHANNEL]}
TOKENS = {"function": "openToken", "args": [500], "value": 500, "token": TOKEN}
SCENARIOS = {
    "eth-dev": Scenario(value=2 * ETHER),
    "eth-real": Scenario(value=2 * ETHER, is_dev=False),
    "token-dev": Scenario(params=TOKENS, nonces=(0, 1)),
    "token-real": Scenario(params=TOKENS, nonces=(0, 1), is_dev=False),
    "allowance taken back": Scenario(params=TOKENS, nonces=(0, 1), ends="failed", reverting=True),
    "plan": Scenario("plan", {"steps": [CLOSE, CLOSE | {"waitFor": {"blocks": 2}}]}, nonces=(0, 1)),
    "send": Scenario("send", {"function": "answer", "args": [CHANNEL]}, own=True, questions=0),
    # Asked anew as well where the base fee rose between the crash and the first signature.
    "sent for more": Scenario(value=2 * ETHER, is_dev=False, stuck=True, questions=4),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_death_at_every_boundary_moves_the_money_once(
    folder: Path, keyring: Keyring, benches: list[Bench], name: str
) -> None:
    scenario = SCENARIOS[name]
    blew, point, attempts = True, 0, 0
    while blew:
        point += 1
        fuse = Fuse(point)
        bench = scenario.make(folder / str(point), keyring, fuse)
        benches.append(bench)
        blew = await scenario.run_until_death(bench, fuse)
        operations = await scenario.finish(bench)
        scenario.check(bench, operations, point)
        attempts = max([attempts, *(len(step["hashes"]) for one in operations for step in one["steps"])])
        await bench.operations.close()
    assert point > 40, "the fail points were not reached"
    assert attempts == (2 if scenario.stuck else 1)
