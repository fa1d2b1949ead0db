"""What callers get when a node hangs, lies, floods, redirects or dies; and what is never sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.children import held_port
from middleware.errors import Disconnected, LimitExceeded
from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream.exchange import Deadlines
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import OTHER_GENESIS, Die, FakeNode, Hang, asking, ok, raw_id, result

KINDS = ["http", "ws", "ipc"]
RAW_TRANSACTION = Request("eth_sendRawTransaction", b'["0x02"]', b"1")
BALANCE = Request("eth_getBalance", b'["0x01"]', b"1")


async def body_of(l1: L1, request: Request) -> bytes:
    """Return the answer to `request`, which is small."""
    reply = await l1.forward(request)
    assert isinstance(reply, NodeReply)
    return reply.body


@contextlib.asynccontextmanager
async def behind(
    node: FakeNode, kind: str, place: Path, /, *, follow: bool = True, **options: Any
) -> AsyncIterator[L1]:
    """Serve `node` by `kind` and connect to it.

    `follow` the chain, as the daemon does: its questions come at any moment, over any connection.
    """
    serving = {"http": node.http(), "ws": node.ws(), "ipc": node.ipc(place / "node.ipc")}
    async with serving[kind] as url:
        l1 = L1([url], **options)
        if follow:
            await l1.start()
        try:
            yield l1
        finally:
            await l1.close()


def patience(l1: L1, seconds: float) -> None:
    """Let callers wait so long from now on; nobody waits now.

    A short time is for a node that hangs: a connection is opened, and a good node answers, as soon as the machine allows.
    """
    l1._call_seconds = seconds
    for node in l1.nodes:
        node.deadlines.close()
        node.deadlines = Deadlines(seconds)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_hangs_is_given_up(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            raise Hang
        return result(request, "0x2")

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        patience(l1, 0.3)
        with pytest.raises(Disconnected, match=r"did not answer eth_call within 0\.3 s$"):
            await l1.call("eth_call")
        patience(l1, 60)
        assert await l1.call("eth_getBalance") == "0x2"


async def test_one_that_hangs_delays_nobody_else(short_tmp: Path) -> None:
    gate = asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            await gate.wait()
        return result(request, request["method"])

    async with behind(FakeNode(answer), "ipc", short_tmp) as l1:
        slow = asyncio.create_task(l1.call("eth_call"))
        assert await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(20))) == ["eth_getBalance"] * 20
        assert not slow.done()
        gate.set()
        assert await slow == "eth_call"


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_a_late_answer_meets_nobody(kind: str, short_tmp: Path) -> None:
    late: list[dict[str, Any]] = []

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            late.append(request)
            raise Hang
        return b"\n".join([*(result(one, "late") for one in late if kind == "ipc"), result(request, "own")])

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        patience(l1, 0.2)
        with pytest.raises(Disconnected):
            await l1.call("eth_call")
        patience(l1, 60)
        assert await l1.call("eth_getBalance") == "own"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_is_repeated_once_when_the_connection_died(kind: str, short_tmp: Path) -> None:
    deaths = 1

    async def answer(request: dict[str, Any]) -> bytes:
        nonlocal deaths
        if request["method"] == "eth_getBalance" and deaths:
            deaths -= 1
            raise Die
        return result(request, "0x2")

    node = FakeNode(answer)
    # Nobody else takes the connection that has served: over a new one nothing is repeated.
    async with behind(node, kind, short_tmp, follow=False) as l1:
        await l1.call("eth_gasPrice")
        assert await l1.call("eth_getBalance") == "0x2"
        assert node.methods().count("eth_getBalance") == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_is_not_repeated_for_ever(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_getBalance":
            raise Die
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp, follow=False) as l1:
        with pytest.raises(Disconnected):
            await l1.forward(BALANCE)
        assert node.methods().count("eth_getBalance") == 2 - (
            kind == "http"
        )  # its connection was new, so nothing was stale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_getFilterChanges", "evm_mine", "anvil_setBalance"])
async def test_what_may_have_taken_effect_is_sent_once(kind: str, method: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == method:
            raise Die
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1:
        await l1.call("eth_gasPrice")
        with pytest.raises(Disconnected, match="whether it took effect is unknown") as caught:
            await l1.call(method, "0x02")
        assert caught.value.code == 4900
        assert node.methods().count(method) == 1
        assert await l1.call("eth_gasPrice") == "0x2"


@pytest.mark.parametrize("body", [b"<html>login</html>", b"", b"[]", b"nonsense", b'{"jsonrpc":"2.0","id":1,"resu'])
async def test_a_page_is_no_answer(body: bytes, short_tmp: Path) -> None:
    async def answer(_: dict[str, Any]) -> bytes:
        return body

    async with behind(FakeNode(answer), "http", short_tmp) as l1:
        with pytest.raises(Disconnected, match="not JSON-RPC"):
            await l1.forward(BALANCE)


@pytest.mark.parametrize(
    ("status", "body", "passes"),
    [
        (b"429 Too Many", b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"slow"}}', True),
        (b"429 Too Many", b'{"error":"slow"}', False),
        (b"502 Bad Gateway", b"<html>", False),
    ],
)
async def test_an_http_error_passes_if_it_is_an_answer(
    status: bytes, body: bytes, passes: bool, short_tmp: Path
) -> None:
    def reply(answer: bytes) -> bytes:
        return ok(answer).replace(b"200 OK", status) if b"balance" in answer or answer == body else ok(answer)

    async def answer(_: dict[str, Any]) -> bytes:
        return body

    node = FakeNode(answer)
    async with node.http(reply=reply) as url:
        l1 = L1([url])
        if passes:
            assert await body_of(l1, BALANCE) == body
        else:
            with pytest.raises(Disconnected, match=status[:3].decode()):
                await l1.forward(BALANCE)
        await l1.close()


async def test_redirects_are_not_followed(short_tmp: Path) -> None:
    elsewhere = FakeNode()

    def away(target: str) -> Callable[[bytes], bytes]:
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
        return lambda _: head.encode()

    async with elsewhere.http() as target, FakeNode().http(reply=away(target)) as url:
        for scheme in ("http", "ws"):
            with pytest.raises(Disconnected):
                await L1.probe([url.replace("http", scheme)])
    async with elsewhere.ws() as target, FakeNode().http(reply=away(target)) as url:
        with pytest.raises(Disconnected):
            await L1.probe([url.replace("http", "ws")])
    assert elsewhere.connections == 0


async def test_what_was_redirected_after_it_was_sent_is_sent_to_nobody_else(short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, "done" if request["method"] == "evm_mine" else "0x1")

    def reply(body: bytes) -> bytes:
        moved = b"HTTP/1.1 303 See Other\r\nLocation: /done\r\nContent-Length: 0\r\n\r\n"
        return moved if b"done" in body else ok(body)

    first, second = FakeNode(answer), FakeNode()
    async with first.http(reply=reply) as url, second.ipc(short_tmp / "2.ipc") as other:
        l1 = L1([url, other])
        assert await l1.call("eth_gasPrice") == "0x1"
        with pytest.raises(Disconnected, match=r"redirects elsewhere.*whether it took effect is unknown"):
            await l1.call("evm_mine")
        assert (first.methods().count("evm_mine"), second.methods().count("evm_mine")) == (1, 0)
        await l1.close()


async def test_over_http_a_notification_answers_nothing(short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["params"] == ["0x01"]:
            return b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":"0x7"}}'
        return result(request, "0x2")

    async with behind(FakeNode(answer), "http", short_tmp) as l1:
        with pytest.raises(Disconnected, match="a notification"):
            await l1.forward(BALANCE)
        assert await l1.call("eth_getBalance") == "0x2"


async def test_nothing_but_the_proxys_own_headers_leaves(short_tmp: Path) -> None:
    def with_cookie(body: bytes) -> bytes:
        return ok(body).replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n", 1)

    node = FakeNode()
    async with node.http(reply=with_cookie) as url:
        l1 = L1([url])
        for _ in range(3):
            await l1.forward(BALANCE)
        await l1.close()
    names = {name for headers in node.headers for name in headers}
    assert names - {"connection"} == {"host", "content-type", "accept", "accept-encoding", "content-length"}
    assert {headers.get("connection", "close") for headers in node.headers} == {"close"}
    assert {headers["accept-encoding"] for headers in node.headers} == {"identity"}


@pytest.mark.parametrize("kind", KINDS)
async def test_too_large_an_answer_hurts_its_asker_alone(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, "x" * 20_000 if request["method"] == "eth_getLogs" else "small")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp, response_limit=5000) as l1:
        outcomes = await asyncio.gather(
            *(l1.call(method) for method in ("eth_getBalance", "eth_getLogs", "eth_getBalance")), return_exceptions=True
        )
        assert outcomes[0] == outcomes[2] == "small"
        assert isinstance(outcomes[1], LimitExceeded)
        assert outcomes[1].data == {"limit": "response"}
        assert await l1.call("eth_getBalance") == "small"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_answer_arrives_whole(kind: str, short_tmp: Path) -> None:
    value = "0x" + "ab" * 4_000_000

    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, value)

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        reply = await l1.forward(Request("eth_getLogs", b"[]", b'"me"'))
        assert isinstance(reply, LargeReply)
        assert reply.read().body == result({"id": "me"}, value)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deep_trace_arrives_whole_and_hurts_nobody(kind: str, short_tmp: Path) -> None:
    """1,024 calls, the EVM's depth, nest 2,048 brackets: more than Python recurses."""
    trace = b'{"calls":[' * 1024 + b"]}" * 1024

    async def answer(request: dict[str, Any]) -> bytes:
        deep = request["method"].startswith("debug_")
        return b'{"jsonrpc":"2.0","id":' + raw_id(request) + b',"result":' + (trace if deep else b'"0x2"') + b"}"

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        ask = Request("debug_traceTransaction", b'["0x01"]', b'"me"')
        reply, send, balance = await asyncio.gather(*(l1.forward(one) for one in (ask, RAW_TRANSACTION, BALANCE)))
        assert isinstance(reply, NodeReply)
        assert reply.body == b'{"jsonrpc":"2.0","id":"me","result":' + trace + b"}"
        assert send.result() == balance.result() == "0x2"
        with pytest.raises(Disconnected, match="not JSON-RPC"):
            await l1.call("debug_traceTransaction")


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_deep_notifications_and_subscription_ids_are_dropped(kind: str, short_tmp: Path) -> None:
    deep = b"[" * 3000 + b"]" * 3000

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_subscribe":
            return b'{"jsonrpc":"2.0","id":' + raw_id(request) + b',"result":' + deep + b"}"
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1:
        await l1.call("eth_getBalance")
        for push in node.pushes:
            await push(
                b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":%b}}' % deep
            )
        assert await l1.call("eth_getBalance") == "0x2"
        assert node.connections == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [
    b'{"id":%b,"jsonrpc":"2.0","result":{"id":3}}',
    b'{"jsonrpc":"2.0","result":{"id":3,"x":"\\",\\"id\\":4}"},"id":%b}',
    b'{"jsonrpc":"2.0","result":[{"id":3}],"id" : %b,"extra":{"id":5}}',
    b'{ "jsonrpc" : "2.0", "error":{"code":-1,"message":"id\\":7"} , "id": %b }',
])  # fmt: skip
async def test_the_callers_id_stands_where_the_node_put_it(kind: str, shape: bytes, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return shape % raw_id(request)

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        for caller in (b"1", b'"x"', b"null", b"-9223372036854775808", b"1.5"):
            body = await body_of(l1, Request("eth_getBalance", b"[]", caller))
            assert body == shape % caller


async def test_an_odd_id_keeps_its_spelling_on_a_connection_of_its_own(short_tmp: Path) -> None:
    node = FakeNode()
    async with behind(node, "ipc", short_tmp, follow=False) as l1:
        await l1.forward(BALANCE)
        before = node.connections
        for spelling in (b"1.50", b'"\\u0041"', b"1e2", b"123456789012345678901234567890"):
            await l1.forward(Request("eth_getBalance", b"[]", spelling))
            assert b'"id":' + spelling + b"," in node.asked[-1]
        assert node.connections == before + 1, "one at a time shares one connection"
        for caller in (b"7", b'"A"', b"null"):
            await l1.forward(Request("eth_getBalance", b"[]", caller))
            assert json.loads(node.asked[-1])["id"] > 1
        assert node.connections == before + 1


async def test_an_answer_without_id_reaches_its_asker_and_nobody_else(short_tmp: Path) -> None:
    refusal = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}}'

    async def answer(request: dict[str, Any]) -> bytes:
        return refusal if request["method"] == "eth_call" else result(request, "0x2")

    async with behind(FakeNode(answer), "ipc", short_tmp) as l1:
        calls = [
            body_of(l1, Request(method, b"[]", b"1")) for method in ("eth_getBalance", "eth_call", "eth_getBalance")
        ]
        bodies = await asyncio.gather(*calls)
        assert bodies == [result({"id": 1}, "0x2"), refusal, result({"id": 1}, "0x2")]


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request", b'{"id":1}}}', b"\xff\xfe", b'{"jsonrpc":"2.0","id":%d,"result":"\x01"}']
)
async def test_garbage_ends_the_socket_and_the_next_call_gets_a_new_one(garbage: bytes, short_tmp: Path) -> None:
    spoiled = False

    async def answer(request: dict[str, Any]) -> bytes:
        nonlocal spoiled
        if not spoiled:
            spoiled = True
            return garbage.replace(b"%d", raw_id(request)) + b"\n{}"
        return result(request, "0x2")

    async with behind(FakeNode(answer), "ipc", short_tmp, follow=False) as l1:
        with pytest.raises(Disconnected):
            await l1.forward(RAW_TRANSACTION)
        assert await l1.call("eth_getBalance") == "0x2"


