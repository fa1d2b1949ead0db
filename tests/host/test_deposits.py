"""What is locked, from two sources that never mix: the gateway's events and the proxy's own payments (hardening.md 26)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from middleware.errors import Disconnected, RpcError
from proxy.host.deposits import Deposits, locked_by_operations
from proxy.host.gateway_events import GatewayEvents
from proxy.host.installed import EventMap, InstalledPlugin
from proxy.host.operation_caps import refuse_over_cap
from proxy.host.operation_records import Operation, Step
from tests.host.operations_bench import GATEWAY, PLUGIN, TOKEN, plugin
from tests.wallet.conftest import OWNER
from tests.wallet.fake_chain import gone

DEPOSITED = "0x" + keccak(text="Deposited(address,uint256)").hex()
RELEASED = "0x" + keccak(text="Released(address,uint256)").hex()
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def word(value: int | str) -> str:
    return f"{value:064x}" if isinstance(value, int) else value[2:].lower().rjust(64, "0")


class Logs:
    """A node that has logs and nothing else; refuses more than `most` blocks at once."""

    def __init__(self, head: int, most: int = 10**9) -> None:
        self.head, self.most = head, most
        self.rows: list[dict[str, Any]] = []
        self.asked: list[tuple[int, int]] = []
        self.error: Exception | None = None
        self.fork = "0x"
        self.gone: set[str] = set()

    def add(self, topic: str, amount: int, block: int, owner: str = OWNER, **more: Any) -> None:
        row = {
            "address": GATEWAY.lower(),
            "topics": [topic, "0x" + word(owner)],
            "data": "0x" + word(amount),
            "blockNumber": hex(block),
            "transactionHash": f"0x{len(self.rows):064x}",
            "logIndex": hex(len(self.rows)),
        }
        self.rows.append(row | more)

    async def call(self, method: str, *params: Any) -> Any:
        if self.error is not None:
            raise self.error
        if method == "eth_blockNumber":
            return hex(self.head)
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)
            return None if number > self.head else {"hash": f"{self.fork}{number:x}"}
        if method == "eth_getTransactionReceipt":
            return None if params[0] in self.gone else {"status": "0x1"}
        assert method == "eth_getLogs"
        (wanted,) = params
        assert wanted["address"] == GATEWAY
        start, end = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        if end - start + 1 > self.most:
            raise RpcError(-32005, "block range too large")
        self.asked.append((start, end))
        return [
            row for row in self.rows if start <= int(row["blockNumber"], 16) <= end and _fits(row, wanted["topics"])
        ]


def _fits(row: dict[str, Any], topics: list[str | None]) -> bool:
    return all(topic in (None, has) for topic, has in zip(topics, row["topics"], strict=False))


async def rows(node: Logs, installed: InstalledPlugin | None = None, operations: list[Operation] | None = None) -> Any:
    return await Deposits(GatewayEvents(node, lambda: 3), lambda _: operations or []).of(installed or plugin())


async def test_confirmed_events_are_locked_younger_ones_pending() -> None:
    node = Logs(head=100)
    node.add(DEPOSITED, 5, 10)
    node.add(DEPOSITED, 7, 98)
    node.add(DEPOSITED, 11, 99)
    node.add(RELEASED, 2, 50)
    node.add(RELEASED, 1, 100)
    (row,) = await rows(node)
    assert (row["gateway"], row["asset"], row["source"]) == ("main", "ETH", "events")
    assert (row["locked"], row["pending"]) == (hex(5 + 7 - 2), hex(11))
    assert [deposit["confirmed"] for deposit in row["deposits"]] == [True, True, False]
    assert row["deposits"][0] == {
        "hash": f"0x{0:064x}",
        "logIndex": "0x0",
        "block": "0xa",
        "amount": "0x5",
        "confirmed": True,
    }


async def test_other_owners_events_and_undecodable_ones_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    node = Logs(head=100)
    node.add(DEPOSITED, 5, 10, owner=OTHER)
    node.add(DEPOSITED, 5, 10, data="0x12")
    node.add(DEPOSITED, 5, 10, topics=[DEPOSITED, "0x" + word(OWNER), "0x" + word(1)])
    node.add(DEPOSITED, 5, 100, data="0x12")  # read again each time, for it is not final
    deposits = Deposits(GatewayEvents(node, lambda: 3), lambda _: [])
    for _ in range(3):
        (row,) = await deposits.of(plugin())
    assert (row["locked"], row["deposits"]) == ("0x0", [])
    said = [record.message for record in caplog.records if "does not decode" in record.message]
    assert deposits.skipped == len(said) == 3, "each is counted and said once (hardening.md 28)"


async def test_nothing_locked_is_said_and_never_negative() -> None:
    node = Logs(head=100)
    assert (await rows(node))[0]["locked"] == "0x0"
    node.add(RELEASED, 9, 10)
    assert (await rows(node))[0]["locked"] == "0x0"


async def test_ranges_the_node_refuses_are_halved() -> None:
    node = Logs(head=10_000, most=1000)
    node.add(DEPOSITED, 5, 1)
    node.add(DEPOSITED, 6, 9_000)
    (row,) = await rows(node)
    assert row["locked"] == hex(11)
    covered = sorted(set(node.asked))
    assert covered[0][0] == 0
    assert covered[-1][1] == 10_000


async def test_confirmed_blocks_are_read_once_younger_ones_again() -> None:
    node = Logs(head=100)
    node.add(DEPOSITED, 5, 10)
    node.add(DEPOSITED, 6, 100)
    deposits = Deposits(GatewayEvents(node, lambda: 3), lambda _: [])
    assert (await deposits.of(plugin()))[0]["pending"] == hex(6)
    node.asked.clear()
    node.rows.pop()  # a reorg takes the young one away
    node.head = 101
    assert [(row["locked"], row["pending"]) for row in await deposits.of(plugin())] == [(hex(5), "0x0")]
    assert min(start for start, _ in node.asked) == 99
    node.head = 3  # a developer's chain begins again
    assert (await deposits.of(plugin()))[0]["locked"] == "0x0"


async def test_a_reorg_deeper_than_final_takes_deposits_away() -> None:
    node = Logs(head=100)
    node.add(DEPOSITED, 5, 10)
    node.add(DEPOSITED, 6, 90)
    deposits = Deposits(GatewayEvents(node, lambda: 1), lambda _: [])
    assert (await deposits.of(plugin()))[0]["locked"] == hex(11)
    node.rows.pop()
    node.head, node.fork = 101, "0xf"  # the other branch is longer
    (row,) = await deposits.of(plugin())
    assert (row["locked"], len(row["deposits"])) == (hex(5), 1)
    node.asked.clear()
    await deposits.of(plugin())
    assert node.asked == []  # and is remembered in its turn


async def test_a_node_that_is_away_is_an_error_not_zero() -> None:
    node = Logs(head=1)
    node.error = gone()
    with pytest.raises(Disconnected):
        await rows(node)
    node.error = RpcError(-32005, "no")
    with pytest.raises(RpcError):
        await rows(node)


async def test_tokens_are_told_apart() -> None:
    abi = [
        {
            "type": "event",
            "name": "Deposited",
            "inputs": [
                {"name": "token", "type": "address", "indexed": True},
                {"name": "user", "type": "address", "indexed": False},
                {"name": "amount", "type": "uint256", "indexed": False},
            ],
        }
    ]
    topic = "0x" + keccak(text="Deposited(address,address,uint256)").hex()
    event = EventMap(event="Deposited", owner="user", amount="amount", asset="token")
    gateway = replace(plugin().gateways[0], abi=abi, locked=event, released=None)
    node = Logs(head=100)
    node.add(topic, 0, 1, topics=[topic, "0x" + word(TOKEN)], data="0x" + word(OWNER) + word(8))
    node.add(topic, 0, 2, topics=[topic, "0x" + word(0)], data="0x" + word(OWNER) + word(9))
    node.add(topic, 0, 3, topics=[topic, "0x" + word(0)], data="0x" + word(OTHER) + word(10))
    found = await rows(node, plugin(gateways=(gateway,)))
    assert [(row["asset"], row["locked"]) for row in found] == [(TOKEN, "0x8"), ("ETH", "0x9")]


def operation(kind: str, status: str, **step: Any) -> Operation:
    fields: dict[str, Any] = {
        "gateway": "main",
        "function": "open(address)",
        "args": [],
        "value": 0,
        "to": GATEWAY,
        "data": "0x",
        "hashes": ["0x01"],
        "nonce": 0,
        "status": status,
    }
    return Operation(
        id="1",
        plugin=PLUGIN,
        kind=kind,
        status="done" if status == "confirmed" else "running",
        owner=OWNER,
        chain=1,
        code="c",
        created=0,
        steps=[Step(**(fields | step))],
    )


async def test_own_payments_cannot_be_hidden_by_events() -> None:
    paid = [
        operation("deposit", "confirmed", amount=10, value=10, block=5),
        operation("deposit", "submitted", amount=4, value=4),
        operation("deposit", "reverted", amount=3, value=3, block=6),
        operation("deposit", "pending", amount=2, value=2, hashes=[], nonce=None),
        operation("deposit", "pending", amount=1, value=1, nonce=None),  # another transaction took its nonce
        operation("withdraw", "confirmed", returned=6),
    ]
    node = Logs(head=100)
    node.add(RELEASED, 10**6, 10)
    events, own = await rows(node, operations=paid)
    assert events["locked"] == "0x0"
    assert (own["source"], own["locked"], own["pending"]) == ("operations", "0x4", "0x4")
    assert [deposit["amount"] for deposit in own["deposits"]] == ["0xa", "0x4"]
    assert own["deposits"][0] == {"hash": "0x01", "block": "0x5", "amount": "0xa", "confirmed": True}


def test_removal_asks_whether_more_went_in_than_came_back() -> None:
    paid = operation("deposit", "confirmed", amount=10)
    assert locked_by_operations([paid])
    assert locked_by_operations([paid, operation("withdraw", "confirmed", returned=9)])
    assert not locked_by_operations([paid, operation("withdraw", "confirmed", returned=10)])
    assert locked_by_operations([operation("deposit", "submitted", amount=1)])
    assert not locked_by_operations([operation("deposit", "reverted", amount=1)])


async def test_a_plugin_without_events_shows_its_operations(tmp_path: Path) -> None:
    gateway = replace(plugin().gateways[0], locked=None, released=None)
    found = await rows(Logs(head=5), plugin(gateways=(gateway,)), [operation("deposit", "confirmed", amount=1)])
    assert [row["source"] for row in found] == ["operations"]


async def test_what_a_reorg_took_away_after_it_was_final_is_not_locked() -> None:
    paid = [
        operation("deposit", "confirmed", amount=10, value=10, block=40),
        operation("deposit", "confirmed", amount=4, value=4, block=41, hashes=["0x02"]),
        operation("withdraw", "confirmed", returned=6, block=42, hashes=["0x03"]),
    ]
    node = Logs(head=43)
    node.gone = {"0x02", "0x03"}
    _, own = await rows(node, operations=paid)
    assert (own["locked"], own["pending"]) == ("0xa", "0x4")
    assert own["deposits"][1] == {"hash": "0x02", "block": None, "amount": "0x4", "confirmed": False}
    node.head = 200  # a chain does not turn so deep: old ones are asked about no more
    _, own = await rows(node, operations=paid)
    assert (own["locked"], own["pending"]) == ("0x8", "0x0")


async def test_what_a_plan_pays_in_counts_once() -> None:
    fields: dict[str, Any] = {"amount": 10, "value": 10, "pays_in": True, "block": 5}
    paid = operation("plan", "confirmed", returned=0, **fields)
    back = operation("plan", "confirmed", returned=7, **fields)
    _, own = await rows(Logs(head=100), operations=[paid])
    assert own["locked"] == "0xa"
    _, own = await rows(Logs(head=100), operations=[paid, back])
    assert own["locked"] == hex(20 - 7)
    refuse_over_cap(paid, {"ETH": 20}, [paid])
    assert locked_by_operations([paid])
    assert not locked_by_operations([operation("plan", "confirmed", returned=10, **fields)])
