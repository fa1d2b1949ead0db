"""The doors against hostile bytes (security.md 6): one answer each, bounded memory, and nobody else waits.

Slow, huge, deeply nested, half-sent and never-read requests; bodies and HTTP heads made up by a grammar.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.errors import RpcError
from middleware.waist import ANONYMOUS, Answer, Context, Request, result
from proxy.server import http
from proxy.server.connections import Connections
from proxy.server.door import Door
from tests.server.conftest import (
    CALL,
    JSON,
    PATIENCE,
    SOON,
    Echo,
    exchange,
    head,
    lane,  # noqa: F401  a fixture
    listening,
    post,
    read_answer,
)

on_both_lanes = pytest.mark.usefixtures("lane")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the log of made-up failures out of the way."""
    logging.getLogger("l2proxy.door").disabled = True
    yield
    logging.getLogger("l2proxy.door").disabled = False


@on_both_lanes
async def test_half_sent_requests_hold_nobody_up() -> None:
    async with listening(Echo()) as listener:
        writers = []
        for part in (b"", b"P", b"POST / HTTP/1.1\r\nHost: x", head(listener.port, JSON, size=1000) + b'{"jsonrpc'):
            for _ in range(25):
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(part)
                writers.append(writer)
        async with asyncio.timeout(SOON):
            assert (await post(listener.port)).status == 200
        for writer in writers:
            writer.close()


@on_both_lanes
async def test_a_body_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    echo = Echo()
    async with listening(echo) as listener:
        answer = await exchange(listener.port, head(listener.port, JSON, size=1000) + b'{"jsonrpc')
        assert (answer.status, answer.error["code"]) == (408, -32600)
    assert echo.seen == []


@on_both_lanes
async def test_a_head_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.2)
    async with listening(Echo()) as listener:
        for part in (b"", b"POST / HTTP/1.1\r\nHost:"):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(part)
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()


