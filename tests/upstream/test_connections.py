"""What the connections to a node do when it restarts, hangs, half-closes, stops reading, or lets nobody in."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import Disconnected
from middleware.waist import NodeReply, Request
from proxy.upstream import ws
from proxy.upstream.http import Http
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import OTHER_GENESIS, Die, FakeNode, Hang, result
from tests.upstream.test_failures import KINDS, behind, patience

BALANCE = Request("eth_getBalance", b'["0x01"]', b"1")


@pytest.mark.parametrize("kind", KINDS)
async def test_long_calls_that_hang_delay_nobody(kind: str, short_tmp: Path) -> None:
    gate = asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"].startswith(("debug_", "eth_getLogs")):
            await gate.wait()
        return result(request, request["method"])

    async with behind(FakeNode(answer), kind, short_tmp, call_seconds=60) as l1, asyncio.timeout(60):
        methods = ["debug_traceTransaction", "eth_getLogs"] * 30
        slow = [asyncio.create_task(l1.call(method)) for method in methods]
        for _ in range(3):
            quick = await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(40)))
            assert quick == ["eth_getBalance"] * 40
        odd = await l1.forward(Request("eth_getBalance", b"[]", b"1.5"))
        assert odd == NodeReply(b'{"jsonrpc":"2.0","id":1.5,"result":"eth_getBalance"}')
        assert not any(task.done() for task in slow)
        gate.set()
        assert await asyncio.gather(*slow) == methods


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_that_hang_delay_nobody_however_many(kind: str, short_tmp: Path) -> None:
    """More than a pool of connections has; what was opened for them is given back with them."""
    gate = asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            await gate.wait()
        return result(request, request["method"])

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp, call_seconds=60) as l1, asyncio.timeout(60):
        slow = [asyncio.create_task(l1.call("eth_call")) for _ in range(200)]
        for _ in range(3):
            quick = await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(40)))
            assert quick == ["eth_getBalance"] * 40
        assert not any(task.done() for task in slow)
        gate.set()
        assert await asyncio.gather(*slow) == ["eth_call"] * 200
        if kind == "http":
            pool = l1.nodes[0]._transport
            assert isinstance(pool, Http)
            assert len(pool._all) <= 128


@pytest.mark.parametrize("kind", KINDS)
async def test_more_callers_than_connections_are_all_answered(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        await asyncio.sleep(0)
        return result(request, request["params"])

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1, asyncio.timeout(20):
        if kind == "http":
            pool = l1.nodes[0]._transport
            assert isinstance(pool, Http)
            pool._look_seconds = 60  # how fast 128 calls are answered is the machine's affair: none is slow here
        for _ in range(2):
            answers = await asyncio.gather(*(l1.call("eth_getBalance", n) for n in range(400)))
            assert answers == [[n] for n in range(400)]
        assert 2 <= node.connections <= (131 if kind == "http" else 4)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system alone acknowledges")
async def test_what_has_come_is_acknowledged_while_another_answer_is_due(short_tmp: Path) -> None:
    """A node with Nagle's algorithm keeps the other back until then, and in a conversation the system takes 40 ms to acknowledge."""
    asked, gate = asyncio.Event(), asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_call":
            asked.set()
            await gate.wait()
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, "ws", short_tmp, follow=False) as l1, asyncio.timeout(60):
        for _ in range(50):
            await l1.call("eth_getBalance")
        other = asyncio.create_task(l1.call("eth_call"))
        await asked.wait()
        await l1.call("eth_getBalance")
        unacknowledged = fcntl.ioctl(node.carriers[0].fileno(), termios.TIOCOUTQ, b"\0" * 4)
        assert int.from_bytes(unacknowledged, sys.byteorder) == 0
        gate.set()
        assert await other == "0x2"


