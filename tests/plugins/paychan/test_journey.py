"""Two users pay each other through the real hub on a real chain, take their money out, and close."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from l2proxy_sdk import HostError

from tests.plugins.paychan.world import ETH, World, make_world


async def test_two_users_pay_each_other_and_every_wei_comes_back(world: World) -> None:
    alice, bob = await world.user("alice"), await world.user("bob")
    for user in (alice, bob):
        await user.start()
        await user.deposit(2 * ETH)
    assert alice.host is not None
    assert bob.host is not None
    paid = await alice.host.invoke("makePayment", toAddress=bob.address, value=ETH // 2)
    assert paid == {"nonce": "0x1", "balance": hex(3 * ETH // 2)}
    await bob.host.until(lambda: bob.balance == 5 * ETH // 2)
    back = await bob.host.invoke("makePayment", toAddress=alice.address, value=9 * ETH // 4)
    assert back["nonce"] == "0x1"
    await alice.host.until(lambda: alice.balance == 15 * ETH // 4)
    assert alice.state["payments"][-1]["with"] == bob.address.lower()
    before = {user.name: await user.l1_balance() for user in (alice, bob)}
    for user, expected in ((alice, 15 * ETH // 4), (bob, ETH // 4)):
        assert user.host is not None
        closed = await user.host.invoke("close")
        assert closed["agreed"] is True
        await user.done()
        await user.host.until(lambda user=user: user.state.get("status") == "closed")  # type: ignore[misc]
        fee = user.host.operations[closed["operation"]]["steps"][0]["fee"]
        assert await user.l1_balance() == before[user.name] + expected - fee


async def test_a_hundred_payments_cost_two_questions_and_two_writes_each(world: World) -> None:
    alice, bob = await world.user("alice"), await world.user("bob")
    for user, value in ((alice, ETH), (bob, 0)):
        await user.start()
        await user.deposit(value)
    assert alice.host is not None
    assert bob.host is not None
    begun, used = len(alice.host.calls), time.process_time()
    for number in range(1, 101):
        paid = await alice.host.invoke("makePayment", toAddress=bob.address, value=10**15)
        assert paid["nonce"] == hex(number)
    used = time.process_time() - used
    calls = Counter(method for method, _ in alice.host.calls[begun:])
    await bob.host.until(lambda: bob.balance == 100 * 10**15)
    assert 200 <= calls["hub.send"] <= 210, (
        "its route and itself; what the hub tells of the deposit may be asked about now"
    )
    assert 200 <= calls["persist"] <= 205
    assert calls["layer1.request"] <= 20, "no payment asks L1"
    assert used < 10, "seconds at work: those that disk, hub and other programs take are not ours"


async def test_what_one_payer_paid_can_be_taken_out(world: World) -> None:
    alice, bob, carol = [await world.user(name) for name in ("alice", "bob", "carol")]
    for user, value in ((alice, ETH), (bob, 0), (carol, ETH)):
        await user.start()
        await user.deposit(value)
    assert alice.host is not None
    assert bob.host is not None
    assert carol.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=300)
    await carol.host.invoke("makePayment", toAddress=bob.address, value=500)
    await bob.host.until(lambda: bob.balance == 800)
    before = await bob.l1_balance()
    taken = await bob.host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage="")
    assert taken["amount"] == hex(300)
    await bob.done()
    fee = bob.host.operations[taken["operation"]]["steps"][0]["fee"]
    assert await bob.l1_balance() == before + 300 - fee
    await bob.host.until(lambda: bob.state["withdrawn"] == hex(300) and bob.balance == 500)
    with pytest.raises(HostError, match="nothing that"):
        await bob.host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage="")
    rest = await bob.host.invoke("requestWithdrawPayment", fromAddress=bob.address, latestMessage="")
    assert rest["amount"] == hex(500)
    await bob.done()
    await bob.host.until(lambda: bob.state["withdrawn"] == hex(800))


async def test_over_a_socket_and_reopened_after_a_close(anvil: Any, tmp_path: Path) -> None:
    world = await make_world(anvil.ipc, anvil.chain_id, tmp_path)
    try:
        alice = await world.user("alice")
        await alice.start()
        await alice.deposit(ETH)
        first = alice.state["channel"]
        assert alice.host is not None
        await alice.host.invoke("close")
        await alice.done()
        await alice.host.until(lambda: alice.state["status"] == "closed")
        await alice.deposit(2 * ETH)
        assert alice.state["channel"] != first
        assert alice.balance == 2 * ETH
        bob = await world.user("bob")
        await bob.start()
        await bob.deposit(0)
        assert (await alice.host.invoke("makePayment", toAddress=bob.address, value=7))["nonce"] == "0x1"
    finally:
        await world.close()
