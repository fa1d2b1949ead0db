"""What a crash, a rolled-back store, a lost message or a dishonest hub may never bring about (peers.md, A3–A10)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from l2proxy_sdk import HostError
from l2proxy_sdk.testing import FakeHub, Killed

from tests.plugins.paychan.signing import sign, typed
from tests.plugins.paychan.world import ETH, User, World, WsHub


async def pair(world: World) -> tuple[User, User]:
    """Return alice with 1 ETH in her channel, and bob with an empty one."""
    alice, bob = await world.user("alice"), await world.user("bob")
    for user, value in ((alice, ETH), (bob, 0)):
        await user.start()
        await user.deposit(value)
    return alice, bob


def signed_typed_data(user: User) -> list[dict[str, Any]]:
    assert user.host is not None
    return [params["typedData"]["message"] for method, params in user.host.calls if method == "sign"]


async def test_killed_at_every_step_of_a_payment_nothing_is_paid_twice_or_lost(world: World) -> None:  # A3
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    start = len(alice.host.calls)
    await alice.host.invoke("makePayment", key="first", toAddress=bob.address, value=100)
    steps = [method for method, _ in alice.host.calls[start:]]
    assert {"persist", "sign", "hub.send"} <= set(steps)
    paid = 100
    digests: dict[int, set[str]] = {}
    for index in range(len(steps)):
        for moment in ("before_call", "after_call"):
            await _killed_at(alice, bob, index, moment, digests)
            paid += 100
            await bob.host.until(lambda paid=paid: bob.balance == paid)  # type: ignore[misc]
            assert alice.balance == ETH - paid, f"{moment} {steps[index]}"
    assert all(len(seen) == 1 for seen in digests.values()), "two different vouchers at one nonce"


async def _killed_at(alice: User, bob: User, index: int, moment: str, digests: dict[int, set[str]]) -> None:
    """Kill alice's plugin at its host call `index` of a payment; restart, ask again with the same key as the proxy does."""
    key = f"{moment}-{index}"
    host = alice.host
    assert host is not None
    countdown = index

    def check(method: str, _params: dict[str, Any]) -> None:
        nonlocal countdown
        if method == "log":
            return
        countdown -= 1
        if countdown < 0:
            raise Killed

    setattr(host, moment, check)
    paying = asyncio.ensure_future(host.invoke("makePayment", key=key, toAddress=bob.address, value=100))
    died = asyncio.ensure_future(host.died.wait())
    await asyncio.wait({paying, died}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    for task in (paying, died):
        task.cancel()
    await asyncio.gather(paying, died, return_exceptions=True)
    seen = signed_typed_data(alice)
    await host.kill()
    again = await alice.start()
    await again.until(lambda: alice.state.get("pending") is None and alice.state["hub"] == "connected")
    await _until_synced(alice)
    assert (await again.invoke("makePayment", key=key, toAddress=bob.address, value=100))["nonce"]
    for message in [*seen, *signed_typed_data(alice)]:
        if "amount" in message:
            digests.setdefault(int(message["nonce"]), set()).add(json.dumps(message, sort_keys=True))


async def _until_synced(user: User) -> None:
    """Wait until a payment is not refused for want of synchronisation: zero wei is refused later than that."""
    assert user.host is not None
    while True:
        with pytest.raises(HostError, match=r"at least 1 wei|confirmed the newest state|not connected") as caught:
            await user.host.invoke("makePayment", toAddress="0x" + "11" * 20, value=0)
        if "at least 1 wei" in caught.value.message:
            return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("what", ["request", "answer"])
async def test_a_lost_message_leaves_the_payment_pending_until_its_outcome_is_known(
    world: World, what: str
) -> None:  # A10
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    assert isinstance(alice.hub, WsHub)
    alice.hub.lose = what
    paying = asyncio.create_task(alice.host.invoke("makePayment", toAddress=bob.address, value=10))
    await alice.hub.lost.wait()
    alice.hub.lose = None
    await world.hub.kill()
    with pytest.raises(HostError, match="on its way") as caught:
        await paying
    assert caught.value.spent is None  # unknown counts as spent
    assert alice.balance == ETH - 10
    await alice.host.until(lambda: alice.state["hub"] == "away")
    await world.hub.start()
    await alice.host.until(lambda: alice.state["hub"] == "connected" and alice.state["pending"] is None)
    await _until_synced(alice)
    assert (await alice.host.invoke("makePayment", toAddress=bob.address, value=5))["nonce"] == "0x2"
    assert alice.balance == ETH - 15
    await bob.host.until(lambda: bob.balance == 15)


async def test_a_rolled_back_store_adopts_what_the_hub_can_prove(world: World) -> None:  # A4
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=10)
    old = dict(alice.store), dict(bob.store)
    for _ in range(3):
        await alice.host.invoke("makePayment", toAddress=bob.address, value=10)
    await bob.host.until(lambda: bob.balance == 40)
    for user, items in zip((alice, bob), old, strict=True):
        assert user.host is not None
        await user.host.kill()
        user.store.clear()
        user.store.update(items)
        await user.start(restored="unknown")
        await _until_synced(user)
    assert (alice.balance, bob.balance) == (ETH - 40, 40)
    assert (await alice.host.invoke("makePayment", toAddress=bob.address, value=10))["nonce"] == "0x5"