@pytest.mark.parametrize("kind", KINDS)
async def test_callers_who_leave_give_their_places_back(kind: str, short_tmp: Path) -> None:
    hanging = True

    async def answer(request: dict[str, Any]) -> bytes:
        if hanging:
            raise Hang
        return result(request, "0x2")

    async with behind(FakeNode(answer), kind, short_tmp) as l1, asyncio.timeout(60):
        for method in ("eth_call", "eth_getLogs"):
            leaving = [asyncio.create_task(l1.call(method)) for _ in range(200)]
            while l1.nodes[0].figures.in_flight < 200:  # noqa: ASYNC110  (poll with a deadline)
                await asyncio.sleep(0.01)
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
            assert l1.nodes[0].figures.in_flight < 10, "the tracker's own"
        hanging = False
        assert await asyncio.gather(*(l1.call("eth_getLogs") for _ in range(50))) == ["0x2"] * 50
        assert await asyncio.gather(*(l1.call("eth_call") for _ in range(200))) == ["0x2"] * 200


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_a_socket_on_which_nothing_comes_any_more_is_replaced(kind: str, short_tmp: Path) -> None:
    stuck = True

    async def answer(request: dict[str, Any]) -> bytes:
        if stuck:
            raise Hang
        return result(request, "0x2")

    node = FakeNode(answer)
    serving = {"ws": node.ws(), "ipc": node.ipc(short_tmp / "node.ipc")}
    async with serving[kind] as url:
        l1 = L1([url])
        await l1.nodes[0].line()  # opens the socket
        patience(l1, 0.2)
        with pytest.raises(Disconnected, match="did not answer"):
            await l1.call("eth_getBalance")
        patience(l1, 60)
        stuck, before = False, node.connections
        assert await l1.call("eth_getBalance") == "0x2"
        assert node.connections == before + 1
        await l1.close()


async def test_a_half_closed_socket_is_done_with(short_tmp: Path) -> None:
    node = FakeNode()
    async with behind(node, "ipc", short_tmp) as l1, asyncio.timeout(60):
        assert await l1.call("eth_getBalance") == "0x1"
        before = node.connections
        for writer in node.writers:
            writer.write_eof()
        while await l1.call("eth_getBalance") == "0x1" and node.connections == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert l1.trouble is None


