"""The tracker on a chain that grows, jumps, forks and goes back: whoever replays its events has the node's chain."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from typing import Any

import pytest

from middleware.errors import Disconnected, RpcError
from proxy.upstream import block_tracker, chain_events, chain_reader
from proxy.upstream.block_tracker import BlockTracker, Event, Events, Head, NewHead, Reorg, folded
from tests.upstream.fake_node import block


class Chain:
    """A node's chain: block hashes by number, old blocks still found by hash."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.by_hash: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self._next = 0
        self.grow(1)

    def grow(self, count: int) -> None:
        for _ in range(count):
            self._next += 1
            name = f"0x{self._next:064x}"
            parent = self.blocks[-1] if self.blocks else "0x" + "00" * 32
            self.by_hash[name] = block(len(self.blocks), name, parent)
            self.blocks.append(name)

    def cut(self, count: int) -> None:
        del self.blocks[max(len(self.blocks) - count, 1) :]

    async def call(self, method: str, which: str, _: bool) -> dict[str, Any] | None:
        self.asked += 1
        if method == "eth_getBlockByHash":
            return self.by_hash.get(which)
        number = len(self.blocks) - 1 if which == "latest" else int(which, 16)
        return self.by_hash[self.blocks[number]] if number < len(self.blocks) else None


class Replay:
    """What a listener knows who only follows events: the hash of each block, None where it was not told."""

    def __init__(self, tracker: BlockTracker) -> None:
        self.events = tracker.events()
        self.blocks: dict[int, str | None] = {}
        self.top = -1

    def take(self) -> None:
        while self.events._queue:
            self.apply(self.events._queue.popleft())

    def apply(self, event: Event) -> None:
        if isinstance(event, Reorg):
            assert event.ancestor_number < self.top <= event.from_head.number
            self.top = event.ancestor_number
            return
        first = event.head.number if event.gap_from is None else event.gap_from
        assert first == self.top + 1, "a block was told twice, or left out without a word"
        for number in range(first, event.head.number):
            self.blocks[number] = None
        self.blocks[event.head.number] = event.head.hash
        self.top = event.head.number

    def agrees_with(self, chain: Chain) -> None:
        assert self.top == len(chain.blocks) - 1
        for number in range(1, self.top + 1):
            assert self.blocks[number] in (None, chain.blocks[number])


def tracker_of(chain: Chain, deep: list[int] | None = None) -> BlockTracker:
    async def deeply_changed() -> None:
        if deep is not None:
            deep.append(len(chain.blocks))

    return BlockTracker(chain.call, lambda: 0.01, deeply_changed)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_replaying_gives_the_chain(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_reader, "_FILLED", 6)
    monkeypatch.setattr(block_tracker, "_REMEMBERED", 12)
    chance = random.Random(seed)
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    replay = Replay(tracker)
    replay.top = 0
    for _ in range(60):
        chain.cut(chance.choice([0, 0, 0, 1, 2, 5, 20]))
        chain.grow(chance.choice([0, 1, 1, 1, 2, 4, 9, 25]))
        await tracker.sync()
        replay.take()
        replay.agrees_with(chain)
        assert tracker.head is not None
        assert tracker.head.hash == chain.blocks[-1]


async def test_one_new_block_is_one_question() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    chain.grow(1)
    chain.asked = 0
    await tracker.sync()
    await tracker.sync()
    assert chain.asked == 2


async def test_missed_blocks_are_told_one_by_one() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    events = tracker.events()
    chain.grow(10)
    await tracker.sync()
    told = [await anext(events) for _ in range(10)]
    assert [event.head.number for event in told if isinstance(event, NewHead) and event.gap_from is None] == [
        *range(1, 11)
    ]


async def test_a_long_absence_is_one_gap_and_the_last_blocks() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    events = tracker.events()
    chain.grow(5000)
    await tracker.sync()
    first = await anext(events)
    assert isinstance(first, NewHead)
    assert (first.gap_from, first.head.number) == (1, 5000 - 255)
    assert chain.asked < 300


async def test_a_chain_that_went_back_or_away_is_looked_at_again() -> None:
    chain, deep = Chain(), []  # type: tuple[Chain, list[int]]
    chain.grow(5)
    tracker = tracker_of(chain, deep)
    await tracker.sync()
    chain.grow(3)
    await tracker.sync()
    assert deep == []
    chain.cut(2)
    await tracker.sync()
    assert len(deep) == 1


