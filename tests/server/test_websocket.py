"""The dapp listener over WebSocket: many calls at once, pushes, revocation, slow readers, the end."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from proxy.server import outbox, websocket
from proxy.server.connections import Connections
from proxy.server.http import DappListener
from tests.server.conftest import BOUND, CALL, PAGE, PATIENCE, TOKEN, Echo, StartListener, TokenBook

WS = aiohttp.WSMsgType


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(listener: DappListener, path: str = "/") -> str:
    return f"ws://127.0.0.1:{listener.port}{path}"


def call(method: str, number: int = 1, params: Any = None) -> str:
    extra = {} if params is None else {"params": params}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, **extra})


async def test_answers_come_as_they_finish(listener: DappListener, session: aiohttp.ClientSession, echo: Echo) -> None:
    async with session.ws_connect(url(listener)) as ws:
        await ws.send_str(call("wait", 1))
        await ws.send_str(call("who", 2))
        await ws.send_bytes(call("who", 3).encode())
        assert [(await ws.receive_json())["id"] for _ in range(2)] == [2, 3]
        echo.release.set()
        answer = await ws.receive()
        assert (answer.type, json.loads(answer.data)["id"]) == (WS.TEXT, 1)


async def test_who_asks_is_settled_at_the_upgrade(listener: DappListener, session: aiohttp.ClientSession) -> None:
    for path, origin, who in (
        ("/", None, "anonymous"),
        (f"/{TOKEN}", None, "token:free"),
        ("/", PAGE, PAGE),
        (f"/{BOUND}", PAGE, "token:bound"),
    ):
        async with session.ws_connect(url(listener, path), origin=origin) as ws:
            await ws.send_bytes(CALL)
            assert (await ws.receive_json())["result"] == who


async def test_a_push_reaches_the_connection_that_asked(listener: DappListener, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(url(listener)) as ws:
        await ws.send_str(call("push"))
        frames = [await ws.receive_json() for _ in range(2)]
    assert {frame.get("method", "answer") for frame in frames} == {"eth_subscription", "answer"}


async def test_a_revoked_token_ends_with_the_next_call(
    listener: DappListener, session: aiohttp.ClientSession, tokens: TokenBook, echo: Echo
) -> None:
    async with session.ws_connect(url(listener, f"/{TOKEN}")) as ws:
        await ws.send_bytes(CALL)
        await ws.receive_json()
        del tokens.known[TOKEN]
        await ws.send_bytes(CALL)
        closed = await ws.receive()
        assert (closed.type, closed.data) == (WS.CLOSE, 1008)
    assert len(echo.seen) == 1


async def test_bodies_over_the_limit(start_listener: StartListener, session: aiohttp.ClientSession) -> None:
    listener = await start_listener(most_bytes=1000)
    async with session.ws_connect(url(listener)) as ws:
        await ws.send_str(" " * 1001)
        error = await ws.receive_json()
        assert (error["id"], error["error"]["code"], error["error"]["data"]) == (None, -32005, {"limit": "body"})
        await ws.send_bytes(CALL)
        assert (await ws.receive_json())["result"] == "anonymous"
        await ws.send_str(" " * 5000)
        assert (await ws.receive()).data == 1009


async def test_an_asker_that_goes_away_is_noticed(
    listener: DappListener, session: aiohttp.ClientSession, echo: Echo
) -> None:
    told = asyncio.Event()
    async with asyncio.timeout(PATIENCE):
        async with session.ws_connect(url(listener)) as ws:
            await ws.send_str(call("wait"))
            await echo.waiting.wait()
            _, context = echo.seen[0]
            assert context.connection is not None
            assert context.presence is not None
            context.connection.on_close(told.set)
        await told.wait()
        await echo.cancelled.wait()
        await context.presence.gone()


async def test_a_client_that_never_reads_is_cut_off(
    start_listener: StartListener, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "Outbox", functools.partial(outbox.Outbox, stall_seconds=0.2))
    connections = Connections()
    listener = await start_listener(connections=connections)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    handshake = (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{listener.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(handshake.encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    body = call("large", params=[20_000_000]).encode()
    writer.write(bytes([0x81, 0x80 | len(body)]) + b"\0\0\0\0" + body)
    writer.write(bytes([0x81, 0x80 | len(body)]) + b"\0\0\0\0" + body)
    async with asyncio.timeout(PATIENCE):
        while not echo.seen:  # noqa: ASYNC110  the other side reads in its own time
            await asyncio.sleep(0.01)
        _, context = echo.seen[0]
        assert context.presence is not None
        await context.presence.gone()
    assert connections.cut_off == {"http": 0, "ws": 1, "ipc": 0}
    writer.close()


async def test_pushes_that_pile_up_end_the_connection_at_once_and_are_counted(
    start_listener: StartListener, echo: Echo, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "Outbox", functools.partial(outbox.Outbox, most_bytes=1_000_000))
    connections = Connections()
    listener = await start_listener(connections=connections)
    async with asyncio.timeout(PATIENCE), session.ws_connect(url(listener)) as ws:
        await ws.send_str(call("wait"))
        await echo.waiting.wait()
        _, context = echo.seen[0]
        assert context.connection is not None
        ended = asyncio.Event()
        context.connection.on_close(ended.set)
        while not connections.cut_off["ws"]:  # the socket's own buffers take megabytes before anything waits
            context.connection.push("eth_subscription", {"result": "x" * 100_000})
        await ended.wait()  # not only after the minute a reader may take nothing
        context.connection.push("eth_subscription", {})
    assert connections.cut_off == {"http": 0, "ws": 1, "ipc": 0}


async def test_a_flood_of_calls_slows_down_itself_alone(
    listener: DappListener, session: aiohttp.ClientSession, echo: Echo
) -> None:
    async with session.ws_connect(url(listener)) as flood, session.ws_connect(url(listener)) as other:
        for number in range(1000):
            await flood.send_str(call("wait", number))
        await other.send_bytes(CALL)
        assert (await other.receive_json())["result"] == "anonymous"
        assert len([one for one, _ in echo.seen if one.method == "wait"]) <= 256
        echo.release.set()
        numbers = {(await flood.receive_json())["id"] for _ in range(1000)}
    assert numbers == set(range(1000))


async def test_connections_per_site(start_listener: StartListener, session: aiohttp.ClientSession) -> None:
    listener = await start_listener(connections=Connections(per_site=1))
    async with session.ws_connect(url(listener), origin=PAGE) as ws:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url(listener), origin=PAGE)
        assert refused.value.status == 503
        await ws.send_bytes(CALL)
        assert (await ws.receive_json())["result"] == PAGE


async def test_a_bad_handshake_is_a_json_error(listener: DappListener, session: aiohttp.ClientSession) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "7"}
    async with session.get(f"http://127.0.0.1:{listener.port}/", headers=headers) as response:
        assert (response.status, response.headers["Sec-WebSocket-Version"]) == (426, "13")
        assert (await response.json())["error"]["code"] == -32600
    headers |= {"Sec-WebSocket-Version": "13"}  # without a key
    async with session.get(f"http://127.0.0.1:{listener.port}/", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == -32600


async def test_the_end_finishes_what_is_in_flight(
    start_listener: StartListener, session: aiohttp.ClientSession, echo: Echo
) -> None:
    listener = await start_listener()
    async with session.ws_connect(url(listener)) as ws:
        await ws.send_str(call("wait"))
        await echo.waiting.wait()
        ending = asyncio.create_task(listener.close(PATIENCE))
        await asyncio.sleep(0)
        echo.release.set()
        assert (await ws.receive_json())["result"] == "anonymous"
        assert (await ws.receive()).data == 1001
    await ending
