"""A plugin with funds locked on L1 that could answer no dispute is UNGUARDED, and says why (hardening.md 22)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.host.guards import DISPUTE_GAS, MARGIN, Guards
from proxy.host.manifest import Manifest
from proxy.wallet.own_keys import OwnKeys
from tests.host.neighbours import FakeDeposits
from tests.host.operations_bench import ETHER, PLUGIN, Bench, plugin, running_bench
from tests.wallet.conftest import PASSWORD
from tests.wallet.fake_chain import BASE_FEE, gone

LOCKED = {"locked": hex(ETHER), "pending": "0x0"}


class Watch:
    """Guards over a bench; the plugin has 1 ETH locked and its own key 1 ETH for gas."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.deposits, self.said = bench, FakeDeposits(), list[str]()
        self.has_room = True
        self.deposits.rows = [LOCKED]
        self.own = bench.keyring.plugin_account((7002, 0, 0, 0)).address
        bench.chain.balances[self.own] = ETHER
        self.guards = Guards(
            bench.chain,
            bench.operations,
            self.deposits,
            bench.keyring,
            OwnKeys(bench.keyring),
            lambda: [] if bench.plugin is None else [bench.plugin],
            self.said.append,
            keep_room=lambda: self.has_room,
        )

    async def why(self) -> str | None:
        await self.guards.look()
        return self.bench.operations.unguarded.get(PLUGIN)


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    async with running_bench(tmp_path) as bench:
        yield Watch(bench)


async def test_too_little_gas_for_one_dispute_at_five_times_the_fee(watch: Watch) -> None:
    assert await watch.why() is None
    needed = MARGIN * 2 * BASE_FEE * DISPUTE_GAS
    watch.bench.chain.balances[watch.own] = needed - 1
    why = await watch.why()
    assert why is not None
    assert watch.own in why
    assert watch.said == [f"l2proxy: plugin {PLUGIN} is UNGUARDED: {why}"]
    await watch.why()
    assert len(watch.said) == 1  # said once
    watch.bench.chain.balances[watch.own] = needed
    assert await watch.why() is None
    assert "guarded again" in watch.said[1]
    # What a dispute of this plugin really took counts from then on.
    watch.bench.chain.estimate = 2 * DISPUTE_GAS
    await watch.bench.submit("send", function="answer(bytes32)", args=["0x" + "11" * 32])
    await watch.bench.until("done")
    assert await watch.why() is not None


async def test_nothing_locked_or_nothing_to_dispute_needs_no_guard(watch: Watch) -> None:
    watch.bench.chain.balances[watch.own] = 0
    watch.deposits.rows = [LOCKED | {"locked": "0x0"}]
    assert await watch.why() is None
    watch.deposits.rows = [LOCKED | {"locked": "0x0", "pending": "0x1"}]
    assert await watch.why() is not None
    watch.bench.plugin = plugin(gateways=(replace(plugin().gateways[0], dispute=()),))
    assert await watch.why() is None


async def test_without_keys_at_hand_nobody_watches(watch: Watch) -> None:
    watch.bench.plugin = plugin(grants=frozenset({"gateway"}))
    assert "not granted keys" in str(await watch.why())
    watch.bench.plugin = plugin(enabled=False, why_disabled="its files changed")
    assert "its files changed" in str(await watch.why())
    watch.bench.plugin = plugin()
    watch.bench.keyring.lock()
    watch.bench.keyring.close_plugin((7002, 0, 0))
    assert "l2proxy unlock" in str(await watch.why())
    watch.bench.keyring.unlock(PASSWORD)
    assert await watch.why() is None
    watch.bench.plugin = plugin(manifest=Manifest(id=PLUGIN, name="P", version="1", runtime="python", entry="a:B"))
    assert await watch.why() is None
    watch.bench.keyring.lock()
    assert "watch while the wallet is locked" in str(await watch.why())


async def test_a_disk_without_room_for_disputes_is_said_once(watch: Watch) -> None:
    watch.has_room = False
    assert await watch.why() is None
    await watch.why()
    assert watch.said == ["l2proxy: the disk is nearly full: no room can be kept for answers to disputes"]


async def test_a_node_that_is_away_changes_nothing_and_a_removed_plugin_is_forgotten(watch: Watch) -> None:
    watch.bench.chain.balances[watch.own] = 0
    why = await watch.why()
    watch.bench.chain.balances[watch.own] = ETHER
    watch.bench.chain.refuse_calls["eth_getBalance"] = gone()
    assert await watch.why() == why
    watch.bench.plugin = None
    assert await watch.why() is None


async def test_it_looks_when_an_operation_is_over(watch: Watch) -> None:
    watch.bench.chain.balances[watch.own] = 0
    watch.deposits.rows = []
    watch.guards.start()
    await watch.bench.settled(lambda: not watch.guards._due.is_set())
    watch.deposits.rows = [LOCKED]
    await watch.bench.submit()
    await watch.bench.until("done")
    await watch.bench.settled(lambda: PLUGIN in watch.bench.operations.unguarded)
    await watch.guards.close()


async def test_it_looks_at_start_and_after_each_lock(watch: Watch) -> None:
    watch.bench.plugin = plugin(manifest=Manifest(id=PLUGIN, name="P", version="1", runtime="python", entry="a:B"))
    watch.bench.keyring.lock()
    watch.guards.start()
    await watch.bench.settled(lambda: PLUGIN in watch.bench.operations.unguarded)
    watch.bench.keyring.unlock(PASSWORD)
    await watch.bench.settled(lambda: PLUGIN not in watch.bench.operations.unguarded)
    await watch.guards.close()