async def test_a_node_that_lies_about_parents_is_believed_nothing() -> None:
    chain = Chain()
    chain.grow(3)
    tracker = tracker_of(chain)
    await tracker.sync()
    head = tracker.head
    chain.grow(2)
    newest, parent = chain.by_hash[chain.blocks[-1]], chain.by_hash[chain.blocks[-2]]
    for lie, true in [
        ({**newest, "number": hex(9)}, newest),
        ({**newest, "parentHash": chain.blocks[1]}, newest),
        ({**parent, "number": hex(1)}, parent),
        ({**parent, "hash": "0x" + "77" * 32}, parent),
    ]:
        chain.by_hash[true["hash"]] = lie
        with pytest.raises(Disconnected, match=r"numbers and parents disagree|another block"):
            await tracker.sync()
        assert tracker.head == head
        chain.by_hash[true["hash"]] = true
    await tracker.sync()
    assert tracker.head is not None
    assert tracker.head.number == 5


async def test_a_foreign_chain_is_not_told() -> None:
    chain = Chain()
    chain.grow(5)

    async def foreign() -> None:
        raise Disconnected("another chain")

    tracker = BlockTracker(chain.call, lambda: 0.01, foreign)
    await tracker.sync()
    head, events = tracker.head, tracker.events()
    chain.cut(3)
    with pytest.raises(Disconnected):
        await tracker.sync()
    assert tracker.head == head
    assert not events._queue


async def test_listeners_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_events, "_QUEUED", 50)
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    quick, slow = Replay(tracker), Replay(tracker)
    quick.top = slow.top = 0
    for step in range(200):
        chain.cut(step % 3)
        chain.grow(2)
        await tracker.sync()
        quick.take()
        quick.agrees_with(chain)
        assert len(slow.events._queue) <= 50
    slow.take()
    slow.agrees_with(chain)


def test_folding_says_the_same_in_two_events() -> None:
    def head(number: int, name: str = "a") -> Head:
        return Head(number, f"{name}{number}", f"{name}{number - 1}", number)

    growth = deque[Event]([NewHead(head(n)) for n in range(5, 9)])
    assert folded(growth) == [NewHead(head(8), gap_from=5)]
    within = deque[Event]([*growth, Reorg(head(8), 6, head(7, "b")), NewHead(head(7, "b"))])
    assert folded(within) == [NewHead(head(7, "b"), gap_from=5)]
    fork = deque[Event]([*growth, Reorg(head(8), 3, head(5, "b")), NewHead(head(4, "b")), NewHead(head(5, "b"))])
    assert folded(fork) == [Reorg(head(8), 3, head(5, "b")), NewHead(head(5, "b"), gap_from=4)]
    back = deque[Event]([NewHead(head(5)), Reorg(head(5), 2, head(2))])
    assert folded(back) == [Reorg(head(5), 2, head(2))]


def test_a_queue_that_is_folded_at_a_reorg_tells_what_follows_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_events, "_QUEUED", 2)
    events = Events()
    heads = [Head(number, hex(number), hex(number - 1), 0) for number in range(6)]
    for event in (
        NewHead(heads[1]),
        NewHead(heads[2]),
        Reorg(heads[2], 1, heads[3]),
        NewHead(heads[2]),
        NewHead(heads[3]),
    ):
        events.put(event)
    assert events.drain() == [NewHead(heads[2], gap_from=1), NewHead(heads[3])]


async def test_running_ends_listeners_when_it_ends() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    running = asyncio.create_task(tracker.run())
    events = tracker.events()
    assert isinstance(await anext(events), NewHead)
    chain.grow(1)
    tracker.poke()
    assert isinstance(await anext(events), NewHead)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_who_looks_at_the_same_time_looks_once() -> None:
    chain, failures = Chain(), 0

    async def call(*which: Any) -> Any:
        nonlocal failures
        await asyncio.sleep(0)
        failures -= 1
        if failures >= 0:
            raise Disconnected("away")
        return await chain.call(*which)

    tracker = BlockTracker(call, lambda: 1, unchanged)
    assert {head and head.number for head in await asyncio.gather(*(tracker.sync() for _ in range(50)))} == {0}
    assert chain.asked == 2, "the first who asks, and all others, whose wish came after its question had left"
    chain.grow(1)
    await tracker.sync()
    assert (chain.asked, tracker.head and tracker.head.number) == (3, 1)
    failures = 1
    looks = await asyncio.gather(*(tracker.sync() for _ in range(3)), return_exceptions=True)
    assert [isinstance(look, Disconnected) for look in looks] == [True, False, False], "one's failure is one's own"


async def unchanged() -> None:
    """Find nothing wrong with a chain."""


