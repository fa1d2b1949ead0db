"""Large answers over the three doors: part by part, closed always, flat in memory; a slow reader holds only itself."""

from __future__ import annotations

import asyncio
import functools
import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import aiohttp
import pytest

from middleware.waist import ANONYMOUS, Answer, Context, LargeReply, NodeReply, Request, result
from proxy.server import http, outbox, peers, websocket
from proxy.server.bodies import Joined
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.http import DappListener
from proxy.server.socket import SocketListener
from tests.server.conftest import CALL, JSON, PATIENCE, head, post, read_answer


class Node:
    """Answers `large` from a file of `size` characters, counting the files that are open."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.made: list[LargeReply] = []

    async def __call__(self, request: Request, context: Context) -> Answer:
        if request.method != "large":
            return result(request.method)
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed by who takes the answer
        start = b'{"jsonrpc":"2.0","id":%b,"result":"' % (request.id or b"null")
        file.write(start)
        for _ in range(self.size // 65536):
            file.write(b"x" * 65536)
        file.write(b"x" * (self.size % 65536) + b'"}')
        file.flush()
        reply = LargeReply(file, len(start) + self.size + 2)
        self.made.append(reply)
        return reply

    @property
    def open(self) -> int:
        return sum(not reply.file.closed for reply in self.made)


LARGE = CALL.replace(b"who", b"large")
QUIET = b'{"jsonrpc":"2.0","method":"large"}'


@asynccontextmanager
async def opened(node: Node, lane: str = "fast", **settings: Any) -> AsyncIterator[DappListener]:
    listener = DappListener(Door(node, batch=10, **settings), fast=lane == "fast")
    await listener.start(0)
    try:
        yield listener
    finally:
        await listener.close(0.5)


def right(body: bytes, size: int) -> bool:
    return bool(json.loads(body) == {"jsonrpc": "2.0", "id": 1, "result": "x" * size})


@pytest.mark.parametrize("size", [5, 256 * 1024 - 36, 256 * 1024, 3_000_000])
async def test_over_http_alone_and_in_a_batch(lane: str, size: int) -> None:
    node = Node(size)
    async with opened(node, lane) as listener:
        assert right((await post(listener.port, body=LARGE)).body, size)
        assert (await post(listener.port, body=QUIET)).status == 204
        batch = b"[" + b",".join((CALL, LARGE, QUIET, b"5", LARGE)) + b"]"
        first, second, third, fourth = (await post(listener.port, body=batch)).json
        assert first["result"] == "who"
        assert third["error"]["code"] == -32600
        assert second["result"] == fourth["result"] == "x" * size
    assert len(node.made) == 5
    assert node.open == 0


async def test_a_batch_has_room_for_so_many_bytes(lane: str) -> None:
    node = Node(1_000_000)
    async with opened(node, lane, response=1_500_000) as listener:
        one, two = (await post(listener.port, body=b"[%b,%b]" % (LARGE, LARGE))).json
    assert len(one["result"]) == 1_000_000
    assert two["error"]["data"] == {"limit": "response"}
    assert node.open == 0


async def test_kept_alive_and_pipelined(lane: str) -> None:
    node = Node(700_000)
    async with opened(node, lane) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write((head(listener.port, JSON, size=len(LARGE)) + LARGE) * 3)
        writer.write(head(listener.port, JSON, size=len(CALL)) + CALL)
        for _ in range(3):
            assert right((await read_answer(reader)).body, 700_000)
        assert (await read_answer(reader)).json["result"] == "who"
        writer.close()
    assert node.open == 0


async def test_memory_stays_flat(lane: str) -> None:
    """Thirty megabytes to ten readers cost what a few parts cost."""
    node = Node(30_000_000)
    async with opened(node, lane) as listener:
        tracemalloc.start()
        try:

            async def take() -> int:
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(head(listener.port, JSON, size=len(LARGE)) + LARGE)
                await reader.readuntil(b"\r\n\r\n")
                taken = 0
                while not (part := await reader.read(65536)).endswith(b"}"):
                    taken += len(part)
                writer.close()
                return taken + len(part)

            assert all(taken > 30_000_000 for taken in await asyncio.gather(*(take() for _ in range(10))))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 12_000_000, "both sides together"
    assert node.open == 0


class Disk:
    """Makes the files of answers that wait, and counts those that are open; there is room for `room` bytes."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.files: list[BinaryIO] = []

    def file(self) -> BinaryIO:
        self.files.append(cast(BinaryIO, tempfile.TemporaryFile(buffering=0)))  # noqa: SIM115  closed by the last answer in it
        return self.files[-1]

    def has(self, more: int) -> bool:
        self.room -= more
        return self.room >= 0

    @property
    def open(self) -> int:
        return sum(not file.closed for file in self.files)