async def test_an_empty_store_finds_everything_again(world: World) -> None:  # A4
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=10)
    await bob.host.until(lambda: bob.balance == 10)
    for user, balance in ((alice, ETH - 10), (bob, 10)):
        assert user.host is not None
        await user.host.kill()
        user.store.clear()
        host = await user.start(restored="unknown")
        await _until_synced(user)
        assert user.balance == balance
        assert next(method for method, _ in host.calls if method in ("sign", "ready")) == "ready"
    assert (await alice.host.invoke("makePayment", toAddress=bob.address, value=10))["nonce"] == "0x2"


async def test_hub_restarts_lose_nothing_it_confirmed(world: World) -> None:  # A3
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    for number in range(1, 6):
        paid = await alice.host.invoke("makePayment", toAddress=bob.address, value=1)
        assert paid["nonce"] == hex(number)
        await world.hub.kill()
        await alice.host.until(lambda: alice.state["hub"] == "away")
        await world.hub.start()
        await alice.host.until(lambda: alice.state["hub"] == "connected")
        await _until_synced(alice)
    await bob.host.until(lambda: bob.balance == 5)


async def test_payments_at_the_same_time_never_spend_more_than_there_is(world: World) -> None:  # A9, A13
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    asked = [alice.host.invoke("makePayment", toAddress=bob.address, value=ETH // 4) for _ in range(8)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    paid = [result for result in results if not isinstance(result, BaseException)]
    assert sorted(int(result["nonce"], 16) for result in paid) == [1, 2, 3, 4]
    refused = [result for result in results if isinstance(result, HostError)]
    assert len(refused) == 4
    assert all(error.spent is False for error in refused)
    await bob.host.until(lambda: bob.balance == ETH)


async def test_refusals_say_what_is_wrong_and_that_nothing_was_spent(world: World) -> None:
    alice, bob = await pair(world)
    assert alice.host is not None
    cases: list[tuple[dict[str, Any], str]] = [
        ({"toAddress": bob.address, "value": 0}, "at least 1 wei"),
        ({"toAddress": alice.address, "value": 1}, "the same"),
        ({"toAddress": bob.address, "value": 2 * ETH}, "more than the"),
        ({"toAddress": bob.address, "value": 2**256 - 1}, "more than the"),
        ({"toAddress": "0x" + "22" * 20, "value": 1}, "has no channel at this hub"),
    ]
    for params, message in cases:
        with pytest.raises(HostError, match=message) as caught:
            await alice.host.invoke("makePayment", **params)
        assert caught.value.spent is False
    assert alice.balance == ETH


class Liar(FakeHub):
    """A hub that answers hello and sync with what a test wants."""

    def __init__(self, hello: dict[str, Any]) -> None:
        super().__init__(self._reply)
        self._hello = hello

    async def _reply(self, text: str) -> str:
        message = json.loads(text)
        answers = {"hello": self._hello, "login": {"session": "s", "sync": self._hello["sync"]}}
        return json.dumps({"id": message["id"], "result": answers.get(message["method"], {})})


def claims(world: World, channel: str, **sync: Any) -> dict[str, Any]:
    """Return the hello of the world's hub with another sync."""
    hub = world.users[0].crypto.__class__("hub").key("hub").address.lower()
    view = {"channel": channel, "sent": None, "received": None, "credits": [], "authorised": {"total": "0"}} | sync
    told = {"chainId": hex(world.chain_id), "gateway": world.hub.gateway.lower(), "hub": hub}
    return told | {"challenge": "0x" + "00" * 32, "channel": channel, "sync": view}


@pytest.mark.parametrize("case", ["unproven", "forgotten", "other hub"])
async def test_a_hub_that_cannot_prove_what_it_says_freezes_the_channel(world: World, case: str) -> None:  # A5
    alice, bob = await pair(world)
    assert alice.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=10)
    channel = alice.state["channel"]
    await alice.host.kill()
    forged = {"nonce": 9, "amount": "500", "order": "0x" + "00" * 32, "signature": "0x" + "11" * 64 + "1b"}
    hello = claims(world, channel, sent=forged if case == "unproven" else None)
    if case == "other hub":
        hello["hub"] = "0x" + "33" * 20
    host = alice.make()
    host.hub = Liar(hello)
    await host.start()
    await host.until(lambda: alice.state.get("frozen") is not None)
    with pytest.raises(HostError, match="frozen"):
        await host.invoke("makePayment", toAddress=bob.address, value=1)
    assert not any("amount" in message for message in signed_typed_data(alice))
    closed = await host.invoke("close")
    assert closed["agreed"] is False  # the way out needs no hub


async def test_credits_of_the_hub_are_counted_only_if_signed_covered_and_new(world: World) -> None:  # A7, A8, A10
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=10)
    await bob.host.until(lambda: bob.balance == 10)
    channel, record = bob.state["channel"], json.loads(bob.store[b"channel"])
    await bob.host.kill()
    newest = record["received"] | {"amount": str(record["received"]["amount"])}
    host = bob.make()
    hub = Liar(claims(world, channel, received=newest))
    host.hub = hub
    await host.start()
    await host.until(lambda: bob.state.get("hub") == "connected")
    key = alice.crypto.__class__("hub").key("hub")

    def credit(nonce: int, amount: int, value: int, signer: Any = key, contract: str = world.hub.gateway) -> str:
        from hashlib import sha256

        sender = alice.address.lower()
        content = b"l2proxy paychan order" + bytes.fromhex(sender[2:]) + value.to_bytes(32, "big")
        order = sha256(content).digest()
        message = {"channel": bytes.fromhex(channel[2:]), "payer": key.address, "nonce": nonce, "amount": amount}
        signature = sign(signer, typed("Voucher", world.chain_id, contract, **message, order=order))
        row = {"channel": channel, "nonce": nonce, "amount": str(amount), "order": "0x" + order.hex()}
        row |= {"signature": "0x" + signature.hex(), "from": sender, "value": str(value), "kind": "payment"}
        return json.dumps({"method": "credit", "params": row})

    refused = [
        credit(2, 30, 20, signer=alice.owner),  # not the hub's signature
        credit(2, 30, 20, contract="0x" + "44" * 20),  # another contract's domain
        credit(2, 2 * ETH, 2 * ETH - 10),  # not covered
        credit(2, 30, 5),  # does not follow
        credit(1, 10, 10),  # old
        "[]",
        "{",
    ]
    for text in refused:
        hub.deliver(text)
    hub.deliver(credit(2, 30, 20))
    await host.until(lambda: bob.balance == 30)
    hub.deliver(credit(2, 30, 20))
    hub.deliver(credit(3, 31, 1))
    await host.until(lambda: bob.balance == 31)
