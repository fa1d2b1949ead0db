"""In-flight sharing: one call to the node for identical reads, each caller's own id, and nobody hurt by another's leaving."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from middleware.cache_switch import CacheSwitch, Standing
from middleware.epoch import Epoch
from middleware.errors import Disconnected
from middleware.in_flight import InFlight
from middleware.waist import ANONYMOUS, SOCKET, Answer, Context, LargeReply, NodeReply, Origin, Request
from proxy.upstream.envelope import travels_alone
from tests.middleware.model_chain import Node, Tracker

PAGE = Context(Origin.web("https://a.example"))
OTHER_PAGE = Context(Origin.web("https://b.example"))
ANYBODY = Context(ANONYMOUS)


class SlowNode:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self.body = b'{"jsonrpc":"2.0","id":%b,"result":"0x1"}'
        self.raises: Exception | None = None

    async def __call__(self, request: Request, context: Context) -> Answer:
        self.asked.append(request)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.raises is not None:
            raise self.raises
        return NodeReply(self.body % (request.id or b"null"))


class Stand:
    """In-flight sharing over a slow node."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.node = SlowNode()
        self.epoch = Epoch(Tracker(Node()))
        standing = Standing(reachable=True, throwaway=False)
        self.link = InFlight(self.epoch, CacheSwitch(enabled, lambda: standing), travels_alone)

    async def ask(
        self, raw_id: bytes | None, context: Context = ANYBODY, method: str = "eth_call", params: bytes = b"[1]"
    ) -> asyncio.Task[Any]:
        """Ask, and return once everything that happens at once has happened."""
        task = asyncio.ensure_future(self.link(Request(method, params, raw_id), context, self.node))
        await settle()
        return task

    async def bodies(self, *tasks: asyncio.Task[Any]) -> list[bytes]:
        self.node.go.set()
        return [(await task).body for task in tasks]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_identical_reads_are_one_call_and_each_gets_its_own_id() -> None:
    stand = Stand()
    tasks = [await stand.ask(raw_id) for raw_id in (b"1", b'"two"', b"null")]
    tasks.append(await stand.ask(b"4", Context(SOCKET)))
    assert await stand.bodies(*tasks) == [stand.node.body % raw_id for raw_id in (b"1", b'"two"', b"null", b"4")]
    assert [request.id for request in stand.node.asked] == [b"1"]
    assert stand.link.figures.shared == 3
    assert await stand.bodies(await stand.ask(b"5")) == [stand.node.body % b"5"]
    assert len(stand.node.asked) == 2, "over is over"


async def test_the_nodes_error_is_shared_as_it_is() -> None:
    stand = Stand()
    stand.node.body = b'{"jsonrpc":"2.0","id":%b,"error":{"code":3,"message":"execution reverted","data":"0x08"}}'
    tasks = [await stand.ask(raw_id) for raw_id in (b"1", b"2")]
    assert await stand.bodies(*tasks) == [stand.node.body % raw_id for raw_id in (b"1", b"2")]
    assert len(stand.node.asked) == 1


async def test_what_is_raised_reaches_all() -> None:
    stand = Stand()
    tasks = [await stand.ask(raw_id) for raw_id in (b"1", b"2")]
    stand.node.raises = Disconnected("no node")
    stand.node.go.set()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, Disconnected)


@pytest.mark.parametrize(("leaving", "asked"), [([0], 2), ([1], 1), ([0, 1], 2), ([1, 0], 2), ([3, 2, 1], 1)])
async def test_one_who_leaves_hurts_nobody(leaving: list[int], asked: int) -> None:
    """Elsewhere one caller's cancellation aborts the others. Who waits for one that left asks in its place."""
    stand = Stand()
    ids = (b"1", b"2", b"3", b"4")
    tasks = [await stand.ask(raw_id) for raw_id in ids]
    for index in leaving:  # all at once: nobody finds the time to ask in between
        tasks[index].cancel()
    await settle()
    left = [index for index in range(4) if index not in leaving]
    late = await stand.ask(b"5")
    assert await stand.bodies(*(tasks[index] for index in left), late) == [
        stand.node.body % raw_id for raw_id in (*(ids[index] for index in left), b"5")
    ]
    assert len(stand.node.asked) == asked
    assert all(tasks[index].cancelled() for index in leaving)