@pytest.mark.parametrize(
    ("asked", "given"),
    [(b"1", b"7"), (b"1", b'"1"'), (b"1", b"[1]"), (b'"me"', b"1"), (b'"me"', b'"you"')],
)
async def test_over_http_an_answer_to_another_request_reaches_nobody(
    asked: bytes, given: bytes, short_tmp: Path
) -> None:
    wrong = True

    async def answer(request: dict[str, Any]) -> bytes:
        if wrong and request["params"] == ["0x01"]:
            return b'{"jsonrpc":"2.0","id":%b,"result":"0x7"}' % given
        return result(request, "0x2")

    async with behind(FakeNode(answer), "http", short_tmp) as l1:
        with pytest.raises(Disconnected, match="answered another request"):
            await l1.forward(Request("eth_getBalance", b'["0x01"]', asked))
        wrong = False
        assert (await body_of(l1, Request("eth_getBalance", b'["0x01"]', asked))).endswith(b'"0x2"}')


@pytest.mark.parametrize(
    ("asked", "given"), [(b"1", b"1.0"), (b"1", b"null"), (b'"a<b"', b'"a\\u003cb"'), (b"1.5", b"2"), (b"1", None)]
)
async def test_over_http_an_id_in_another_spelling_passes_as_it_is(
    asked: bytes, given: bytes | None, short_tmp: Path
) -> None:
    answered = b'{"jsonrpc":"2.0"%b,"result":"0x7"}' % (b"" if given is None else b',"id":' + given)

    async def answer(request: dict[str, Any]) -> bytes:
        return answered if request["params"] == ["0x01"] else result(request, "0x2")

    async with behind(FakeNode(answer), "http", short_tmp) as l1:
        assert await body_of(l1, Request("eth_getBalance", b'["0x01"]', asked)) == answered


