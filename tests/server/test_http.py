"""The dapp listener over HTTP: statuses, CORS, limits, and what happens when an asker goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from types import SimpleNamespace

import aiohttp
import pytest

from middleware.waist import Presence
from proxy.server import attempts, http, peers
from proxy.server.connections import Connections
from proxy.server.http import DappListener
from tests.server.conftest import (
    BOUND,
    CALL,
    JSON,
    PAGE,
    PATIENCE,
    SOON,
    TOKEN,
    Echo,
    StartListener,
    exchange,
    head,
    post,
    read_answer,
)

pytestmark = pytest.mark.usefixtures("lane")


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::1]", "::1")]
)
async def test_one_port_on_both_families(listener: DappListener, host: str, address: str) -> None:
    if address == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    data = head(listener.port, JSON, host=f"{host}:{listener.port}", size=len(CALL)) + CALL
    answer = await exchange(listener.port, data, address=address)
    assert (answer.status, answer.json) == (200, {"jsonrpc": "2.0", "id": 1, "result": "anonymous"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "l2proxy"


async def test_errors_are_200_and_notifications_204(listener: DappListener) -> None:
    refused = await post(listener.port, body=CALL.replace(b"who", b"refuse"))
    assert (refused.status, refused.json["error"]["code"]) == (200, 4001)
    quiet = await post(listener.port, body=b'{"jsonrpc":"2.0","method":"who"}')
    assert (quiet.status, quiet.body) == (204, b"")
    broken = await post(listener.port, body=b"{")
    assert (broken.status, broken.error["code"]) == (200, -32700)
    empty = await post(listener.port, body=b"")
    assert (empty.status, empty.error["code"]) == (200, -32700)


async def test_the_nodes_bytes_leave_as_they_are(listener: DappListener) -> None:
    answer = await post(listener.port, body=b'{"jsonrpc":"2.0","id":"\\u0061","method":"node"}')
    assert answer.body == b'{"id":"\\u0061","result": "raw"}'


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
async def test_json_is_read(listener: DappListener, kind: str) -> None:
    answer = await exchange(listener.port, head(listener.port, f"Content-Type: {kind}", size=len(CALL)) + CALL)
    assert answer.status == 200


async def test_cors_echoes_the_page_that_asks(listener: DappListener) -> None:
    for answer in (
        await post(listener.port, f"Origin: {PAGE}"),
        await post(listener.port, f"Origin: {PAGE}", path="/nothing/here"),
        await exchange(
            listener.port, head(listener.port, f"Origin: {PAGE}", "Content-Type: text/plain", size=2) + b"{}"
        ),
        await exchange(listener.port, head(listener.port, f"Origin: {PAGE}", method="GET")),
    ):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in (await post(listener.port)).headers


async def test_preflights(start_listener: StartListener) -> None:
    listener = await start_listener(may_ask=lambda origin: origin == PAGE)
    private = "Access-Control-Request-Private-Network: true"
    local = "Access-Control-Request-Local-Network: true"
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,authorization")
    plain = await exchange(listener.port, head(listener.port, f"Origin: {PAGE}", *asked, method="OPTIONS"))
    assert plain.status == 204
    assert plain.headers["access-control-allow-origin"] == PAGE
    assert plain.headers["access-control-allow-headers"] == "content-type, authorization"
    assert "POST" in plain.headers["access-control-allow-methods"]
    assert "access-control-allow-private-network" not in plain.headers
    both = await exchange(
        listener.port, head(listener.port, f"Origin: {PAGE}", *asked, private, local, method="OPTIONS")
    )
    assert both.headers["access-control-allow-private-network"] == "true"
    assert both.headers["access-control-allow-local-network"] == "true"
    stranger = head(listener.port, "Origin: https://refused.example", *asked, private, local, method="OPTIONS")
    answer = await exchange(listener.port, stranger)
    assert "access-control-allow-private-network" not in answer.headers
    assert "access-control-allow-local-network" not in answer.headers


async def test_tokens(listener: DappListener) -> None:
    assert (await post(listener.port, path=f"/{TOKEN}")).json["result"] == "token:free"
    assert (await post(listener.port, f"Authorization: Bearer {TOKEN}")).json["result"] == "token:free"
    bound = await post(listener.port, f"Origin: {PAGE}", path=f"/{BOUND}")
    assert (bound.json["result"], bound.headers["access-control-allow-origin"]) == ("token:bound", PAGE)


async def test_failed_tokens_are_told_one_after_another(
    listener: DappListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time passes here when the test says so: one delay after another, and a good token waits for none of them."""
    delays: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        over = asyncio.Event()
        delays.put_nowait((seconds, over))
        await over.wait()

    monkeypatch.setattr(attempts, "asyncio", SimpleNamespace(sleep=sleep))
    bad = {asyncio.create_task(post(listener.port, path=f"/wrong{number}")) for number in range(3)}
    async with asyncio.timeout(PATIENCE):
        for left in (3, 2, 1):
            seconds, over = await delays.get()
            assert seconds >= 0.1
            assert (await post(listener.port, path=f"/{TOKEN}")).status == 200
            assert (sum(not asked.done() for asked in bad), delays.qsize()) == (left, 0)
            over.set()
            told, bad = await asyncio.wait(bad, return_when=asyncio.FIRST_COMPLETED)
            assert [asked.result().status for asked in told] == [401]
    assert delays.empty()


