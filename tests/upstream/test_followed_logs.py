"""Logs of a chain that jumps and forks under a node that fails: whoever adds and takes back what he is told has the chain's logs."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from middleware.errors import Disconnected, RpcError
from proxy.upstream import block_tracker, chain_events, chain_reader, followed_logs
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, Head, NewHead, Reorg, still_true
from proxy.upstream.followed_logs import Behind, FollowedLogs, follow_logs
from proxy.upstream.log_filter import LogFilter
from tests.upstream.fake_node import block


class Chain:
    """A node's chain with a log in most blocks. `failing`: how often, of one, a question for logs fails; `lags`: how many blocks those who
    answer `behind` may be behind, each time another.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.failing = 0.0
        self.lags = [0]
        self.blocks: list[str] = []
        self.by_hash: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self._names = itertools.count(1)
        self.grow(1)

    def grow(self, count: int) -> None:
        for _ in range(count):
            name, number = f"0x{next(self._names):064x}", len(self.blocks)
            self.by_hash[name] = block(number, name, self.blocks[-1] if self.blocks else "0x" + "00" * 32)
            self.logs[name] = [
                {"blockNumber": hex(number), "blockHash": name, "logIndex": hex(index), "removed": False}
                for index in range(self.chance.choice([0, 1, 1, 2]))
            ]
            self.blocks.append(name)

    def cut(self, count: int) -> None:
        for name in self.blocks[max(len(self.blocks) - count, 1) :]:
            del self.by_hash[name]
        del self.blocks[max(len(self.blocks) - count, 1) :]

    async def call(self, method: str, which: Any, *_: Any) -> Any:
        if method == "eth_getBlockByHash":
            return self.by_hash.get(which)
        if method == "eth_getBlockByNumber":
            number = len(self.blocks) - 1 if which == "latest" else int(which, 16)
            return self.by_hash[self.blocks[number]] if number < len(self.blocks) else None
        await asyncio.sleep(0)
        if self.chance.random() < self.failing:
            raise self.chance.choice([Disconnected("away"), RpcError(-32005, "not now")])
        if "blockHash" in which:
            if which["blockHash"] not in self.by_hash:
                raise RpcError(-32000, "unknown block")
            return self.logs[which["blockHash"]]
        first, last = int(which["fromBlock"], 16), int(which["toBlock"], 16)
        return [one for name in self.blocks[first : last + 1] for one in self.logs[name]]

    async def behind(self, method: str, which: Any, *more: Any) -> Any:
        """Answer as nodes behind one address do, of which some lag: a range ends, silently, where their chain does."""
        have = self.blocks[: len(self.blocks) - self.chance.choice(self.lags)] or self.blocks[:1]
        if method == "eth_getBlockByNumber" and which != "latest" and int(which, 16) >= len(have):
            return None
        found = await self.call(method, which, *more)
        if method == "eth_getLogs" and "toBlock" in which:
            return [one for one in found if int(one["blockNumber"], 16) < len(have)]
        if method == "eth_getLogs" and which["blockHash"] not in have:
            raise RpcError(-32000, "unknown block")
        return found