@pytest.mark.parametrize(
    "line", ["X: " + "y" * 100_000, "\r\n".join(f"X-{n}: y" for n in range(5000)), "X" * 100_000 + ": y"]
)
@on_both_lanes
async def test_heads_are_bounded(line: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        answer = await exchange(listener.port, head(listener.port, JSON, line, size=len(CALL)) + CALL)
        assert (answer.status, answer.error["code"]) == (431, -32600)
    assert echo.seen == []


@on_both_lanes
async def test_huge_bodies_cost_no_memory_and_no_time() -> None:
    """A hundred callers announce and send more than the limit; none is read beyond it."""
    async with listening(Echo(), most_bytes=100_000) as listener:

        async def flood() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(head(listener.port, JSON, "Transfer-Encoding: chunked"))
            for _ in range(3):
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            answer = await read_answer(reader)
            assert (answer.status, answer.error["data"]) == (413, {"limit": "body"})
            writer.close()

        gc.collect()
        tracemalloc.start()
        try:
            await asyncio.gather(*(flood() for _ in range(100)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 80_000_000, "both sides together"
        assert (await post(listener.port)).status == 200


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"jsonrpc":"2.0","id":1,"method":"who","params":[', b'[{"a":['])
@on_both_lanes
async def test_deeply_nested_bodies(opening: bytes) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        for times in (200, 2_000_000 // len(opening)):
            answer = await post(listener.port, body=opening + b"[" * 2 + opening[-1:] * times)
            assert (answer.status, answer.error["code"]) in ((200, -32600), (200, -32700))
        assert (await post(listener.port)).status == 200
    assert len(echo.seen) == 1


@on_both_lanes
async def test_a_batch_over_the_limit_reaches_nobody() -> None:
    echo = Echo()
    async with listening(echo) as listener:
        answer = await post(listener.port, body=b"[" + b",".join([CALL] * 11) + b"]")
        assert (answer.status, answer.error["code"], answer.error["data"]) == (200, -32005, {"limit": "batch"})
        assert len((await post(listener.port, body=b"[" + b",".join([CALL] * 10) + b"]")).json) == 10
    assert len(echo.seen) == 10


@on_both_lanes
async def test_a_slow_call_delays_no_other() -> None:
    echo = Echo()
    async with listening(echo) as listener:
        slow = [asyncio.create_task(post(listener.port, body=CALL.replace(b"who", b"wait"))) for _ in range(50)]
        await echo.waiting.wait()
        async with asyncio.timeout(PATIENCE):
            assert (await post(listener.port)).json["result"] == "anonymous"
        echo.release.set()
        assert {answer.status for answer in await asyncio.gather(*slow)} == {200}


@on_both_lanes
async def test_a_client_that_never_reads_holds_nobody_up() -> None:
    async with listening(Echo()) as listener:
        body = b'{"jsonrpc":"2.0","id":1,"method":"large","params":[5000000]}'
        writers = []
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
            writer.write((head(listener.port, JSON, size=len(body)) + body) * 3)
            writers.append(writer)
        async with asyncio.timeout(PATIENCE):
            assert (await post(listener.port)).status == 200
        for writer in writers:
            writer.transport.abort()


@on_both_lanes
async def test_an_answer_nobody_takes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        http, "SEND_SECONDS", 1.0
    )  # with less, one who reads is cut off where all stands still for a moment
    connections = Connections()
    async with listening(Echo(), connections=connections) as listener:
        body = b'{"jsonrpc":"2.0","id":1,"method":"large","params":[30000000]}'
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
        writer.write(head(listener.port, JSON, size=len(body)) + body)
        async with asyncio.timeout(PATIENCE):
            while len(connections) == 0:  # noqa: ASYNC110  the other side begins in its own time
                await asyncio.sleep(0.01)
            while len(connections):  # noqa: ASYNC110  and ends in its own
                await asyncio.sleep(0.01)
        writer.transport.abort()
        reader, reads = await asyncio.open_connection("127.0.0.1", listener.port)
        reads.write(head(listener.port, JSON, size=len(body)) + body)
        assert len((await read_answer(reader)).body) > 30_000_000
        reads.close()


@on_both_lanes
async def test_a_flood_of_connections_leaves_room_for_others() -> None:
    connections = Connections(total=100, per_caller=40, per_site=10)
    async with listening(Echo(), connections=connections) as listener:
        kept = []
        for _ in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(head(listener.port, JSON, "Origin: https://evil.example", size=len(CALL)) + CALL)
            kept.append((writer, (await read_answer(reader)).status))
        assert [status for _, status in kept].count(200) == 10
        assert (await post(listener.port, "Origin: https://good.example")).status == 200
        for writer, _ in kept:
            writer.close()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
CALLS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2, None]),
        "id": JUNK,
        "method": st.sampled_from(["fails", "breaks", "eth_call"]) | JUNK,
        "params": JUNK,
        "extra": JUNK,
    },
)
BODIES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")),
    JUNK.map(lambda value: json.dumps(value).encode()),
    CALLS.map(lambda value: json.dumps(value).encode()),
    st.lists(CALLS | JUNK, max_size=8).map(lambda value: json.dumps(value).encode()),
    st.tuples(st.lists(CALLS, max_size=4), st.integers(0, 200)).map(lambda two: json.dumps(two[0]).encode()[: two[1]]),
)


async def answering(request: Request, context: Context) -> Answer:
    if request.method == "breaks":
        raise RuntimeError("at /home/owner/secret")
    if request.method == "fails":
        raise RpcError(3, "no", {"x": 1})
    return result(None)


def expected(body: bytes) -> int | None:
    """Return how many answers a strict reader demands: None for one single error or answer, else a batch's."""
    try:
        value = json.loads(body, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, UnicodeDecodeError):
        return None
    if not isinstance(value, list) or not value:
        return None
    return len(value)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BODIES)
def test_every_body_has_one_answer(quiet: None, body: bytes) -> None:
    answer: Any = asyncio.run(Door(answering, batch=10).answer(body, Context(ANONYMOUS)))
    if answer is None:
        value = json.loads(body)
        calls = value if isinstance(value, list) else [value]
        assert all("id" not in call and call["jsonrpc"] == "2.0" for call in calls), "only notifications go unanswered"
        return
    assert b"secret" not in answer
    read = json.loads(answer)
    for one in read if isinstance(read, list) else [read]:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
        assert "id" in one
    if isinstance(read, list):
        most = expected(body)
        assert most is not None
        assert 1 <= len(read) <= most


LINES = st.sampled_from(
    [
        *("Origin: https://a.example", "Origin: null", "Content-Type: application/json", "Content-Type: text/plain"),
        *(
            "Content-Length: 5",
            "Content-Length: 39",
            "Content-Length: -1",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ),
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Expect: 100-continue", "X: \x00"),
        *(
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Authorization: Bearer x",
            "Content-Encoding: gzip",
            "",
            " folded",
        ),
        "Host: 127.0.0.1:{port}",
    ]
)
FIRST = st.sampled_from(
    [
        *(
            "POST / HTTP/1.1",
            "GET / HTTP/1.1",
            "OPTIONS / HTTP/1.1",
            "POST /x HTTP/1.1",
            "POST / HTTP/1.0",
            "POST / HTTP/9.9",
        ),
        *("", "POST", "\x16\x03\x01", "POST  / HTTP/1.1", "PRI * HTTP/2.0", "POST http://evil/ HTTP/1.1"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIRST, st.lists(LINES, max_size=7), st.booleans()), min_size=1, max_size=3))
def test_made_up_http_never_disturbs_the_listener(requests: list[tuple[str, list[str], bool]]) -> None:
    async def run() -> None:
        async with listening(Echo()) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            for first, lines, good in requests:
                host = [f"Host: 127.0.0.1:{listener.port}"] if good else []
                text = "\r\n".join([first, *host, *(line.format(port=listener.port) for line in lines), "", ""])
                writer.write(text.encode("latin-1") + CALL)
            async with asyncio.timeout(SOON):
                assert (await post(listener.port)).status == 200
            assert (await beginning(reader)) in (b"", b"HTTP/1.")
            writer.close()

    async def beginning(reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(0.05):  # it may wait for the rest of what was announced
                return await reader.read(7)
        except (TimeoutError, ConnectionResetError):
            return b""

    asyncio.run(run())