async def test_a_body_over_the_limit(start_listener: StartListener, echo: Echo) -> None:
    listener = await start_listener(most_bytes=1000)
    announced = await exchange(listener.port, head(listener.port, JSON, size=1001))
    assert (announced.status, announced.error["code"], announced.error["data"]) == (413, -32005, {"limit": "body"})
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    counted = await exchange(listener.port, head(listener.port, JSON, "Transfer-Encoding: chunked") + chunk)
    assert counted.status == 413
    assert echo.seen == []
    assert (await post(listener.port, body=CALL + b" " * (1000 - len(CALL)))).status == 200


async def test_a_compressed_body_is_not_read(listener: DappListener, echo: Echo) -> None:
    answer = await post(listener.port, "Content-Encoding: gzip")
    assert (answer.status, echo.seen) == (415, [])


async def test_a_client_that_waits_to_be_told_to_continue(listener: DappListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(head(listener.port, JSON, "Expect: 100-continue", size=len(CALL)))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(CALL)
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_a_connection_is_kept_and_pipelined(listener: DappListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    one = head(listener.port, JSON, size=len(CALL)) + CALL
    writer.write(one * 3)
    for _ in range(3):
        assert (await read_answer(reader)).status == 200
    writer.close()


async def test_identity_is_established_anew_for_every_request_of_a_connection(listener: DappListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    results = []
    for lines, path in (([], f"/{TOKEN}"), ([f"Origin: {PAGE}"], "/"), ([], "/")):
        writer.write(head(listener.port, JSON, *lines, path=path, size=len(CALL)) + CALL)
        results.append((await read_answer(reader)).json["result"])
    writer.close()
    assert results == ["token:free", PAGE, "anonymous"]


async def test_an_asker_that_goes_away_is_noticed(
    start_listener: StartListener, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "HALF_CLOSED_SECONDS", 0.2)
    monkeypatch.setattr(http, "HALF_CLOSED_SECONDS", 0.2)
    listener = await start_listener()
    body = CALL.replace(b"who", b"wait")
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(head(listener.port, JSON, size=len(body)) + body)
    async with asyncio.timeout(PATIENCE):
        await echo.waiting.wait()
        presence = presence_of(echo)
        assert presence.here
        writer.close()
        await presence.gone()
        await echo.cancelled.wait()
    assert not presence.here


async def test_a_client_that_has_said_everything_gets_its_answers(listener: DappListener) -> None:
    one = head(listener.port, JSON, size=len(CALL)) + CALL
    for requests in (1, 3):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(one * requests)
        writer.write_eof()
        async with asyncio.timeout(SOON):
            for _ in range(requests):
                assert (await read_answer(reader)).json["result"] == "anonymous"
            assert await reader.read() == b""
        writer.close()


async def test_it_counts_as_gone_while_its_answer_is_made(listener: DappListener, echo: Echo) -> None:
    body = CALL.replace(b"who", b"wait")
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(head(listener.port, JSON, size=len(body)) + body)
    async with asyncio.timeout(SOON):
        await echo.waiting.wait()
        writer.write_eof()
        await presence_of(echo).gone()
        echo.release.set()
        assert (await read_answer(reader)).json["result"] == "anonymous"
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("cut", [5, 60])
async def test_half_a_request_and_no_more_is_nothing(listener: DappListener, echo: Echo, cut: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write((head(listener.port, JSON, size=len(CALL)) + CALL)[:-cut])
    writer.write_eof()
    async with asyncio.timeout(SOON):
        assert await reader.read() == b""
    writer.close()
    assert echo.seen == []


def presence_of(echo: Echo) -> Presence:
    presence = echo.seen[0][1].presence
    assert presence is not None
    return presence


async def test_connections_per_site_and_in_all(start_listener: StartListener) -> None:
    listener = await start_listener(connections=Connections(total=5, per_caller=3, per_site=2))
    kept = []

    async def ask(*lines: str) -> tuple[int, str | None]:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        kept.append(writer)
        writer.write(head(listener.port, JSON, *lines, size=len(CALL)) + CALL)
        answer = await read_answer(reader)
        return answer.status, answer.json.get("error", {}).get("data", {}).get("limit")

    assert await ask(f"Origin: {PAGE}") == (200, None)
    assert await ask(f"Origin: {PAGE}") == (200, None)
    assert await ask(f"Origin: {PAGE}") == (503, "connections_per_site")
    assert await ask("Origin: https://b.example") == (200, None)
    assert await ask() == (200, None)
    assert await ask() == (503, "connections")
    for writer in kept:
        writer.close()
        with contextlib.suppress(ConnectionResetError):  # one too many is closed before its request is read
            await writer.wait_closed()
    async with asyncio.timeout(PATIENCE):
        while (await ask(f"Origin: {PAGE}"))[0] != 200:
            kept.pop().close()  # it would take the place that is waited for
            await asyncio.sleep(0.01)
    for writer in kept:
        writer.close()


async def test_the_end_finishes_what_is_in_flight(start_listener: StartListener, echo: Echo) -> None:
    listener = await start_listener()
    body = CALL.replace(b"who", b"wait")
    asked = asyncio.create_task(post(listener.port, body=body))
    await echo.waiting.wait()
    ending = asyncio.create_task(listener.close(PATIENCE))
    await asyncio.sleep(0)
    echo.release.set()
    assert (await asked).json["result"] == "anonymous"
    await ending
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", listener.port)


async def test_a_port_in_use_is_one_sentence(listener: DappListener, start_listener: StartListener) -> None:
    other = await start_listener()
    await other.close(0)
    with pytest.raises(OSError, match=rf"port {listener.port} on 127\.0\.0\.1 is taken"):
        await other.start(listener.port)


async def test_an_ordinary_client(listener: DappListener) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"http://localhost:{listener.port}"
        calls = [json.loads(CALL) | {"id": number} for number in range(3)]
        async with session.post(url, json=calls) as response:
            assert [one["id"] for one in await response.json()] == [0, 1, 2]


async def test_another_version_of_http_is_refused_in_ours(listener: DappListener) -> None:
    """RFC 9110, 15.6.6: 505, in a version that both may read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    first = f"POST / HTTP/2.0\r\nHost: 127.0.0.1:{listener.port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{first}Content-Length: {len(CALL)}\r\n\r\n".encode() + CALL)
    answered = await reader.read()
    assert answered.startswith(b"HTTP/1.1 505 ")
    assert b"this proxy speaks HTTP/1.1" in answered
    writer.close()
