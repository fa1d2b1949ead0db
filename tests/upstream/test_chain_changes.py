"""Subscribers over every kind of node, while the node is away, forks, lags or falls silent: each log and head once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.children import held_port
from proxy.upstream import following, sources
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, Head, Reorg
from proxy.upstream.l1 import L1
from proxy.upstream.settled import Settled
from tests.conftest import Anvil, start_anvil
from tests.upstream.chain_node import KINDS, ChainNode
from tests.upstream.fake_node import GENESIS, Die, block, result

SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
OTHER_SENDER = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
EMITTER = "0x602a60006000a1"  # LOG1 with topic 0x2a on every call
ADDRESS = "0x" + "22" * 20


@pytest.fixture
def port() -> Iterator[int]:
    """Where one node comes after the other."""
    with held_port() as kept:
        yield kept


class Told:
    """What one subscriber was told: heads as ("head", number), logs as (data or transaction, removed)."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, raw: msgspec.Raw) -> None:
        result = json.loads(bytes(raw))
        if "parentHash" in result:
            self.all.append((int(result["number"], 16), result["hash"]))
        else:
            self.all.append((result["data"], result["removed"]))
        self._more.set()

    async def until(self, count: int) -> list[Any]:
        """Return everything once there are `count` (or more) results."""
        async with asyncio.timeout(60):
            while len(self.all) < count:
                self._more.clear()
                await self._more.wait()
        return self.all


@contextlib.asynccontextmanager
async def following_chain(node: ChainNode, kind: str, folder: Path) -> AsyncIterator[tuple[L1, Told, Told]]:
    async with node.over(kind, folder) as url:
        l1 = L1([url])
        await l1.start()
        heads, logs = Told(), Told()
        await l1.subscribe(["newHeads"], heads)
        await l1.subscribe(["logs", {"address": ADDRESS}], logs)
        try:
            yield l1, heads, logs
        finally:
            await l1.close()


@contextlib.asynccontextmanager
async def away(node: ChainNode) -> AsyncIterator[None]:
    """Let the node drop every connection it has, or gets, inside the block."""

    async def answer(_: dict[str, Any]) -> bytes | None:
        raise Die

    node.answer = answer
    node.drop_all()
    node.listeners.clear()
    try:
        yield
    finally:
        node.answer = None


@pytest.mark.parametrize("kind", KINDS)
async def test_what_happened_while_the_node_was_away_is_told_once_and_in_order(kind: str, short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, kind, short_tmp) as (l1, heads, logs):
        names = [node.mine("0x01")]
        l1.blocks.poke()
        await logs.until(1)
        async with away(node):
            names += [node.mine("0x02", "0x03"), node.mine(), node.mine("0x04")]
            asked = len(node.asked)
            while len(node.asked) == asked:
                l1.blocks.poke()
                await asyncio.sleep(0.01)
        assert await logs.until(4) == [("0x01", False), ("0x02", False), ("0x03", False), ("0x04", False)]
        assert await heads.until(4) == list(enumerate(names, 1))
        names.append(node.mine("0x05"))
        await node.announce()
        assert (await logs.until(5))[4:] == [("0x05", False)]
        assert await heads.until(5) == list(enumerate(names, 1))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_branch_that_is_left_is_taken_back_newest_first(kind: str, short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, kind, short_tmp) as (l1, heads, logs):
        node.mine("0x01")
        node.mine("0x02", "0x03")
        node.mine("0x04")
        l1.blocks.poke()
        await logs.until(4)
        node.cut(2)
        left = [node.mine("0x05"), node.mine(), node.mine("0x02")]
        await node.announce()
        l1.blocks.poke()
        assert (await logs.until(9))[4:] == [
            *(("0x04", True), ("0x03", True), ("0x02", True)),
            *(("0x05", False), ("0x02", False)),
        ]
        assert (await heads.until(6))[3:] == [(2, left[0]), (3, left[1]), (4, left[2])]
        assert l1.blocks.figures.reorgs == 1


async def test_failing_over_and_back_loses_and_doubles_nothing(short_tmp: Path) -> None:
    first, second = ChainNode(), ChainNode()
    second.chain, second.by_hash, second.logs = first.chain, first.by_hash, first.logs
    async with first.ipc(short_tmp / "n.ipc") as near, second.http() as far:
        l1 = L1([near, far])
        await l1.start()
        try:
            heads, logs = Told(), Told()
            await l1.subscribe(["newHeads"], heads)
            await l1.subscribe(["logs", {"address": ADDRESS}], logs)
            first.mine("0x01")
            l1.blocks.poke()
            await logs.until(1)
            async with away(first):
                first.mine("0x02")
                l1.blocks.poke()
                await logs.until(2)
                asked = second.times("eth_getLogs")
                first.cut(1)
                first.mine("0x03")
                await logs.until(4)
                assert second.times("eth_getLogs") == asked + 1
            async with asyncio.timeout(60):
                while l1.blocks.figures.node_subscriptions == 0:  # noqa: ASYNC110  (it listens to the first one again)
                    await asyncio.sleep(0.01)
            first.mine("0x04")
            await first.announce()
            told = [("0x01", False), ("0x02", False), ("0x02", True), ("0x03", False), ("0x04", False)]
            assert await logs.until(5) == told
            assert [number for number, _ in await heads.until(4)] == [1, 2, 2, 3]
        finally:
            await l1.close()


