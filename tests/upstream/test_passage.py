"""A request that nobody awaits: the same answers as `forward`, the same ways out when a node fails, and nobody forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import Disconnected
from middleware.waist import Answer, NodeReply, Request
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import Die, FakeNode, Hang, Reply
from tests.upstream.test_failures import patience
from tests.upstream.test_several_nodes import Peer, Script, look, over

BALANCE = Request("eth_getBalance", b'["0x01"]', b'"me"')
MINE = Request("evm_mine", b"[]", b"7")
MY_ANSWER = NodeReply(b'{"jsonrpc":"2.0","id":"me","result":"0x1"}')


class Heard:
    """What one who asked hears, all of it."""

    def __init__(self, breaks: bool = False) -> None:
        self.all: list[Any] = []
        self.once = asyncio.Event()
        self._breaks = breaks

    def answered(self, answer: Answer) -> None:
        if self._breaks:
            raise RuntimeError("the connection of the asker is in a strange state")
        self._hear(answer)

    def failed(self, error: Exception) -> None:
        self._hear(error)

    def left(self) -> None:
        self._hear("left")

    def withdrawn(self) -> None:
        self._hear("withdrawn")

    def speaking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _hear(self, what: Any) -> None:
        self.all.append(what)
        self.once.set()

    async def it(self) -> Any:
        async with asyncio.timeout(60):
            await self.once.wait()
        (what,) = self.all
        return what


async def ready(l1: L1) -> None:
    """Let there be a connection."""
    await l1.forward(Request("net_version", b"[]", b"1"))


@contextlib.asynccontextmanager
async def at(node: FakeNode, kind: str, place: Path) -> AsyncIterator[str]:
    """Serve `node`; yield where."""
    serving = {"http": node.http, "ws": node.ws}.get(kind)
    async with serving() if serving is not None else node.ipc(place / "node.ipc") as url:
        yield url


@pytest.mark.parametrize("kind", ["ipc", "ws", "http"])
async def test_it_is_answered_as_it_would_be_awaited(kind: str, short_tmp: Path) -> None:
    async with at(FakeNode(Script()), kind, short_tmp) as url:
        l1 = L1([url])
        heard, too_early = Heard(), Heard()
        assert l1.send(BALANCE, too_early) is None, "there is no connection yet"
        await ready(l1)
        assert l1.send(BALANCE, heard) is not None
        assert heard.all == [], "never before it has left"
        figures = l1.nodes[0].figures
        assert figures.in_flight == 1
        assert await heard.it() == MY_ANSWER == await l1.forward(BALANCE)
        assert (figures.in_flight, figures.failures) == (0, 0)
        assert too_early.all == []
        await l1.close()


@pytest.mark.parametrize("way", [Die, {"code": -32005, "message": "too many"}])
async def test_a_read_goes_to_the_next_node(way: Any, short_tmp: Path) -> None:
    first, second = FakeNode(Script(eth_getBalance=way)), FakeNode(Script())
    async with over(short_tmp, first, second) as l1:
        await ready(l1)
        heard = Heard()
        assert l1.send(BALANCE, heard) is not None
        assert await heard.it() == MY_ANSWER
        assert second.methods()[-1] == "eth_getBalance"
        assert [node.figures.in_flight for node in l1.nodes] == [0, 0]


async def test_what_may_have_taken_effect_goes_nowhere_else(short_tmp: Path) -> None:
    first, second = FakeNode(Script(evm_mine=Die)), FakeNode(Script())
    async with over(short_tmp, first, second) as l1:
        await ready(l1)
        heard = Heard()
        assert l1.send(MINE, heard) is not None
        error = await heard.it()
        assert isinstance(error, Disconnected)
        assert "whether it took effect is unknown" in str(error)
        assert second.methods() == []


async def test_a_node_that_is_silent_is_waited_for_as_long_as_the_owner_says(short_tmp: Path) -> None:
    async with over(short_tmp, FakeNode(Script(eth_getBalance=Hang))) as l1:
        await ready(l1)
        patience(l1, 0.2)
        heard = Heard()
        assert l1.send(BALANCE, heard) is not None
        error = await heard.it()
        assert isinstance(error, Disconnected)
        assert "did not answer eth_getBalance within 0.2 s" in str(error)


@pytest.mark.parametrize("kind", ["ipc", "ws", "http"])
async def test_an_answer_whose_asker_has_gone_meets_nobody(kind: str, short_tmp: Path) -> None:
    hold = asyncio.Event()
    async with at(FakeNode(Script(eth_getBalance=hold)), kind, short_tmp) as url:
        l1 = L1([url])
        await ready(l1)
        gone, there = Heard(), Heard()
        sent = l1.send(BALANCE, gone)
        assert sent is not None
        sent.leave()
        assert await gone.it() == "left"
        hold.set()
        await ready(l1)
        assert l1.send(BALANCE, there) is not None
        assert await there.it() == MY_ANSWER
        assert gone.all == ["left"]
        assert l1.nodes[0].figures.in_flight == 0
        await l1.close()


async def test_who_leaves_while_another_node_is_asked_is_heard(short_tmp: Path) -> None:
    hold = asyncio.Event()
    first, second = FakeNode(Script(eth_getBalance=Die)), FakeNode(Script(eth_getBalance=hold))
    async with over(short_tmp, first, second) as l1:
        await ready(l1)
        heard = Heard()
        sent = l1.send(BALANCE, heard)
        assert sent is not None
        async with asyncio.timeout(60):
            while second.methods() != ["eth_getBalance"]:  # noqa: ASYNC110  (what a node was asked makes no event)
                await asyncio.sleep(0)
        sent.leave()
        hold.set()
        await asyncio.sleep(0)
        assert await heard.it() == "left"


async def test_an_asker_in_trouble_ends_no_socket(short_tmp: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = FakeNode(Script())
    async with over(short_tmp, node) as l1:
        await ready(l1)
        connections = node.connections
        strange, usual = Heard(breaks=True), Heard()
        assert l1.send(BALANCE, strange) is not None
        assert l1.send(BALANCE, usual) is not None
        assert await usual.it() == MY_ANSWER
        assert isinstance(await strange.it(), RuntimeError), "whoever asked hears that there is no answer"
        assert node.connections == connections
        assert "could not be handed over" in caplog.text


@pytest.mark.parametrize("kind", ["ipc", "ws", "http"])
async def test_what_is_due_from_a_node_that_hangs_is_asked_of_another(
    kind: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it is found to hang, long before the 30 s of a call are over; what may have taken effect waits for it."""
    monkeypatch.setattr("proxy.upstream.l1._LOOK_SECONDS", 0.5)
    first, second = Peer(5, "0xa"), Peer(5, "0xb")
    respond, hanging, gate = first.respond, asyncio.Event(), asyncio.Event()

    async def hang(raw: bytes) -> Reply:
        hanging.set()
        await gate.wait()
        return await respond(raw)

    async with at(first, kind, short_tmp) as one, second.ipc(short_tmp / "second.ipc") as other, asyncio.timeout(60):
        l1, heard = L1([one, other]), Heard()
        await ready(l1)
        await l1.nodes[1].exchange(BALANCE)
        first.respond = hang  # type: ignore[method-assign]
        assert l1.send(BALANCE, heard) is not None
        await hanging.wait()
        blocks = {"fromBlock": "0x1", "toBlock": "0x1"}
        reading = [asyncio.create_task(l1.call(*asked)) for asked in (("eth_getBalance",), ("eth_getLogs", blocks))]
        # Over HTTP it takes a connection of its own, which is not verified: it never leaves.
        mining = asyncio.create_task(l1.call("evm_mine")) if kind != "http" else None
        while l1.nodes[0].figures.in_flight < (3 if mining is None else 4):  # noqa: ASYNC110  (poll with a deadline)
            await asyncio.sleep(0.01)
        outcome = asyncio.gather(heard.it(), *reading)
        while not outcome.done():  # once, unless the machine stood still and the good node seemed to hang as well
            await look(l1)
            await asyncio.wait([outcome], timeout=1)
        assert await outcome == [NodeReply(b'{"jsonrpc":"2.0","id":"me","result":"0xb"}'), "0xb", []]
        if mining is not None:
            assert not mining.done()
            gate.set()
            await mining
        await l1.close()
    assert "evm_mine" not in second.methods()