@pytest.mark.parametrize("kind", ["ws", "ipc"])
@pytest.mark.parametrize("method", ["eth_call", "eth_getLogs"])
@pytest.mark.parametrize("size", [1, 5 * 1024 * 1024])
async def test_an_answer_that_comes_twice_reaches_its_asker_alone(
    size: int, method: str, kind: str, short_tmp: Path
) -> None:
    again = b""

    async def answer(request: dict[str, Any]) -> bytes:
        nonlocal again
        if again:
            await asking.get()(again)  # under the same id, as the caller's next request comes
            again = b""
        elif request["params"] == ["first"]:
            again = result(request, "1" * size)
            return again
        return result(request, "2")

    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        first = await l1.forward(Request(method, b'["first"]', b"1"))
        assert first.result() == "1" * size
        assert (await l1.forward(Request(method, b'["second"]', b"1"))).result() == "2"
        assert (await l1.forward(Request(method, b'["third"]', b"1"))).result() == "2"


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_an_asker_who_leaves_disturbs_nobody(kind: str, short_tmp: Path) -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            raise Hang
        asked.set()
        await gate.wait()
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1:
        leaving = [asyncio.create_task(l1.call("eth_call")) for _ in range(5)]
        staying = asyncio.create_task(l1.call("eth_getBalance"))
        await asked.wait()
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        gate.set()
        assert await staying == "0x2"