async def test_a_look_that_failed_is_repeated_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_tracker, "_AGAIN_SECONDS", 0.01)
    chain, failures = Chain(), [Disconnected("away"), RpcError(-32000, "not now")]

    async def call(*which: Any) -> Any:
        if failures:
            raise failures.pop()
        return await chain.call(*which)

    tracker = BlockTracker(call, lambda: 3600.0, unchanged)
    running = asyncio.create_task(tracker.run())
    async with asyncio.timeout(60):
        assert isinstance(await anext(tracker.events()), NewHead)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_callbacks_hear_at_once_and_a_broken_one_is_alone() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    heard: list[tuple[Event, Head | None]] = []

    def broken(_: Event) -> None:
        raise RuntimeError("broken listener")

    tracker.on_change(broken)
    stop = tracker.on_change(lambda event: heard.append((event, tracker.head)))
    await tracker.sync()
    chain.cut(1)
    chain.grow(2)
    await tracker.sync()
    assert [(event.head.number, head and head.number) for event, head in heard if isinstance(event, NewHead)] == [
        *((0, 0), (1, 2), (2, 2)),
    ]
    stop()
    chain.grow(1)
    await tracker.sync()
    assert len(heard) == 3


async def test_a_pushed_header_is_believed_only_as_the_next_block() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    await tracker.sync()
    events = tracker.events()
    chain.grow(1)
    following = json.dumps(chain.by_hash[chain.blocks[1]]).encode()
    chain.asked = 0
    tracker.announced(following)
    tracker.announced(following)
    told = events.drain()
    assert [(event.head.number, event.header) for event in told if isinstance(event, NewHead)] == [(1, following)]
    for nonsense in (b"", b"null", b"{}", b'{"number":"0x","hash":1}', b"[" * 5000):
        tracker.announced(nonsense)
    chain.grow(2)
    tracker.announced(json.dumps(chain.by_hash[chain.blocks[3]]).encode())  # its parent is not known
    assert (events.drain(), tracker.head and tracker.head.number, chain.asked) == ([], 1, 0)
    await tracker.sync()
    assert [event.head.number for event in events.drain() if isinstance(event, NewHead)] == [2, 3]


async def test_a_header_that_overtakes_an_answer_is_told_and_the_answer_takes_nothing_back() -> None:
    chain, gate = Chain(), asyncio.Event()
    gate.set()

    async def call(*which: Any) -> Any:
        answer = await chain.call(*which)
        await gate.wait()
        return answer

    tracker = BlockTracker(call, lambda: 1, unchanged)
    await tracker.sync()
    events = tracker.events()
    gate.clear()
    looking = asyncio.create_task(tracker.sync())
    await asyncio.sleep(0)  # the question has its answer, and that is on its way
    chain.grow(2)
    for number in (1, 2):
        tracker.announced(json.dumps(chain.by_hash[chain.blocks[number]]).encode())
    assert [event.head.number for event in events.drain() if isinstance(event, NewHead)] == [1, 2]
    gate.set()
    assert (await looking) == tracker.head
    assert (events.drain(), tracker.head and tracker.head.number) == ([], 2)


async def test_a_header_that_comes_while_a_reorg_is_read_waits_for_it() -> None:
    chain, gate = Chain(), asyncio.Event()
    gate.set()

    async def call(method: str, *which: Any) -> Any:
        if method == "eth_getBlockByHash":
            await gate.wait()
        return await chain.call(method, *which)

    tracker = BlockTracker(call, lambda: 1, unchanged)
    chain.grow(2)
    await tracker.sync()
    replay = Replay(tracker)
    replay.top = 2
    chain.grow(1)
    old = json.dumps(chain.by_hash[chain.blocks[3]]).encode()
    chain.cut(2)
    chain.grow(3)
    gate.clear()
    looking = asyncio.create_task(tracker.sync())
    await asyncio.sleep(0)
    tracker.announced(old)  # the next block of the branch that is being left
    gate.set()
    await looking
    await tracker.sync()
    replay.take()
    replay.agrees_with(chain)


async def test_a_listener_that_is_dropped_is_forgotten() -> None:
    chain = Chain()
    tracker = tracker_of(chain)
    kept = tracker.events()
    tracker.events()
    assert isinstance(kept, Events)
    assert len(tracker._listeners) == 1


GOOD = block(1, "0x" + "11" * 32, "0x" + "22" * 32)


@pytest.mark.parametrize(
    "answer",
    [
        *({}, [], "0x1", {**GOOD, "number": None}, {**GOOD, "hash": None}, {**GOOD, "parentHash": ["0x"]}),
        *({**GOOD, "hash": "0x11"}, {**GOOD, "number": "-0x1"}, {**GOOD, "number": "0x1_0"}, {**GOOD, "number": 1}),
        *({**GOOD, "number": "0x" + "f" * 17}, {**GOOD, "timestamp": "0x" + "f" * 400}),
    ],
)
async def test_a_block_that_is_none_is_an_error_in_words(answer: Any) -> None:
    async def call(*_: Any) -> Any:
        return answer

    async def never() -> None:
        raise AssertionError

    with pytest.raises(Disconnected, match="not a block"):
        await BlockTracker(call, lambda: 1, never).sync()
