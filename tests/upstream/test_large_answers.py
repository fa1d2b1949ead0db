"""An answer beyond four megabytes stands in a file, whole, under its caller's id; memory stays flat, and nobody else is hurt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import Disconnected, LimitExceeded
from middleware.waist import LargeReply, Request
from proxy.upstream.arrival import Keeping, as_it_is
from proxy.upstream.frames import FrameSplitter
from proxy.upstream.http_response import ResponseReader
from proxy.upstream.l1 import L1
from proxy.upstream.ws_frames import MessageReader
from tests.upstream.fake_node import FakeNode, ok, raw_id, result
from tests.upstream.test_failures import KINDS, behind

VALUE = "0x" + "ab" * 2_500_000
CALL = Request("eth_call", b"[]", b'"me"')


def descriptors() -> set[tuple[str, int]]:
    """Return which files this process has open that are unlinked. One that an earlier test left may be closed at any moment."""
    found = set()
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them, or another thread's
            if "deleted" in (link := os.readlink(f"/proc/self/fd/{one}")):
                found.add((link, os.stat(f"/proc/self/fd/{one}").st_ino))
    return found


SHAPES = [
    b'{"jsonrpc":"2.0","id":%b,"result":"%b"}',
    b'{"jsonrpc":"2.0","result":"%b","id":%b}',
    b'{"result":"%b","id" : %b }',
    b'{"jsonrpc":"2.0","result":"%b","id":%b,"x":{"id":7}}',
    b'{\n "jsonrpc": "2.0",\n "id": %b,\n "result": "%b"\n}',
    b'{"id":%b,"result":[{"a":"\\"}\\\\"},"%b"]}',
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["eth_call", "eth_getLogs", "debug_traceBlock"])
async def test_the_callers_id_stands_where_the_node_put_it(method: str, kind: str, short_tmp: Path) -> None:
    shape = b""

    def filled(raw: bytes) -> bytes:
        first_is_id = shape.index(b"id") < shape.index(b"result")
        return shape % ((raw, VALUE.encode()) if first_is_id else (VALUE.encode(), raw))

    async def answer(request: dict[str, Any]) -> bytes:
        return filled(raw_id(request)) if request["method"] == method else result(request, "0x2")

    before = descriptors()
    async with behind(FakeNode(answer), kind, short_tmp, folder=short_tmp) as l1:
        for shape in SHAPES:
            reply = await l1.forward(Request(method, b"[]", CALL.id))
            assert isinstance(reply, LargeReply), shape
            assert b"".join(reply.parts()) == filled(b'"me"'), shape
            assert (await l1.call("eth_getBalance")) == "0x2"
            reply.close()
    assert descriptors() <= before
    assert not list(short_tmp.glob("answer-*"))


@pytest.mark.parametrize("ending", [b"", b"\n", b" \r\n"])
async def test_a_socket_that_carried_one_carries_on(ending: bytes, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, VALUE if request["method"] == "eth_call" else request["params"])

    node = FakeNode(answer, ending=ending)
    async with behind(node, "ipc", short_tmp) as l1:
        large, *small = await asyncio.gather(l1.forward(CALL), *(l1.call("eth_getBalance", n) for n in range(30)))
        assert isinstance(large, LargeReply)
        assert large.result() == VALUE
        assert small == [[n] for n in range(30)]


@pytest.mark.parametrize("kind", KINDS)
async def test_above_the_limit_it_is_an_error_of_its_asker(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, VALUE if request["method"] == "eth_call" else "0x2")

    before = descriptors()
    async with behind(FakeNode(answer), kind, short_tmp, response_limit=4_500_000) as l1:
        outcomes = await asyncio.gather(*(l1.call(m) for m in ("eth_call", "eth_getBalance")), return_exceptions=True)
        assert isinstance(outcomes[0], LimitExceeded)
        assert outcomes[1] == await l1.call("eth_getBalance") == "0x2"
    assert descriptors() <= before


@pytest.mark.parametrize(
    "body", [b"[" + b"1," * 2_500_000 + b"1]", b'{"a":"' + b"x" * 5_000_000, b'{"a":1}' + b" {}" * 2_000_000]
)
@pytest.mark.parametrize("kind", ["http", "ws"])
async def test_what_is_no_object_is_no_answer(kind: str, body: bytes, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return body if request["method"] == "evm_mine" else result(request, "0x2")

    before = descriptors()
    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        with pytest.raises(Disconnected, match="it was sent"):
            await l1.call("evm_mine")
        assert await l1.call("eth_getBalance") == "0x2"
    assert descriptors() <= before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_disk_that_takes_nothing_is_told(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, VALUE if request["method"] == "eth_call" else "0x2")

    async with behind(FakeNode(answer), kind, short_tmp, folder=short_tmp / "gone") as l1:
        with pytest.raises(Disconnected, match="could not be kept on disk"):
            await l1.forward(CALL)
        assert await l1.call("eth_getBalance") == "0x2"


@pytest.mark.parametrize("kind", KINDS)
async def test_one_whose_asker_has_gone_leaves_nothing_behind(kind: str, short_tmp: Path) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            asked.set()
            await gate.wait()
        return result(request, VALUE if request["method"] == "eth_call" else "0x2")

    before = descriptors()
    async with behind(FakeNode(answer), kind, short_tmp) as l1:
        leaving = asyncio.create_task(l1.forward(CALL))
        await asked.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.set()
        for _ in range(3):
            assert await l1.call("eth_getBalance") == "0x2"
    assert descriptors() <= before


@pytest.mark.parametrize("size", [5_000_000, 4_300_000])
async def test_one_that_comes_slowly_delays_nobody(size: int, short_tmp: Path) -> None:
    gate = asyncio.Event()
    node = FakeNode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            body = await node.respond(line.strip()) or b""
            if b"eth_call" in line:
                body = result(json.loads(line), "0x" + "ab" * (size // 2))
                writer.write(body[:4_250_000])
                await gate.wait()
                body = body[4_250_000:]
            writer.write(body + b"\n")

    server = await asyncio.start_unix_server(serve, short_tmp / "n.ipc")
    l1 = L1([str(short_tmp / "n.ipc")], call_seconds=60)
    async with asyncio.timeout(60):
        assert await l1.call("eth_getBalance") == "0x1"
        before = descriptors()
        slow = asyncio.create_task(l1.forward(CALL))
        while descriptors() <= before:  # noqa: ASYNC110  (poll with a deadline)
            await asyncio.sleep(0.01)
        assert await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(100))) == ["0x1"] * 100
        assert not slow.done()
        gate.set()
        assert (await slow).result() == "0x" + "ab" * (size // 2)
    await l1.close()
    server.close()


async def test_one_in_chunks_arrives_whole(short_tmp: Path) -> None:
    def in_chunks(body: bytes) -> bytes:
        chunks = (body[start : start + 50_001] for start in range(0, len(body), 50_001))
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"

    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, VALUE)

    node = FakeNode(answer)
    async with node.http(reply=lambda body: in_chunks(body) if len(body) > 1000 else ok(body)) as url:
        l1 = L1([url])
        reply = await l1.forward(CALL)
        assert isinstance(reply, LargeReply)
        assert json.loads(b"".join(reply.parts())) == {"jsonrpc": "2.0", "id": "me", "result": VALUE}
        reply.close()
        await l1.close()


PIECE = b'{"address":"0x00","topics":["0x01","\\"}"],"data":"0xabcdef"},' * 1000
COUNT = 500


def stream() -> Iterator[bytes]:
    """Give an answer of thirty megabytes, piece by piece."""
    yield b'{"jsonrpc":"2.0","id":7,"result":['
    for _ in range(COUNT):
        yield PIECE
    yield b"0]}"


SIZE = sum(map(len, (b'{"jsonrpc":"2.0","id":7,"result":[', b"0]}"))) + COUNT * len(PIECE)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_waits_for_slow_callers_leaves_room_on_the_disk(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, VALUE if request["method"] == "eth_call" else "0x2")

    before = descriptors()
    async with behind(FakeNode(answer), kind, short_tmp, response_limit=5_500_000) as l1:  # four of them together
        waiting = [await l1.forward(CALL) for _ in range(4)]
        with pytest.raises(LimitExceeded, match="not read yet") as refused:
            await l1.forward(CALL)
        assert refused.value.data == {"limit": "waiting_responses"}
        assert await l1.call("eth_getBalance") == "0x2"
        for reply in waiting:
            assert isinstance(reply, LargeReply)
            reply.close()
        again = await l1.forward(CALL)
        assert isinstance(again, LargeReply)
        again.close()
    assert descriptors() <= before


@pytest.mark.parametrize("kind", ["ipc", "lines", "ws", "http"])
def test_memory_stays_flat(kind: str) -> None:
    keeping = Keeping(256 * 1024 * 1024)
    found: list[Any] = []
    tracemalloc.start()
    try:
        if kind == "http":
            response = ResponseReader(keeping)
            response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            assert [response.feed(piece) for piece in stream()][-1]
            found = [response.body]
        elif kind == "ws":
            messages = MessageReader(keeping, as_it_is)
            found += messages.feed(struct.pack("!BBQ", 0x81, 127, SIZE))
            for piece in stream():
                found += messages.feed(piece)
        else:
            splitter = FrameSplitter(keeping)
            if kind == "lines":
                found = list(splitter.feed(b'{"id":1}\n'))[:0]
            for piece in stream():
                found += splitter.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (reply,) = found
    assert isinstance(reply, LargeReply)
    assert reply.length == SIZE
    assert b"".join(reply.parts()) == b"".join(stream())
    reply.close()
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize("kind", ["http", "ipc"])
async def test_megabytes_are_no_answer_to_a_question_of_the_proxys_own(kind: str, short_tmp: Path) -> None:
    before = descriptors()
    with pytest.raises(Disconnected, match="answers a short question with megabytes"):
        async with behind(FakeNode(version=VALUE), kind, short_tmp):
            pytest.fail("it was let in")
    assert descriptors() <= before