async def nothing_open(disk: Disk) -> None:
    async with asyncio.timeout(PATIENCE):
        while disk.open:  # noqa: ASYNC110  the other side notices in its own time
            await asyncio.sleep(0.01)


async def middling(request: Request, context: Context) -> Answer:
    """Answer with three megabytes, too few for a file of their own; `who` with its name."""
    if request.method == "who":
        return result("who")
    return NodeReply(b'{"jsonrpc":"2.0","id":%b,"result":"%b"}' % (request.id or b"null", b"x" * 3_000_000))


MIDDLING = CALL.replace(b"who", b"middling")
TOGETHER = b"[" + b",".join([MIDDLING, CALL] * 20) + b"]"


@asynccontextmanager
async def over_disk(disk: Disk, lane: str = "fast") -> AsyncIterator[DappListener]:
    listener = DappListener(Door(middling, batch=40, disk=disk), fast=lane == "fast")
    await listener.start(0)
    try:
        yield listener
    finally:
        await listener.close(0.5)


async def test_a_batch_of_answers_that_are_not_large_alone_is_right_and_flat(lane: str) -> None:
    disk = Disk()
    async with over_disk(disk, lane) as listener:
        answers = (await post(listener.port, body=TOGETHER)).json
        assert [len(one["result"]) for one in answers] == [3_000_000, 3] * 20
        assert disk.files, "sixty megabytes went through files"
        await nothing_open(disk)
        tracemalloc.start()
        try:
            writers = []
            for _ in range(3):
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
                writer.write(head(listener.port, JSON, size=len(TOGETHER)) + TOGETHER)
                writers.append(writer)
            async with asyncio.timeout(PATIENCE):
                while disk.room > (1 << 40) - 3 * 40_000_000:  # noqa: ASYNC110  the other side begins in its own time
                    await asyncio.sleep(0.01)
            assert (await post(listener.port)).status == 200, "nobody else waits"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for writer in writers:
            writer.transport.abort()
        await nothing_open(disk)
    assert peak < 45_000_000, "three readers that never read, of sixty megabytes each"


async def test_a_batch_for_which_the_disk_has_no_room_says_so(lane: str) -> None:
    disk = Disk(room=10_000_000)
    async with over_disk(disk, lane) as listener:
        answers = (await post(listener.port, body=TOGETHER)).json
        assert [len(one["result"]) for one in answers if "result" in one].count(3_000_000) == 4
        refused = [one["error"] for one in answers if "error" in one]
        assert len(refused) == 16
        assert all(error["code"] == -32005 for error in refused)
        assert all(error["data"]["limit"] == "waiting_responses" for error in refused)
        await nothing_open(disk)