async def test_the_second_node_answers_when_the_first_does_not(short_tmp: Path) -> None:
    async with FakeNode().ipc(short_tmp / "second.ipc") as second:
        l1 = L1([str(short_tmp / "first.ipc"), second])
        await l1.start()
        assert await l1.call("eth_getBalance") == "0x1"

        async def better(request: dict[str, Any]) -> bytes:
            return result(request, "0x99" if request["method"] == "eth_getBalance" else "0x1")

        async with FakeNode(better).ipc(short_tmp / "first.ipc"):
            async with asyncio.timeout(60):
                while await l1.call("eth_getBalance") != "0x99":  # noqa: ASYNC110  (poll with a deadline)
                    await asyncio.sleep(0.05)
        assert await l1.call("eth_getBalance") == "0x1"
        await l1.close()


async def test_a_read_goes_to_the_next_node_when_one_spoils_it_and_a_send_does_not(short_tmp: Path) -> None:
    async def spoiled(_: dict[str, Any]) -> bytes:
        return b"<html>502</html>"

    second = FakeNode()
    async with FakeNode(spoiled).http() as first, second.ipc(short_tmp / "b.ipc") as url:
        l1 = L1([first, url])
        assert await l1.call("eth_getBalance") == "0x1"
        l1.nodes[0].trouble = None
        with pytest.raises(Disconnected, match="whether it took effect is unknown"):
            await l1.forward(Request("evm_mine", b"[]", b"1"))
        await l1.close()
    assert second.methods() == ["eth_getBalance"]