async def test_who_leaves_before_asking_in_anothers_place_lets_the_next_ask() -> None:
    stand = Stand()
    tasks = [await stand.ask(raw_id) for raw_id in (b"1", b"2", b"3")]
    tasks[0].cancel()
    await asyncio.sleep(0)  # the second is told, and has not heard yet
    tasks[1].cancel()
    await settle()
    assert [request.id for request in stand.node.asked] == [b"1", b"3"]
    assert await stand.bodies(tasks[2]) == [stand.node.body % b"3"]


async def test_when_the_last_has_left_the_call_ends_and_the_next_is_a_new_one() -> None:
    stand = Stand()
    for task in [await stand.ask(raw_id) for raw_id in (b"1", b"2")]:
        task.cancel()
    await settle()
    assert (len(stand.node.asked), stand.node.cancelled) == (1, 1)
    assert await stand.bodies(await stand.ask(b"3")) == [stand.node.body % b"3"]
    assert len(stand.node.asked) == 2


@pytest.mark.parametrize(
    ("raw_id", "context", "method", "params"),
    [
        (b"2", PAGE, "eth_call", b"[1]"),  # hardening.md 3
        (b"2", ANYBODY, "eth_call", b"[1 ]"),
        (b"2", ANYBODY, "eth_getBalance", b"[1]"),
        (b"1.5", ANYBODY, "eth_call", b"[1]"),
        (None, ANYBODY, "eth_call", b"[1]"),
    ],
)
async def test_what_is_another_call(raw_id: bytes | None, context: Context, method: str, params: bytes) -> None:
    stand = Stand()
    tasks = [await stand.ask(b"1"), await stand.ask(raw_id, context, method, params)]
    await stand.bodies(*tasks)
    assert len(stand.node.asked) == 2


async def test_pages_share_with_themselves_alone() -> None:
    stand = Stand()
    await stand.bodies(*[await stand.ask(b"1", context) for context in (PAGE, OTHER_PAGE, PAGE)])
    assert len(stand.node.asked) == 2


@pytest.mark.parametrize("params", [b'["0x1","pending"]', b'["\\u0061"]'])
async def test_pending_state_and_odd_params_are_not_shared(params: bytes) -> None:
    stand = Stand()
    await stand.bodies(*[await stand.ask(raw_id, params=params) for raw_id in (b"1", b"2")])
    assert len(stand.node.asked) == 2


@pytest.mark.parametrize("what", ["turn", "rewrite", "send"])
async def test_a_change_parts_those_before_from_those_after(what: str) -> None:
    stand = Stand()
    first = await stand.ask(b"1")
    if what == "send":
        stand.epoch.sends += 1
    else:
        getattr(stand.epoch, what)()
    await stand.bodies(first, await stand.ask(b"2"))
    assert len(stand.node.asked) == 2


async def test_off_it_shares_nothing() -> None:
    stand = Stand(enabled=False)
    await stand.bodies(*[await stand.ask(raw_id) for raw_id in (b"1", b"2")])
    assert len(stand.node.asked) == 2


@pytest.mark.parametrize(
    "method", ["eth_sendRawTransaction", "eth_estimateGas", "eth_newFilter", "eth_subscribe", "anvil_mine", "eth_x"]
)
def test_what_is_never_shared(method: str) -> None:
    assert not Stand().link.handles(method)


class File(io.BytesIO):
    """A file as LargeReply holds one."""


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_answer_in_a_file_is_the_first_ones(leaves: bool) -> None:
    stand = Stand()
    files: list[File] = []

    async def node(request: Request, context: Context) -> Answer:
        await stand.node.go.wait()
        files.append(File())
        return LargeReply(files[-1], 0)

    asking = [
        asyncio.ensure_future(stand.link(Request("eth_getLogs", b"[]", raw_id), ANYBODY, node))
        for raw_id in (b"1", b"2")
    ]
    await settle()
    if leaves:
        asking.pop(0).cancel()
        await settle()
    stand.node.go.set()
    answers = await asyncio.gather(*asking)
    assert len(files) == len(answers)
    assert not any(file.closed for file in files), "each is closed by the one who got it"
    assert len({id(answer) for answer in answers}) == len(answers), "no file is given twice"


async def test_an_answer_whose_id_is_nowhere_plain_is_asked_again() -> None:
    stand = Stand()
    stand.node.body = b'{"result":"0x1","id":%b,"jsonrpc":"2.0"}'
    await stand.bodies(*[await stand.ask(raw_id) for raw_id in (b"1", b"2")])
    assert len(stand.node.asked) == 2
