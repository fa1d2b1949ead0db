"""eth_getLogs: every form of filter, against a plain reading of all logs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.embedded.node import Node
from tests.upstream.embedded.conftest import FUND, OTHER, OWNER, Probe, asking, sign

World = tuple[Node, list[dict[str, Any]], list[str]]

SOMEBODY = "0x" + "5e" * 20


@pytest.fixture(scope="module")
def world(probe: Probe) -> World:
    """A node with two contracts and stores by two senders; all its logs, and the contracts."""
    return asyncio.run(_world(probe))


async def _world(probe: Probe) -> World:
    node = Node(FUND)
    rpc = asking(node)
    contracts = [
        str((await rpc.mined(sign(nonce=n, to=None, gas=900_000, data=probe.bytecode)))["contractAddress"])
        for n in (0, 1)
    ]
    for n, (account, contract, value) in enumerate(((OWNER, 0, 5), (OWNER, 1, 6), (OWNER, 0, 6)), start=2):
        await rpc.mined(sign(account, nonce=n, to=contracts[contract], gas=200_000, data=probe.store(value)))
    await rpc.mined(sign(OTHER, nonce=0, to=contracts[1], gas=200_000, data=probe.store(5)))
    receipts = [r for n in range(7) for r in await rpc.result("eth_getBlockReceipts", hex(n))]
    return node, [log for receipt in receipts for log in receipt["logs"]], contracts


def words(*values: int) -> list[str]:
    return [f"0x{value:064x}" for value in values]


async def test_fixture_has_logs(world: World) -> None:
    _, logs, _ = world
    assert len(logs) == 8
    assert [log["logIndex"] for log in logs] == ["0x0", "0x1"] * 4


def topic_choices(logs: list[dict[str, Any]]) -> Any:
    seen = sorted({topic for log in logs for topic in log["topics"]}) + words(99)
    return st.none() | st.sampled_from(seen) | st.lists(st.sampled_from(seen), max_size=3)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
async def test_a_filter_gives_what_a_plain_reading_gives(world: World, data: st.DataObject) -> None:
    node, logs, contracts = world
    first, last = sorted(data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6))))
    addresses = data.draw(st.none() | st.sampled_from(contracts) | st.lists(st.sampled_from([*contracts, SOMEBODY])))
    topics = data.draw(st.lists(topic_choices(logs), max_size=4))
    wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": addresses, "topics": topics}

    def passes(log: dict[str, Any]) -> bool:
        if not first <= int(log["blockNumber"], 16) <= last:
            return False
        if addresses and log["address"] not in ([addresses] if isinstance(addresses, str) else addresses):
            return False
        if len(topics) > len(log["topics"]):
            return False
        return all(
            not choice or topic in ([choice] if isinstance(choice, str) else choice)
            for choice, topic in zip(topics, log["topics"], strict=False)
        )

    assert await asking(node).result("eth_getLogs", wanted) == [log for log in logs if passes(log)]


async def test_tags_hashes_and_case(world: World) -> None:
    node, logs, contracts = world
    rpc = asking(node)
    assert await rpc.result("eth_getLogs", {}) == logs[-2:]
    assert await rpc.result("eth_getLogs", {"fromBlock": "earliest", "toBlock": "pending"}) == logs
    assert await rpc.result("eth_getLogs", {"blockHash": logs[0]["blockHash"]}) == logs[:2]
    upper = contracts[0].upper().replace("0X", "0x")
    assert len(await rpc.result("eth_getLogs", {"fromBlock": "0x0", "address": upper})) == 4
    assert await rpc.result("eth_getLogs", {"fromBlock": "0x7", "toBlock": "0x9"}) == []
    assert await rpc.result("eth_getLogs", {"fromBlock": "0x0", "topics": [[None, logs[0]["topics"][0]]]}) == logs


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"blockHash": "0x" + "11" * 32, "fromBlock": "0x0"}, "cannot specify both"),
        ({"blockHash": "0x" + "11" * 32}, "unknown block"),
        ({"fromBlock": "0x3", "toBlock": "0x2"}, "invalid block range"),
        ({"fromBlock": "0x9"}, "invalid block range"),
        ({"fromBlock": 1}, "expected a block number"),
        ({"address": "0x12"}, "expected an address"),
        ({"address": [SOMEBODY, 5]}, "expected an address"),
        ({"topics": "0x12"}, "expected topics"),
        ({"topics": ["0x12"]}, "expected a hash"),
        ({"topics": [None] * 5}, "max topics"),
        ([], "expected a filter object"),
    ],
)
async def test_refusals(world: World, wanted: object, message: str) -> None:
    error = await asking(world[0]).error("eth_getLogs", wanted)
    assert message in error["message"]