async def test_after_a_hang_the_other_node_is_preferred(short_tmp: Path) -> None:
    async def hang(_: dict[str, Any]) -> bytes:
        raise Hang

    async with FakeNode(hang).ipc(short_tmp / "a.ipc") as first, FakeNode().ipc(short_tmp / "b.ipc") as second:
        l1 = L1([first, second], call_seconds=0.3)
        with pytest.raises(Disconnected, match="did not answer"):
            await l1.call("eth_getBalance")
        patience(l1, 60)
        assert await l1.call("eth_getBalance") == "0x1"
        await l1.close()


async def test_a_second_node_of_another_chain_is_passed_over(short_tmp: Path) -> None:
    wrong = FakeNode(genesis=OTHER_GENESIS)
    right = FakeNode()
    async with right.ipc(short_tmp / "a.ipc") as first, wrong.ipc(short_tmp / "b.ipc") as second:
        l1 = L1([first, second])
        await l1.start()
    with pytest.raises(Disconnected):
        await l1.forward(RAW_TRANSACTION)
    async with wrong.ipc(short_tmp / "b.ipc"):
        for _ in range(3):
            with pytest.raises(Disconnected):
                await l1.forward(RAW_TRANSACTION)
    await l1.close()
    assert wrong.methods() == []


async def test_another_chain_at_the_same_http_address_is_noticed_before_anything_is_asked() -> None:
    said: list[str] = []
    with held_port() as port:
        async with FakeNode().http(port) as url:
            l1 = L1([url], notice=said.append)
            await l1.start()
            await l1.forward(BALANCE)
        with pytest.raises(Disconnected):
            await l1.forward(BALANCE)
        assert ["refused the connection" in line or "closed the connection" in line for line in said] == [True]
        other = FakeNode(genesis=OTHER_GENESIS)
        async with other.http(port), asyncio.timeout(60):
            while OTHER_GENESIS not in (l1.trouble or ""):
                for request in (BALANCE, RAW_TRANSACTION):
                    with pytest.raises(Disconnected):
                        await l1.forward(request)
                await asyncio.sleep(0.02)  # until the node has rested
        await l1.close()
    assert other.methods() == []
    assert OTHER_GENESIS in said[1]  # the owner hears why, though it was gone before
    assert len(said) == 2


async def test_no_error_shows_the_secrets_of_an_address() -> None:
    for url in (
        "http://user:secret@127.0.0.1:1/secret?k=secret",
        "ws://user:secret@127.0.0.1:1/secret",
        "/tmp/secret.ipc",
    ):
        with pytest.raises(Disconnected) as caught:
            await L1.probe([url])
        assert "secret" not in caught.value.message
