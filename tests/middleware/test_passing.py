"""Calls that pass to the node without being awaited: the links that must hear of the answer do, and who waits gets his own."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from typing import Any

import pytest

from middleware.cache import Cache
from middleware.cache_switch import CacheSwitch, Standing
from middleware.chain import Chain, Link
from middleware.epoch import Epoch
from middleware.errors import Disconnected
from middleware.forward import Forward
from middleware.in_flight import InFlight
from middleware.methods import MethodTable
from middleware.metrics import RequestFigures
from middleware.passing import Sent, Then
from middleware.waist import ANONYMOUS, Answer, Context, NodeReply, Request
from proxy.server.door import Door, Waiting
from proxy.upstream.envelope import travels_alone
from tests.middleware.model_chain import Node, Tracker

TABLE = MethodTable()
CALL = '{"jsonrpc":"2.0","id":%s,"method":"eth_call","params":[{},"latest"]}'


class Exchange:
    """One call at the node, to be answered by hand."""

    def __init__(self, request: Request, then: Then) -> None:
        self.request, self.then, self.gone = request, then, False

    def leave(self) -> None:
        self.gone = True
        self.then.left()

    def answer(self, value: str = '"0x1"') -> None:
        self.then.answered(
            NodeReply(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (self.request.id or b"null", value.encode()))
        )


class Upstream:
    """Takes calls, or lets them be awaited."""

    def __init__(self) -> None:
        self.sent: list[Exchange] = []
        self.awaited: list[Request] = []
        self.at_once = True

    def send(self, request: Request, then: Then) -> Sent | None:
        if not self.at_once:
            return None
        self.sent.append(Exchange(request, then))
        return self.sent[-1]

    async def forward(self, request: Request) -> NodeReply:
        self.awaited.append(request)
        return NodeReply(b'{"jsonrpc":"2.0","id":%b,"result":"awaited"}' % (request.id or b"null"))


async def refuse(request: Request, context: Context) -> Answer:
    raise AssertionError(request)


class Stand:
    """A door over cache, in-flight sharing and an upstream; `heard`: what was delivered."""

    def __init__(self, *, enabled: bool = True, more: tuple[Link, ...] = ()) -> None:
        self.upstream = Upstream()
        tracker = Tracker(Node())
        self.epoch = Epoch(tracker)
        tracker.look(self.epoch)
        standing = Standing(reachable=True, throwaway=False)
        switch = CacheSwitch(enabled, lambda: standing)
        self.cache = Cache(self.epoch, switch, TABLE, travels_alone, 1 << 20)
        self.in_flight = InFlight(self.epoch, switch, travels_alone)
        self.figures = RequestFigures(TABLE.names())
        terminal = Forward(TABLE, self.upstream, (), refuse)
        self.door = Door(Chain([self.cache, self.in_flight, *more], terminal, (), TABLE), figures=self.figures)
        self.context = self.door.bound(Context(ANONYMOUS))
        self.heard: list[Any] = []

    def ask(self, body: str) -> Any:
        return self.door.pass_on(body.encode(), self.context, self.heard.append)

    def counted(self) -> dict[str, int]:
        return dict(outcome for _, row in self.figures.rows() for outcome in row.outcomes())


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_call_is_sent_and_its_answer_delivered_and_kept(enabled: bool) -> None:
    stand = Stand(enabled=enabled)
    assert isinstance(stand.ask(CALL % 1), Waiting)
    assert stand.heard == []
    stand.upstream.sent[0].answer()
    assert stand.heard == [b'{"jsonrpc":"2.0","id":1,"result":"0x1"}']
    assert stand.counted() == {"answered": 1}
    again = stand.ask(CALL % '"me"')
    if enabled:
        assert again == b'{"jsonrpc":"2.0","id":"me","result":"0x1"}', "from memory"
    else:
        assert isinstance(again, Waiting)


async def test_who_asks_the_same_meanwhile_waits_for_that_answer() -> None:
    stand = Stand()
    stand.ask(CALL % 1)
    second = stand.ask(CALL % 2)
    assert isinstance(second, Awaitable)
    second = asyncio.ensure_future(second)
    await asyncio.sleep(0)
    stand.upstream.sent[0].answer()
    assert [stand.heard, len(stand.upstream.sent)] == [[b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'], 1]
    assert await second == b'{"jsonrpc":"2.0","id":2,"result":"0x1"}'


async def test_where_nothing_can_be_sent_at_once_it_is_awaited() -> None:
    stand = Stand()
    stand.upstream.at_once = False
    for number in (1, 2):  # the first has left nothing behind that the second would wait for
        assert await stand.ask(CALL.replace("latest", str(number)) % number) == (
            b'{"jsonrpc":"2.0","id":%d,"result":"awaited"}' % number
        )
    assert stand.heard == []
    assert len(stand.upstream.awaited) == 2


async def test_who_leaves_is_counted_and_the_next_in_line_asks() -> None:
    stand = Stand()
    first = stand.ask(CALL % 1)
    second = asyncio.ensure_future(stand.ask(CALL % 2))
    await asyncio.sleep(0)
    first.leave()
    first.leave()
    assert stand.upstream.sent[0].gone
    assert await second == b'{"jsonrpc":"2.0","id":2,"result":"awaited"}'
    assert stand.heard == []
    assert stand.counted() == {"answered": 1, "gone": 1}


async def test_an_error_is_delivered_once_and_an_unknown_one_is_opaque(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    stand.ask(CALL % 1)
    stand.upstream.sent[0].then.failed(Disconnected("no node"))
    assert json.loads(stand.heard[0])["error"]["code"] == 4900
    stand.ask(CALL % 2)
    with caplog.at_level(logging.ERROR, "l2proxy.door"):
        stand.upstream.sent[1].then.failed(RuntimeError("the seed is abandon"))
    assert json.loads(stand.heard[1])["error"]["code"] == -32603
    assert b"abandon" not in stand.heard[1]
    assert "internal error" in caplog.text
    stand.ask(CALL % 3)
    stand.upstream.sent[2].answer()
    stand.upstream.sent[2].then.failed(RuntimeError("after the answer"))
    assert len(stand.heard) == 3


async def test_an_answer_about_blocks_is_noticed() -> None:
    stand = Stand()
    before = stand.epoch.number
    stand.ask('{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}')
    stand.upstream.sent[0].answer('"0xffff"')
    assert stand.epoch.number > before


async def test_what_may_change_the_chain_and_what_a_link_must_see_is_awaited() -> None:
    class Sees:
        def handles(self, method: str) -> bool:
            return method == "eth_gasPrice"

        async def __call__(self, request: Request, context: Context, next: Any) -> Answer:  # noqa: A002
            answer: Answer = await next(request, context)
            return answer

    stand = Stand(more=(Sees(),))
    for method in ("eth_sendRawTransaction", "eth_gasPrice"):
        body = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":["0x"]}}'
        assert b"awaited" in await stand.ask(body)
    assert stand.upstream.sent == []


async def test_a_notification_is_sent_and_hears_nothing() -> None:
    stand = Stand()
    assert isinstance(stand.ask('{"jsonrpc":"2.0","method":"eth_call","params":[{},"latest"]}'), Waiting)
    stand.upstream.sent[0].answer()
    assert stand.heard == [None]