class Held:
    """What one who adds and takes back has; to be told twice, or to have taken back what was never told, is an error."""

    def __init__(self) -> None:
        self.logs: set[tuple[str, str]] = set()

    def __call__(self, one: dict[str, Any]) -> None:
        name = one["blockHash"], one["logIndex"]
        assert (name in self.logs) is one["removed"], f"{name} told twice, or taken back unasked"
        self.logs ^= {name}

    def is_that_of(self, chain: Chain) -> bool:
        return self.logs == {(name, one["logIndex"]) for name in chain.blocks[1:] for one in chain.logs[name]}


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_adding_and_taking_back_gives_the_chains_logs(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in [
        *((chain_reader, "_FILLED", 6), (block_tracker, "_REMEMBERED", 12), (chain_events, "_QUEUED", 20)),
        *((followed_logs, "_TOLD_BLOCKS", 10_000), (followed_logs, "_RANGE", 3), (followed_logs, "_NEAR", 4)),
        *((followed_logs, "_FIRST_PAUSE", 0.0), (followed_logs, "_LONGEST_PAUSE", 0.0)),
    ]:
        monkeypatch.setattr(module, name, value)
    chance = random.Random(seed)
    chain, held = Chain(chance), Held()

    async def deeply_changed() -> None:
        return

    tracker = BlockTracker(chain.call, lambda: 0.01, deeply_changed)
    await tracker.sync()
    logs = FollowedLogs(chain.behind, LogFilter({}), held, tracker.head)
    following = asyncio.create_task(follow_logs(logs, tracker.events()))
    for _ in range(60):
        chain.failing = chance.choice([0.0, 0.3, 0.9])
        chain.lags = chance.choice([[0], [0, 3], [3], [0, 1, 2, 3]])
        chain.cut(chance.choice([0, 0, 0, 1, 2, 5, 9]))
        chain.grow(chance.choice([1, 1, 1, 2, 4, 9, 25]))
        await tracker.sync()
        for _ in range(chance.choice([0, 1, 5, 50])):
            await asyncio.sleep(0)
    chain.failing, chain.lags = 0.0, [0]
    async with asyncio.timeout(60):
        while not held.is_that_of(chain):
            assert not following.done(), following.exception()
            await asyncio.sleep(0)
    following.cancel()


async def test_what_cannot_be_taken_back_any_more_is_not_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_logs, "_TOLD_BLOCKS", 4)
    chain, held = Chain(random.Random(2)), Held()
    chain.grow(9)
    logs = FollowedLogs(chain.call, LogFilter({}), held, head(0))
    for number in range(1, 10):
        assert await logs.take(NewHead(Head(number, chain.blocks[number], "", 0)))
    assert await logs.take(Reorg(head(9), 0, head(9)))
    assert await logs.take(NewHead(Head(9, chain.blocks[9], chain.blocks[8], 0), gap_from=1))
    assert held.is_that_of(chain)


def head(number: int) -> Head:
    return Head(number, hex(number), hex(number - 1), 0)


def test_of_a_gap_that_a_reorg_cut_the_rest_is_still_told() -> None:
    gap = NewHead(head(100), gap_from=10)
    longer: list[Event] = [gap, Reorg(head(100), 98, head(101)), *(NewHead(head(number)) for number in (99, 100, 101))]
    assert still_true(longer) == [longer[1], NewHead(head(99), gap_from=10), *longer[3:]]
    shorter: list[Event] = [gap, Reorg(head(100), 98, head(98))]
    assert still_true(shorter) == [shorter[1], NewHead(head(98), gap_from=10)]
    below: list[Event] = [gap, Reorg(head(100), 5, head(6)), NewHead(head(6))]
    assert still_true(below) == below[1:]


@pytest.mark.parametrize(
    "answer",
    [
        *([1], ["x"], [None], [{}], [{"blockNumber": 1}], [{"blockNumber": "0x" + "f" * 40}], {}, "0x"),
        [{"blockNumber": "0x7", "blockHash": "0x" + "22" * 32}],
        [{"blockNumber": "0x8", "blockHash": "0x" + "11" * 32}],
    ],
)
async def test_logs_that_are_none_or_of_another_block_are_not_told(answer: Any) -> None:
    told: list[Any] = []

    async def call(*_: Any) -> Any:
        return answer

    logs = FollowedLogs(call, LogFilter({}), told.append, head(6))
    block_hash = "0x" + "11" * 32
    with pytest.raises(Disconnected, match="eth_getLogs"):
        await logs.take(NewHead(Head(7, block_hash, "0x", 0)))
    assert told == []


