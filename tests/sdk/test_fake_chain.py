"""The clock, the chain and the HTTP hub that a plugin's tests are given."""

from __future__ import annotations

import time
from typing import Any

import pytest
from l2proxy_sdk import HostError
from l2proxy_sdk.testing import FakeClock, FakeHost, FakeHub, FakeLayer1, layer1_at

from tests.sdk.sample import Sample

GATEWAY = "0x" + "22" * 20
TOPIC, OTHER = "0x" + "11" * 32, "0x" + "12" * 32


def told(host: FakeHost, *kinds: str) -> list[Any]:
    assert isinstance(host.plugin, Sample)
    return [event for event in host.plugin.events if event[0] in kinds]


async def test_time_moves_by_the_test_alone_and_fires_what_is_due() -> None:
    before = time.time()
    with FakeClock(1000) as clock:
        host = FakeHost(Sample, clock=clock)
        await host.start()
        await host.plugin.schedule("late", time=1200, data="b")
        await host.plugin.schedule("soon", time=1100, data="a")
        await host.advance(150)
        assert (time.time(), told(host, "scheduled")) == (1150, [("scheduled", "soon", "a", False)])
        await host.advance(50)
        assert (clock.now, len(told(host, "scheduled")), host.timers) == (1200, 2, {})
        with pytest.raises(ValueError, match="does not go back"):
            clock.advance(-1)
        await host.stop()
    assert time.time() >= before


async def test_a_chain_in_memory_is_watched_mined_and_reorganised() -> None:
    chain = FakeLayer1(answers={"eth_call": "0x2a", "eth_getBalance": lambda address, _: address})
    host = FakeHost(Sample, layer1=chain)
    await host.start()
    layer1 = host.plugin.layer1
    assert await layer1.request("eth_call", [{}, "latest"]) == "0x2a"
    assert await layer1.request("eth_getBalance", [GATEWAY, "latest"]) == GATEWAY
    with pytest.raises(HostError, match="give it in `answers`"):
        await layer1.request("eth_gasPrice")
    await layer1.watch("blocks", blocks=True)
    await layer1.watch("logs", logs={"address": GATEWAY, "topics": [[TOPIC]]}, from_block=0, confirmations=1)
    await host.plugin.schedule("second", block=2)
    now = host.clock.now
    await host.mine(logs=[{"address": GATEWAY, "topics": [TOPIC]}, {"address": GATEWAY, "topics": [OTHER]}])
    assert [event[1] for event in told(host, "block")] == [1]
    assert (told(host, "logs", "scheduled"), host.clock.now) == ([], now + 12)
    await host.mine()
    assert len(told(host, "scheduled")) == 1
    ((_, watch, logs, removed),) = told(host, "logs")
    assert (watch, removed, [log["topics"] for log in logs]) == ("logs", False, [[TOPIC]])
    await host.reorg(2)
    assert told(host, "reorg") == [("reorg", 1, 2)]
    assert [event[1] for event in told(host, "block")] == [1, 2, 1, 2]
    assert [(event[3], event[2][0]["removed"]) for event in told(host, "logs")] == [(False, False), (True, True)]
    await host.stop()
    with pytest.raises(TypeError, match="needs a FakeLayer1"):
        await FakeHost(Sample, layer1=layer1_at("http://127.0.0.1:1")).mine()


async def test_a_watch_without_from_begins_behind_the_head_of_any_node() -> None:
    """As the daemon's does; from its first block on, a fork of a real chain would be told for days."""
    chain = FakeLayer1()
    for _ in range(5):
        chain.mine()

    async def node(method: str, params: list[Any]) -> Any:
        return await chain(method, params)

    host = FakeHost(Sample, layer1=node)
    await host.start()
    await host.plugin.layer1.watch("blocks", blocks=True)
    chain.mine()
    await host.follow()
    assert [event[1] for event in told(host, "block")] == [6]
    await host.stop()


async def test_the_fake_hub_takes_bytes_and_requests() -> None:
    asked: list[dict[str, Any]] = []

    async def respond(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"status": 201, "body": "made"}

    hub = FakeHub(respond=respond)
    host = FakeHost(Sample, hub=hub)
    await host.start()
    await host.plugin.hub.send(b"\xff\x00")
    assert hub.sent.get_nowait() == b"\xff\x00"
    answer = await host.plugin.hub.request("POST", "/orders", body="one")
    assert (answer.status, answer.body) == (201, b"made")
    assert asked == [{"method": "POST", "path": "/orders", "headers": {}, "body": "one"}]
    hub.deliver(b"\x01\xff")
    await host.stop()