@pytest.mark.parametrize("room", [1 << 40, 10_000_000])
async def test_a_reader_that_asks_for_much_and_never_reads_costs_no_memory(short_tmp: Path, room: int) -> None:
    """What finds no room in memory waits on disk; without room there either, the connection ends."""
    disk = Disk(room)
    connections = Connections()
    listener = SocketListener(
        Door(middling, disk=disk), short_tmp / "run" / "l2proxy.ipc", connections=connections, most_bytes=1 << 20
    )
    await listener.start()
    tracemalloc.start()
    try:
        reader, writer = await asyncio.open_unix_connection(listener.path, limit=4096)
        writer.write(MIDDLING * 50)
        async with asyncio.timeout(PATIENCE):
            while disk.room > room - 100_000_000 and not connections.cut_off["ipc"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000, "of a hundred and fifty"
    assert bool(connections.cut_off["ipc"]) == (room == 10_000_000)
    if room > 10_000_000:
        came = 0
        async with asyncio.timeout(PATIENCE):
            while came < 50:
                came += (await reader.read(1 << 20)).count(b"\n")
    writer.transport.abort()
    await nothing_open(disk)
    await listener.close(0.5)


async def test_who_goes_or_never_reads_leaves_nothing_open(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SEND_SECONDS", 0.3)
    node = Node(30_000_000)
    async with opened(node, lane) as listener:
        for leaves in (True, False):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
            writer.write(head(listener.port, JSON, size=len(LARGE)) + LARGE)
            async with asyncio.timeout(PATIENCE):
                while len(node.made) < 2 - leaves:  # noqa: ASYNC110  the other side begins in its own time
                    await asyncio.sleep(0.01)
                assert (await post(listener.port)).status == 200, "nobody else waits"
                if leaves:
                    writer.transport.abort()
                while node.open:  # noqa: ASYNC110  and ends in its own
                    await asyncio.sleep(0.01)
            writer.transport.abort()


async def test_who_said_everything_may_take_a_large_answer_slowly(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1.0  # it counts from the end of the question until the answer begins: no moment in which all stands still
    monkeypatch.setattr(peers, "HALF_CLOSED_SECONDS", limit)
    monkeypatch.setattr(http, "HALF_CLOSED_SECONDS", limit)
    size = 12_000_000  # more than the system takes for a reader that waits
    async with opened(Node(size), lane) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=65536)
        writer.write(head(listener.port, JSON, size=len(LARGE)) + LARGE)
        writer.write_eof()
        begun = await reader.readuntil(b"\r\n\r\n")
        assert begun.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(limit + 0.1)  # nothing waits for this: the limit passes while the answer is on its way
        assert right(await reader.read(), size)
        writer.close()


async def test_over_a_websocket() -> None:
    """As one message of many fragments, with a pong and another answer in their places."""
    node = Node(3_000_000)
    async with (
        opened(node) as listener,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{listener.port}/", max_msg_size=0) as ws,
    ):
        await ws.send_bytes(LARGE)
        await ws.ping()
        await ws.send_bytes(b"[%b,%b]" % (CALL, LARGE))
        assert right((await ws.receive_str()).encode(), 3_000_000)
        assert [len(one["result"]) for one in await ws.receive_json()] == [3, 3_000_000]
        await ws.send_bytes(CALL)
        assert (await ws.receive_json())["result"] == "who"
    assert node.open == 0


async def test_a_websocket_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "Outbox", functools.partial(outbox.Outbox, stall_seconds=0.3))
    node = Node(30_000_000)
    async with opened(node) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
        lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        writer.write(head(listener.port, *lines, key, method="GET"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            writer.write(bytes([0x81, 0x80 | len(LARGE)]) + b"\0\0\0\0" + LARGE)
        async with asyncio.timeout(PATIENCE):
            while len(node.made) < 3 or node.open:  # noqa: ASYNC110  the other side notices in its own time
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_over_the_unix_socket(short_tmp: Path) -> None:
    node = Node(3_000_000)
    listener = SocketListener(Door(node), short_tmp / "run" / "l2proxy.ipc")
    await listener.start()
    reader, writer = await asyncio.open_unix_connection(listener.path, limit=10_000_000)
    writer.write(LARGE + b"[%b,%b]" % (CALL, LARGE))
    lines = sorted([await reader.readline(), await reader.readline()], key=len)
    assert right(lines[0], 3_000_000)
    assert [len(one["result"]) for one in json.loads(lines[1])] == [3, 3_000_000]
    writer.write(LARGE * 4)
    await reader.readuntil(b"{")
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while len(node.made) < 6 or node.open:  # noqa: ASYNC110  the other side notices in its own time
            await asyncio.sleep(0.01)
    await listener.close(0.5)


async def test_the_parts_of_a_batch_are_its_answers_in_order() -> None:
    door = Door(Node(10))
    body = await door.answer(b"[%b,%b]" % (CALL, LARGE), Context(ANONYMOUS))
    assert isinstance(body, Joined)
    whole = b"".join(body.parts(7))
    assert len(whole) == body.length
    assert [one["result"] for one in json.loads(whole)] == ["who", "x" * 10]
    assert max(map(len, body.parts(7))) == 7
    body.close()