async def test_a_range_holds_no_logs_of_other_blocks() -> None:
    chain = Chain(random.Random(1))
    chain.grow(99)

    async def call(method: str, *params: Any) -> Any:
        return [{"blockNumber": "0x9"}] if method == "eth_getLogs" else await chain.call(method, *params)

    logs = FollowedLogs(call, LogFilter({}), lambda _: None, head(6))
    with pytest.raises(Disconnected, match="other blocks"):
        await logs.take(NewHead(Head(99, chain.blocks[99], "", 0), gap_from=20))


@pytest.mark.parametrize("behind", [3, 150])
async def test_a_range_that_a_node_behind_cut_is_not_taken_as_read(behind: int) -> None:
    chain, held = Chain(random.Random(1)), Held()
    chain.grow(400)
    logs = FollowedLogs(chain.behind, LogFilter({}), held, head(0))
    gap = NewHead(Head(400, chain.blocks[400], chain.blocks[399], 0), gap_from=1)
    chain.lags = [behind]
    for _ in range(2):
        with pytest.raises(Behind):
            await logs.take(gap)
    chain.lags = [0]
    while not await logs.take(gap):
        pass
    assert held.is_that_of(chain)


async def test_a_range_of_another_branch_is_not_taken_as_read() -> None:
    chain = Chain(random.Random(1))
    chain.grow(400)
    logs = FollowedLogs(chain.call, LogFilter({}), Held(), head(0))
    gap = NewHead(Head(400, chain.blocks[400], chain.blocks[399], 0), gap_from=1)
    chain.cut(200)
    chain.grow(250)
    with pytest.raises(Behind):
        await logs.take(gap)


@pytest.mark.parametrize("gap_from", [None, 1])
async def test_nothing_is_asked_beyond_a_block_that_stays_refused(gap_from: int | None) -> None:
    chain, asked = Chain(random.Random(1)), 0
    chain.grow(40)

    async def call(method: str, which: Any, *more: Any) -> Any:
        nonlocal asked
        asked += method == "eth_getLogs"
        if method == "eth_getLogs" and which.get("blockHash") == chain.blocks[1]:
            raise RpcError(-32000, "never")
        return await chain.call(method, which, *more)

    logs, held = FollowedLogs(call, LogFilter({}), Held(), head(0)), 0
    heads = [Head(number, chain.blocks[number], chain.blocks[number - 1], 0) for number in range(1, 41)]
    events = [NewHead(head) for head in heads] if gap_from is None else [NewHead(heads[-1], gap_from)]
    for _ in range(10):
        held = asked
        await logs.read_ahead(events)
        with pytest.raises(RpcError, match="never"):
            await logs.take(events[0])
    assert asked - held == 1, "the refused block alone"


@pytest.mark.parametrize("near", [1, 64])
async def test_a_block_whose_logs_are_refused_for_long_costs_no_more_than_itself(
    near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_logs, "_GIVE_UP_SECONDS", -1.0)
    monkeypatch.setattr(followed_logs, "_RANGE", 4)
    monkeypatch.setattr(followed_logs, "_NEAR", near)
    chain, told = Chain(random.Random(1)), []
    chain.grow(9)
    refused = chain.blocks[5]

    async def call(method: str, which: Any, *more: Any) -> Any:
        if method == "eth_getLogs" and (
            which["blockHash"] == refused
            if "blockHash" in which
            else int(which["fromBlock"], 16) <= 5 <= int(which["toBlock"], 16)
        ):
            raise RpcError(-32005, "too many logs")
        return await chain.call(method, which, *more)

    logs = FollowedLogs(call, LogFilter({}), told.append, head(0))
    events = chain_events.Events()
    events.put(NewHead(Head(9, chain.blocks[9], chain.blocks[8], 0), gap_from=1))
    events.end()
    await follow_logs(logs, events)
    assert told == [one for name in chain.blocks[1:] if name != refused for one in chain.logs[name]]