async def test_a_reorg_while_away_is_told_after_it(short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (l1, _, logs):
        node.mine("0x01")
        node.mine("0x02")
        l1.blocks.poke()
        await logs.until(2)
        async with away(node):
            node.cut(1)
            node.mine("0x03")
        assert await logs.until(4) == [("0x01", False), ("0x02", False), ("0x02", True), ("0x03", False)]


async def test_a_chain_that_went_back_takes_its_logs_with_it(short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, "http", short_tmp) as (l1, heads, logs):
        for data in ("0x01", "0x02", "0x03"):
            node.mine(data)
        l1.blocks.poke()
        await logs.until(3)
        node.cut(3)
        l1.blocks.poke()
        assert (await logs.until(6))[3:] == [("0x03", True), ("0x02", True), ("0x01", True)]
        again = node.mine("0x01")
        assert (await logs.until(7))[6:] == [("0x01", False)]
        assert (await heads.until(4))[3:] == [(1, again)]


async def test_a_block_whose_logs_are_not_there_yet_is_waited_for(short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, logs):
        late = node.mine("0x01")
        node.unknown.add(late)
        node.mine("0x02")
        l1.blocks.poke()
        await heads.until(2)
        while node.times("eth_getLogs") < 4:  # noqa: ASYNC110  (asked and refused)
            await asyncio.sleep(0.01)
        assert logs.all == [], "what comes later waits"
        node.unknown.clear()
        assert await logs.until(2) == [("0x01", False), ("0x02", False)]


@pytest.mark.parametrize("logs", [[1], ["x"], [{}], {}, [{"blockNumber": "0x2", "blockHash": "0x" + "99" * 32}]])
async def test_logs_that_are_none_stop_nobody(logs: Any, short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (l1, _, told):
        node.mine("0x01")
        l1.blocks.poke()
        await told.until(1)
        asked = asyncio.Event()

        async def garbage(request: dict[str, Any]) -> bytes | None:
            if request["method"] != "eth_getLogs":
                return None
            asked.set()
            return result(request, logs)

        node.answer = garbage
        node.mine("0x02")
        l1.blocks.poke()
        await asyncio.wait_for(asked.wait(), 60)
        node.cut(1)  # what was told is taken back, and what was never a log is none of it
        node.mine("0x03")
        node.answer = None
        l1.blocks.poke()
        assert await told.until(2) == [("0x01", False), ("0x03", False)]


async def test_a_fault_of_one_subscription_is_its_own_end_alone(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, told):

        async def faulty(*_: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(sources, "follow_logs", faulty)
        await l1.subscribe(["logs", {}], Told())
        node.mine("0x01")
        l1.blocks.poke()
        assert await told.until(1) == [("0x01", False)]
        assert len(await heads.until(1)) == 1


async def test_a_block_that_left_while_its_logs_were_asked_for_holds_up_nothing(short_tmp: Path) -> None:
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, logs):
        node.unknown.add(node.mine("0x01"))
        l1.blocks.poke()
        await heads.until(1)
        node.cut(1)
        node.mine("0x02")
        l1.blocks.poke()
        assert await logs.until(1) == [("0x02", False)]


async def test_a_very_long_absence_loses_no_log_even_where_ranges_are_bounded(short_tmp: Path) -> None:
    node = ChainNode()
    node.most_blocks = 100
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, logs):
        async with away(node):
            for number in range(1, 701):
                node.mine(*([hex(number)] if number % 7 == 0 else []))
        expected = [(hex(number), False) for number in range(7, 701, 7)]
        assert await logs.until(100) == expected
        assert [number for number, _ in await heads.until(256)] == [*range(445, 701)]
        node.cut(300)
        node.mine()
        l1.blocks.poke()
        taken_back = [(hex(number), True) for number in range(700, 700 - 256, -1) if number % 7 == 0]
        assert (await logs.until(100 + len(taken_back)))[100:] == taken_back


async def test_a_provider_whose_nodes_lag_is_no_reorg(short_tmp: Path) -> None:
    node = ChainNode(version="Geth/v1.16")
    async with following_chain(node, "http", short_tmp) as (l1, heads, logs):
        for data in ("0x01", "0x02"):
            node.mine(data)
        await l1.blocks.sync()
        newest = node.chain.pop()
        for _ in range(3):
            await l1.blocks.sync()
        node.chain.append(newest)
        node.mine("0x03")
        await l1.blocks.sync()
        assert await logs.until(3) == [("0x01", False), ("0x02", False), ("0x03", False)]
        assert ([number for number, _ in heads.all], l1.blocks.figures.reorgs) == ([1, 2, 3], 0)
        node.cut(1)
        for _ in range(8):
            await l1.blocks.sync()
        assert (await logs.until(4))[3:] == [("0x03", True)], "in the end it is believed"


async def test_an_announced_block_costs_no_question(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Before the first announcement it looks as often as at a node that announces nothing, which a slow machine would see.
    monkeypatch.setattr("proxy.upstream.l1.POLL_NEAR", 3600.0)
    node = ChainNode(version="Geth/v1.16")
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, _):
        async with asyncio.timeout(60):
            while l1.blocks.figures.node_subscriptions == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await l1.blocks.sync()
        looked = l1.blocks.figures.looks
        for number in range(1, 6):
            node.mine()
            await node.announce()
            await heads.until(number)
        assert (l1.blocks.figures.looks, node.times("eth_getBlockByHash")) == (looked, 0)
        node.mine()
        node.mine()
        await node.announce()  # 6 was never announced
        assert [number for number, _ in await heads.until(7)] == [*range(1, 8)]
        await node.announce(node.chain[3])  # an old one changes nothing
        await node.push_result("heads", "nonsense")
        await l1.blocks.sync()
        assert len(heads.all) == 7


async def test_a_node_that_stops_announcing_is_asked_anew(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_DEAF_SECONDS", 0.0)
    node = ChainNode()
    async with following_chain(node, "ipc", short_tmp) as (_, heads, _):
        node.mine()
        while not heads.all:
            await node.announce()
            await asyncio.sleep(0.01)
        for count in (2, 3):  # found by looking; nothing is announced
            node.mine()
            await heads.until(count)
        async with asyncio.timeout(60):
            while node.subscribed.count(["newHeads"]) < 2 or node.unsubscribed != ["heads"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_the_finalized_and_the_safe_block(short_tmp: Path) -> None:
    node = ChainNode()
    async with node.http() as url:
        l1 = L1([url])
        await l1.start()
        try:
            for _ in range(5):
                node.mine()
            await l1.blocks.sync()
            assert (l1.blocks.finalized, l1.blocks.safe) == (None, None), "this node knows no such tags"
            node.tags = {"finalized": 2, "safe": 3}
            node.mine()
            async with asyncio.timeout(60):
                while l1.blocks.finalized is None or l1.blocks.safe is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert (l1.blocks.finalized.number, l1.blocks.safe.number) == (2, 3)
            node.tags = {"finalized": 2, "safe": 2}
            node.cut(4)
            node.mine()
            await l1.blocks.sync()
            assert l1.blocks.finalized.number == 2
            async with asyncio.timeout(60):
                while l1.blocks.safe is None:  # noqa: ASYNC110  (the one that was reorganised away is named no more)
                    await asyncio.sleep(0.01)
            assert l1.blocks.safe.number == 2
        finally:
            await l1.close()


async def test_a_reorg_while_the_finalized_block_is_asked_for_leaves_it_known() -> None:
    tags = {"finalized": block(2, "0x" + "22" * 32, GENESIS), "safe": block(3, "0x" + "33" * 32, GENESIS)}
    blocks = BlockTracker(never, lambda: 3600.0, never)
    blocks.head = Head(4, "0x" + "44" * 32, "0x" + "33" * 32, 0)
    known: list[tuple[Head | None, str]] = []

    async def call(_: str, tag: str, __: bool) -> Any:
        known.append((blocks.finalized, tag))
        answer = tags[tag]
        if len(known) == 3:  # the answer is on its way when the blocks above 2 leave the chain
            blocks.figures.reorgs += 1
            tags["finalized"] = tags["safe"] = block(1, "0x" + "11" * 32, GENESIS)
        return answer

    settled = Settled(blocks, call, lambda: 3600.0)
    await settled.read()
    assert (blocks.finalized and blocks.finalized.number, blocks.safe and blocks.safe.number) == (2, 3)
    await settled.read()
    assert (blocks.finalized and blocks.finalized.number, blocks.safe and blocks.safe.number) == (1, 1)
    assert [(head and head.number, tag) for head, tag in known[2:]] == [
        *((2, "finalized"), (2, "finalized"), (1, "safe")),
    ]


async def never(*_: Any) -> Any:
    """Be asked by nobody."""
    raise AssertionError


async def test_a_reorg_below_the_start_reads_nothing_older(short_tmp: Path) -> None:
    node = ChainNode()
    for _ in range(40):
        node.mine("0x01")
    async with following_chain(node, "ipc", short_tmp) as (l1, heads, logs):
        async with asyncio.timeout(60):
            while node.times("eth_getBlockByHash") < 31:  # noqa: ASYNC110  (what lay below the first block is read)
                await asyncio.sleep(0.01)
        changes: list[Event] = []
        l1.blocks.on_change(changes.append)
        node.cut(3)
        node.mine("0xaa")
        node.mine("0xbb")
        l1.blocks.poke()
        assert await logs.until(2) == [("0xaa", False), ("0xbb", False)]
        assert [event.ancestor_number for event in changes if isinstance(event, Reorg)] == [37]
        node.cut(35)
        for number in range(60):
            node.mine(hex(0x100 + number))
        l1.blocks.poke()
        await heads.until(len(heads.all) + 1)
        while logs.all[-1] != ("0x13b", False):
            await logs.until(len(logs.all) + 1)
        told = logs.all[2:]
        assert told[:2] == [("0xbb", True), ("0xaa", True)]
        assert told[2:] == [(hex(0x100 + number - 5), False) for number in range(65 - len(told[2:]), 65)]
        assert 54 <= len(told[2:]) <= 56, (
            "what lies below all that is remembered is a gap, and older than the subscription"
        )
        assert [event.ancestor_number for event in changes if isinstance(event, Reorg)] == [37, 0]


@pytest.mark.parametrize("kind", KINDS)
async def test_anvil_reorgs_reverts_and_resets(kind: str, anvil: Anvil) -> None:
    l1 = L1([getattr(anvil, kind)])
    await l1.start()
    try:
        logs = Told()
        events: list[Event] = []
        await l1.call("anvil_setCode", ADDRESS, EMITTER)
        await l1.subscribe(["logs", {"address": [ADDRESS]}], logs)
        l1.blocks.on_change(events.append)
        snapshot = await l1.call("evm_snapshot")
        await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS})
        await logs.until(1)
        await l1.call("evm_revert", snapshot)
        assert await logs.until(2) == [("0x", False), ("0x", True)]
        await l1.call("eth_sendTransaction", {"from": OTHER_SENDER, "to": ADDRESS})
        await logs.until(3)
        async with l1.blocks._syncing:  # anvil takes the block back and then makes one: nobody looks in between
            await l1.call("anvil_reorg", 1, [])
        assert await logs.until(4) == [("0x", False), ("0x", True)] * 2
        reorgs = [event for event in events if isinstance(event, Reorg)]
        assert [(reorg.ancestor_number, reorg.to_head.number) for reorg in reorgs] == [(0, 0), (0, 1)]
    finally:
        await l1.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clock_of_the_chain_that_jumps_delays_and_loses_nothing(kind: str, anvil: Anvil) -> None:
    l1 = L1([getattr(anvil, kind)])
    await l1.start()
    try:
        heads = Told()
        await l1.subscribe(["newHeads"], heads)
        for change in (["evm_increaseTime", 50 * 365 * 86400], ["anvil_setTime", 1], ["evm_increaseTime", 86400]):
            await l1.call(*change)
            for _ in range(3):
                await l1.call("evm_mine")
        assert [number for number, _ in await heads.until(9)] == list(range(1, 10))
        assert l1.blocks.head is not None
        assert l1.blocks.figures.reorgs == 0
    finally:
        await l1.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_restarted_in_the_middle(kind: str, port: int, anvil_binary: Path, short_tmp: Path) -> None:
    fixed = ("--timestamp", "1700000000")
    link = short_tmp / "link.ipc"
    async with start_anvil(anvil_binary, 31337, *fixed, port=port) as first:
        link.symlink_to(first.ipc)
        l1 = L1([str(link) if kind == "ipc" else getattr(first, kind)])
        await l1.start()
        heads, logs = Told(), Told()
        await l1.call("anvil_setCode", ADDRESS, EMITTER)
        await l1.subscribe(["newHeads"], heads)
        await l1.subscribe(["logs", {"address": ADDRESS}], logs)
        for _ in range(2):
            await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS})
        await heads.until(2)
        await logs.until(2)
    async with start_anvil(anvil_binary, 31337, *fixed, port=port) as second:
        link.unlink()
        link.symlink_to(second.ipc)
        assert (await logs.until(4))[2:] == [("0x", True)] * 2, "it came back at its genesis"
        await l1.call("anvil_setCode", ADDRESS, EMITTER)
        await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS})
        assert (await logs.until(5))[4:] == [("0x", False)]
        newest = await l1.call("eth_getBlockByNumber", "latest", False)
        assert (await heads.until(3))[2:] == [(1, newest["hash"])]
        await l1.close()
