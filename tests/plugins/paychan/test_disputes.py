"""Closes without agreement: stale ones, hubs that are away, restarts inside the window, owners who say no."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from l2proxy_sdk import HostError

from tests.plugins.paychan.test_crashes import pair
from tests.plugins.paychan.world import ETH, EthCrypto, User, World

WINDOW = 3600


async def pass_window(world: World) -> None:
    await world.node.request("evm_increaseTime", hex(WINDOW + 60))
    await world.node.request("anvil_mine", "0x1")


async def status(world: World, user: User) -> dict[str, Any]:
    """Return the user's channel as the contract holds it."""
    from plugins.paychan.paychan.onchain import Contract

    async def request(method: str, params: list[Any]) -> Any:
        return await world.node.request(method, *params)

    found = await Contract(request, world.hub.gateway).newest(user.address)
    assert found is not None
    return found.__dict__


async def until_chain(world: World, user: User, **wanted: Any) -> dict[str, Any]:
    """Wait until the contract shows what the hub is to bring about."""
    import asyncio

    async with asyncio.timeout(60):
        while True:
            seen = await status(world, user)
            if all(seen[name] == value for name, value in wanted.items()):
                return seen
            await asyncio.sleep(0.05)  # an outside process acts when it does


@pytest.mark.parametrize("restart", [False, True])
async def test_the_hub_answers_a_stale_close_also_after_a_restart(world: World, restart: bool) -> None:  # A1, A2
    alice, bob = await pair(world)
    assert alice.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=ETH // 2)
    channel = alice.state["channel"]
    if restart:
        await world.hub.kill()
    hub_key = EthCrypto("hub").key("hub")
    start = "startClose(bytes32,address,uint64,uint256,bytes32,bytes)"
    nothing = ["0x0", "0x0", "0x" + "00" * 32, "0x"]
    await world.transact(alice.owner, start, [channel, hub_key.address, *nothing])
    if restart:
        await world.hub.start()
    await until_chain(world, alice, sent=ETH // 2)
    before = await alice.l1_balance()
    await pass_window(world)
    await until_chain(world, alice, status="closed")  # the hub settles by itself
    assert await alice.l1_balance() == before + ETH // 2


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub stays away, let the plugin wait for its agreement one second instead of eight."""
    monkeypatch.setattr(sys.modules["paychan.desk"], "AGREE_SECONDS", 1.0)


async def test_closing_without_the_hub_pays_everything_after_the_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    await world.hub.kill()
    impatient(monkeypatch)
    await bob.host.until(lambda: bob.state["hub"] == "away")
    closed = await bob.host.invoke("close")
    assert closed["agreed"] is False
    await bob.done()
    await bob.host.until(lambda: bob.state["status"] == "closing" and "settle" in bob.host.timers)  # type: ignore[union-attr]
    with pytest.raises(HostError, match="can be settled in"):
        await bob.host.invoke("close")
    with pytest.raises(HostError, match="closing"):
        await bob.host.invoke("makePayment", toAddress=alice.address, value=1)
    with pytest.raises(HostError, match="closing"):
        await bob.host.invoke("deposit", value=1)
    await bob.host.fire("settle")  # too early by the chain's clock: it waits on
    await bob.host.until(lambda: "settle" in bob.host.timers)  # type: ignore[union-attr]
    before = await bob.l1_balance()
    await pass_window(world)
    operations = len(bob.host.operations)
    await bob.host.fire("settle", missed=True)
    await bob.host.until(lambda: len(bob.host.operations) > operations)  # type: ignore[union-attr]
    await bob.done()
    await bob.host.until(lambda: bob.state["status"] == "closed")
    fee = list(bob.host.operations.values())[-1]["steps"][0]["fee"]
    assert await bob.l1_balance() == before + 1000 - fee


async def test_a_close_by_the_hub_is_answered_with_our_best_voucher(world: World) -> None:  # A1, the other way round
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    channel = bob.state["channel"]
    await world.hub.kill()
    hub_key = EthCrypto("hub").key("hub")
    start = "startClose(bytes32,address,uint64,uint256,bytes32,bytes)"
    nothing = ["0x0", "0x0", "0x" + "00" * 32, "0x"]
    await world.transact(hub_key, start, [channel, hub_key.address, *nothing])
    await bob.host.poll_layer1(await world.head())
    await bob.done()
    kinds = [row["kind"] for row in bob.host.operations.values()]
    assert kinds[-1] == "send"  # from its own key: no owner needs to be there
    assert (await status(world, bob))["received"] == 1000


async def test_where_own_keys_cannot_send_the_owner_is_asked(world: World) -> None:
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    host, channel = bob.host, bob.state["channel"]
    serve = host._serve

    async def no_send(method: str, params: dict[str, Any]) -> Any:
        return await serve("no such method" if method in ("send", "schedule") else method, params)

    host._serve = no_send  # type: ignore[method-assign]
    await world.hub.kill()
    hub_key = EthCrypto("hub").key("hub")
    start = "startClose(bytes32,address,uint64,uint256,bytes32,bytes)"
    nothing = ["0x0", "0x0", "0x" + "00" * 32, "0x"]
    await world.transact(hub_key, start, [channel, hub_key.address, *nothing])
    await host.poll_layer1(await world.head())
    await bob.done()
    assert [row["kind"] for row in host.operations.values()][-1] == "withdraw"
    assert (await status(world, bob))["received"] == 1000


async def test_an_owner_who_refuses_a_withdrawal_can_take_it_later(world: World) -> None:
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    host = bob.host
    execute = host._execute

    async def refuse(kind: str, params: dict[str, Any]) -> dict[str, Any]:
        raise PermissionError("the owner said no")

    host._execute = refuse
    first = await host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage="")
    await host.until(lambda: host.operations[first["operation"]]["status"] == "failed")
    await host.until(lambda: json.loads(bob.store[b"channel"])["authorised"]["idle"])
    assert bob.balance == 0  # the consent is still out there
    host._execute = execute
    second = await host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage="")
    assert second["amount"] == hex(1000)
    await host.until(lambda: host.operations[second["operation"]]["status"] == "done")
    assert (await status(world, bob))["user_out"] == 1000


async def test_a_payment_to_somebody_who_closes_meanwhile_comes_back(world: World) -> None:  # A21
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    await bob.host.invoke("close")
    with pytest.raises(HostError, match=r"about to close|is closed|no channel") as caught:
        await alice.host.invoke("makePayment", toAddress=bob.address, value=5)
    assert caught.value.spent is False
    assert alice.balance == ETH - 1000
    await bob.done()
    await until_chain(world, bob, status="closed")


async def test_after_an_agreed_close_nothing_is_paid_even_if_the_owner_never_signs(world: World) -> None:  # A21
    alice, bob = await pair(world)
    assert alice.host is not None

    async def refuse(kind: str, params: dict[str, Any]) -> dict[str, Any]:
        raise PermissionError("the owner said no")

    execute, alice.host._execute = alice.host._execute, refuse
    first = await alice.host.invoke("close")
    assert first["agreed"] is True
    with pytest.raises(HostError, match="closing"):
        await alice.host.invoke("makePayment", toAddress=bob.address, value=5)
    await alice.host.kill()
    host = await alice.start()
    with pytest.raises(HostError, match="closing"):
        await host.invoke("makePayment", toAddress=bob.address, value=5)
    again = await host.invoke("close")
    assert again["agreed"] is True
    await alice.done()
    await until_chain(world, alice, status="closed")
    assert execute is not None


async def test_a_message_handed_in_counts_without_the_hub(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await pair(world)
    assert alice.host is not None
    assert bob.host is not None
    old = dict(bob.store)
    await alice.host.invoke("makePayment", toAddress=bob.address, value=1000)
    await bob.host.until(lambda: bob.balance == 1000)
    received = json.loads(bob.store[b"channel"])["received"]
    message = {name: received[name] for name in ("nonce", "order", "signature")}
    message |= {
        "channel": bob.state["channel"],
        "amount": str(received["amount"]),
        "value": "1000",
        "from": alice.address.lower(),
    }
    await bob.host.kill()
    bob.store.clear()
    bob.store.update(old)
    await world.hub.kill()
    impatient(monkeypatch)
    host = bob.make()
    await host.start()
    await host.until(lambda: bob.state.get("status") == "open")
    assert bob.balance == 0
    for broken in ("{", "[]", "5", json.dumps(message | {"value": "1001"}), json.dumps(message | {"amount": "2000"})):
        with pytest.raises(HostError, match="latestMessage is no payment"):
            await host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage=broken)
    with pytest.raises(HostError, match="hub is not connected"):
        await host.invoke("requestWithdrawPayment", fromAddress=alice.address, latestMessage=json.dumps(message))
    await host.invoke("close")  # with the message in hand
    await host.until(lambda: all(row["status"] == "done" for row in host.operations.values()))
    assert (await status(world, bob))["received"] == 1000