@pytest.mark.parametrize("silent", [True, False])
async def test_a_half_closed_http_connection_answers_nobody_twice(silent: bool, short_tmp: Path) -> None:
    """The node ends its side after, or instead of, an answer; a body without a length ends so."""

    def reply(body: bytes) -> bytes:
        return b"" if silent and b'"0x1"' in body else b"HTTP/1.1 200 OK\r\n\r\n" + body

    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.split("content-length: ")[1].split("\r\n")[0])
            writer.write(reply(await node.respond(await reader.readexactly(size)) or b""))
            writer.write_eof()
            await reader.read()
        writer.close()

    node = FakeNode()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    l1 = L1([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"], call_seconds=60)
    if silent:
        with pytest.raises(Disconnected, match="closed the connection without an answer"):
            await l1.forward(BALANCE)
    else:
        assert await l1.call("eth_getBalance") == await l1.call("eth_getBalance") == "0x1"
    await l1.close()
    server.close()
    assert served >= 4


async def test_a_node_that_stops_reading_is_not_fed(short_tmp: Path) -> None:
    """What cannot be sent waits with its caller; nothing piles up, and all is answered once the node reads again."""
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = 0
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                asked += 1
                if asked == 4:
                    await gate.wait()
                writer.write((await node.respond(line.strip()) or b"") + b"\n")

    node = FakeNode()
    server = await asyncio.start_unix_server(serve, short_tmp / "n.ipc", limit=2**22)
    l1 = L1([str(short_tmp / "n.ipc")], call_seconds=60)
    big = Request("eth_call", b'["0x' + b"ab" * 500_000 + b'"]', b"1")
    waiting = [asyncio.create_task(l1.forward(big)) for _ in range(20)]
    async with asyncio.timeout(60):
        while len(node.asked) < 3:  # noqa: ASYNC110  (poll with a deadline)
            await asyncio.sleep(0.01)
        later = asyncio.create_task(l1.call("eth_getBalance"))
        await asyncio.sleep(0)
        assert not later.done()
        gate.set()
        assert [reply.result() for reply in await asyncio.gather(*waiting)] == ["0x1"] * 20
        assert await later == "0x1"
    await l1.close()
    server.close()


@contextlib.asynccontextmanager
async def raw_server(respond: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[int]:
    """Answer the first bytes of each connection with `respond` and end it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await respond(await reader.readuntil(b"\r\n\r\n")))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"does not speak WebSocket \(HTTP 403\)"),
        (b"HTTP/1.1 307 Moved\r\nLocation: ws://127.0.0.1:1\r\n\r\n", r"redirects elsewhere \(HTTP 307\)"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak WebSocket"),
        (b"", "closed the connection while it was asked for a WebSocket"),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "answered another connection's key",
        ),
        (b"x" * 20_000, "does not speak WebSocket"),
    ],
)
async def test_what_is_no_websocket_is_said(response: bytes, reason: str) -> None:
    async def respond(_: bytes) -> bytes:
        return response

    async with raw_server(respond) as port:
        with pytest.raises(Disconnected, match=reason):
            await L1.probe([f"ws://127.0.0.1:{port}"])


async def test_what_a_node_is_told_about_its_caller() -> None:
    heads: list[bytes] = []

    async def respond(head: bytes) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"

    async with raw_server(respond) as port:
        for scheme in ("ws", "http"):
            with pytest.raises(Disconnected, match="HTTP 401"):
                await L1.probe([f"{scheme}://us%65r:p%40ss@localhost:{port}/v1/key%2F?x=1"])
    for head, method in zip(heads, (b"GET", b"POST"), strict=False):
        assert head.startswith(method + f" /v1/key%2F?x=1 HTTP/1.1\r\nHost: localhost:{port}\r\n".encode())
        assert b"\r\nAuthorization: Basic dXNlcjpwQHNz\r\n" in head  # user:p@ss
        assert b"rigin" not in head
        assert b"ookie" not in head


async def test_a_websocket_that_gives_no_sign_of_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = asyncio.Event()
    node = FakeNode()
    async with node.ws() as url:
        # Between the proxy and the node a wire that can be cut without a word.
        port = int(url.rpartition(":")[2])
        accepted = 0

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    if hang.is_set():
                        await asyncio.Event().wait()
                    writer.write(data)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            there, here = await asyncio.open_connection("127.0.0.1", port)
            both = asyncio.gather(carry(reader, here), carry(there, writer))
            both.add_done_callback(lambda _: writer.close())
            carrying.add(both)

        carrying: set[asyncio.Future[Any]] = set()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        l1 = L1([f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"], call_seconds=60)
        assert await l1.call("eth_getBalance") == "0x1"
        line = await l1.nodes[0].line()
        assert line is not None
        socket: Any = line.socket
        hang.set()
        # The silence is short for this connection and from here on: while the wire carries, a slow machine may be silent for as long.
        with monkeypatch.context() as patch:
            patch.setattr(ws, "_SILENCE_SECONDS", 0.05)
            socket._heartbeat.cancel()
            socket._beat()
            async with asyncio.timeout(60):
                with pytest.raises(Disconnected, match="gave no sign of life; it was sent"):
                    await l1.call("evm_mine")
        hang.clear()
        assert await l1.call("eth_getBalance") == "0x1"
        assert accepted == 2
        await l1.close()
        server.close()
        for both in carrying:
            both.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restart_of_the_node_costs_no_read(kind: str, short_tmp: Path) -> None:
    """Connections end under calls in flight; each read is asked again over a new one and answered once."""
    deaths = {"left": 0}

    async def answer(request: dict[str, Any]) -> bytes:
        if request["params"] == [7] and deaths["left"]:
            deaths["left"] -= 1
            node.drop_all()
            raise Die
        return result(request, request["params"])

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1, asyncio.timeout(60):
        await l1.call("eth_getBalance", 0)
        for _ in range(3):
            answers = await asyncio.gather(*(l1.call("eth_getBalance", n) for n in range(7)))
            assert answers == [[n] for n in range(7)]
            deaths["left"] = 1
            assert await l1.call("eth_getBalance", 7) == [7]
            assert await l1.call("eth_getBalance", 8) == [8]
        assert l1.trouble is None


@pytest.mark.parametrize("kind", KINDS)
async def test_another_chain_behind_a_new_connection_gets_nothing(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "evm_mine":
            node.chain_id, node.genesis = 5, OTHER_GENESIS
            node.drop_all()
            raise Die
        return result(request, "0x2")

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1, asyncio.timeout(60):
        await l1.call("eth_getBalance")
        with pytest.raises(Disconnected, match="it was sent"):
            await l1.call("evm_mine")
        asked = len(node.methods())
        while OTHER_GENESIS not in (l1.trouble or ""):
            with contextlib.suppress(Disconnected):
                await l1.call("eth_call" if kind == "http" else "eth_getBalance")
            await asyncio.sleep(0.01)
        for method in ("eth_getBalance", "eth_sendRawTransaction", "eth_getLogs"):
            with pytest.raises(Disconnected, match=f"serves chain 5 with genesis {OTHER_GENESIS}"):
                await l1.call(method, "0x00")
        if kind != "http":  # there a kept connection may still be the old node's own
            assert node.methods()[asked:] == []


async def test_no_descriptor_is_left_behind(short_tmp: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    node = FakeNode()
    async with node.ipc(short_tmp / "n.ipc") as ipc, node.ws() as web, node.http() as http:
        before = count()
        for url in (ipc, web, http, "http://127.0.0.1:1"):
            l1 = L1([url])
            with contextlib.suppress(Disconnected):
                await asyncio.gather(*(l1.call(method) for method in ("eth_call", "eth_getLogs", "eth_getBalance")))
            await l1.close()
        node.drop_all()  # its own ends
        async with asyncio.timeout(60):
            while count() > before:  # noqa: ASYNC110  (the other side closes in its own time)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_a_socket_whose_every_user_leaves_in_vain_is_replaced(
    kind: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the breaker is open only probes use the socket: were it kept, no probe would ever be answered."""
    monkeypatch.setattr("proxy.upstream.line._SILENT_SECONDS", 0.05)
    dead = -1

    async def answer(request: dict[str, Any]) -> bytes:
        if node.connections == dead:
            raise Hang
        return result(request, "0x2")

    node = FakeNode(answer)
    async with {"ws": node.ws(), "ipc": node.ipc(short_tmp / "node.ipc")}[kind] as url:
        l1 = L1([url])
        assert await l1.call("eth_getBalance") == "0x2"
        dead = node.connections  # what hangs is this connection, as after half an answer; the next one is well
        line = await l1.nodes[0].line()
        assert line is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await line.exchange(BALANCE, b"1")
        assert await l1.call("eth_getBalance") == "0x2"
        assert node.connections == 2
        await l1.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_another_chain_behind_a_standing_connection_is_noticed(
    kind: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.upstream.following.POLL_NEAR", 0.02)
    monkeypatch.setattr("proxy.upstream.l1._CONFIRM_EVERY", 0.1)
    node = FakeNode()
    async with behind(node, kind, short_tmp) as l1, asyncio.timeout(60):
        assert await l1.call("eth_getBalance") == "0x1"
        node.chain_id = 5
        with pytest.raises(Disconnected, match="serves chain 5 with"):
            while True:
                await l1.call("eth_getBalance")
        node.chain_id = 31337
        while l1.trouble is not None:
            with contextlib.suppress(Disconnected):
                await l1.call("eth_getBalance")
            await asyncio.sleep(0)  # nothing is asked while the node rests
        assert await l1.call("eth_getBalance") == "0x1"


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_large_answers_do_not_wait_for_each_other_on_one_socket(kind: str, short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        return result(request, "0x" + "00" * (50_000 if request["method"] == "eth_getCode" else 1))

    node = FakeNode(answer)
    async with behind(node, kind, short_tmp) as l1, asyncio.timeout(60):
        await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(32)))
        before = node.connections
        while node.connections < before + 3:  # one more at a time, up to four for all
            await asyncio.gather(*(l1.call("eth_getCode") for _ in range(8)))
        for _ in range(100):
            await asyncio.gather(*(l1.call("eth_getCode") for _ in range(8)))
        assert node.connections == before + 3
