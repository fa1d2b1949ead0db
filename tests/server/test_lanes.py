"""The two lanes are one door: the same bytes get the same answers from both, byte for byte, whatever they are.

The fast lane answers by itself only what is plain, so that most of this is about where it lets go: at any request of a
connection, with every earlier answer out first. The corpus in `corpus/` are requests that once mattered; hypothesis makes
up more, and cuts them into pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.waist import Answer, Context, Request
from proxy.server import http
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.fast_lane import AT_ONCE, IN_A_ROW
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
    TokenBook,
    exchange,
    head,
    listening,
    read_answer,
)

CORPUS = Path(__file__).parent / "corpus"
PORT = "8645"  # stands for the listener's in requests


class Pipe(asyncio.Transport):
    """A transport that keeps what is written, and reads nothing by itself."""

    def __init__(self) -> None:
        super().__init__({})
        self.written = b""
        self.protocol: asyncio.Protocol
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing is read by itself."""

    resume_reading = pause_reading


async def answers(listener: DappListener, data: bytes, size: int) -> list[bytes]:
    """Feed `data` to a connection of `listener` in pieces of `size`, then its end; return the answers, as they are always."""
    listener._attempts._delay = 0
    data = data.replace(PORT.encode(), str(listener.port).encode())
    pipe = Pipe()
    pipe.protocol = listener._protocol()
    pipe.protocol.connection_made(pipe)
    for at in range(0, len(data), size):
        if not pipe.is_closing():
            pipe.protocol.data_received(data[at : at + size])
            await turns(2)
    await turns(60)
    if not pipe.is_closing() and not pipe.protocol.eof_received():
        pipe.close()
    async with asyncio.timeout(SOON):
        await pipe.closed.wait()
    await turns(3)
    came = pipe.written.replace(str(listener.port).encode(), PORT.encode())
    came = re.sub(rb"\r\nDate: [^\r]+", b"\r\nDate: now", came)
    return [answer for answer in re.split(rb"(?=HTTP/1\.)", came) if answer]


async def turns(count: int) -> None:
    """Let everything else have its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def both() -> AsyncIterator[tuple[DappListener, DappListener]]:
    """Open a listener of each lane."""
    async with listening(Echo(), fast=True) as fast, listening(Echo(), fast=False) as slow:
        yield fast, slow


def plain(*lines: str, body: bytes = CALL, path: str = "/", kind: str = JSON) -> bytes:
    return head(int(PORT), kind, *lines, path=path, size=len(body)) + body


NOTIFICATION = b'{"jsonrpc":"2.0","method":"who"}'
CHUNKED = head(int(PORT), JSON, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CALL), CALL)
REQUESTS = {
    "a call": plain(),
    "a page": plain(f"Origin: {PAGE}"),
    "a token": plain(path=f"/{TOKEN}"),
    "a token in the header": plain(f"Authorization: Bearer {TOKEN}"),
    "a token of a page": plain(f"Origin: {PAGE}", path=f"/{BOUND}"),
    "a query": plain(path="/?x=1"),
    "a notification": plain(body=NOTIFICATION),
    "a notification of a page": plain(f"Origin: {PAGE}", body=NOTIFICATION),
    "a batch": plain(body=b"[%b,%b]" % (CALL, NOTIFICATION)),
    "notifications": plain(body=b"[%b,%b]" % (NOTIFICATION, NOTIFICATION)),
    "an empty batch": plain(body=b"[]"),
    "too many": plain(body=b"[" + b",".join([CALL] * 11) + b"]"),
    "no JSON": plain(body=b"{"),
    "no body": plain(body=b""),
    "no UTF-8": plain(body=b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'),
    "a member twice": plain(body=b'{"jsonrpc":"2.0","id":1,"method":"who","method":"node"}'),
    "an odd id": plain(body=b'{"jsonrpc":"2.0","id":1.50e3,"method":"who"}'),
    "an id of text": plain(body=b'{"jsonrpc":"2.0","id":"\\u0061","method":"node"}'),
    "a huge id": plain(body=b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"node"}'),
    "null as id": plain(body=b'{"jsonrpc":"2.0","id":null,"method":"node"}'),
    "members in another order": plain(body=b' {"params":[],\n"method":"who","id":7,"jsonrpc":"2.0"} '),
    "an error": plain(body=CALL.replace(b"who", b"refuse")),
    "a large answer": plain(body=b'{"jsonrpc":"2.0","id":1,"method":"large","params":[300000]}'),
    "capitals": plain("ACCEPT: */*", kind='CONTENT-TYPE: Application/JSON; Charset="UTF-8"'),
    "kept": plain("Connection: keep-alive"),
    "many headers": plain(*(f"X-{number}: y" for number in range(100))),
    "a long header": plain("X: " + "y" * 8000),
    # what the fast lane lets go
    "a preflight": head(int(PORT), f"Origin: {PAGE}", "Access-Control-Request-Method: POST", method="OPTIONS"),
    "chunks": CHUNKED,
    "another path": plain(path="/nothing/here"),
    "a path of metrics": plain(path="/metrics"),
    "a bad token": plain(path="/" + "C" * 43),
    "a token of another page": plain("Origin: https://evil.example", path=f"/{BOUND}"),
    "a bad origin": plain("Origin: null"),
    "another host": head(int(PORT), JSON, host="evil.example", size=len(CALL)) + CALL,
    "another type": plain(kind="Content-Type: text/plain"),
    "a type of a page": plain(f"Origin: {PAGE}", kind="Content-Type: text/plain"),
    "compressed": plain("Content-Encoding: gzip"),
    "as it is": plain("Content-Encoding: identity"),
    "another method": head(int(PORT), JSON, f"Origin: {PAGE}", method="PUT", size=len(CALL)) + CALL,
    "to be told to go on": plain("Expect: 100-continue"),
    "to be closed": plain("Connection: close"),
    "an upgrade to something": plain("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "an old version": plain().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a length twice": plain("Content-Length: 5"),
    "a length and chunks": plain("Transfer-Encoding: chunked"),
    "a length of no number": head(int(PORT), JSON, "Content-Length: +39") + CALL,
    "a length with zeros": head(int(PORT), JSON, f"Content-Length: 0{len(CALL)}") + CALL,
    "no length": head(int(PORT), JSON),
    "too long": head(int(PORT), JSON, size=3_000_000),
    "a head too long": plain("X: " + "y" * 20_000),
    "a folded header": plain("X: a\r\n b"),
    "a space before the colon": plain("X : a"),
    "bytes in a header": plain("X: \udcff"),
    "a line ended by LF": plain().replace(b"\r\n", b"\n"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "the target in absolute form": plain(path=f"http://127.0.0.1:{PORT}/{TOKEN}"),
}


WHOLE = 1 << 30


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_lanes_answer_alike(name: str) -> None:
    """Alone, behind a plain request of the same connection, and before one; whole, and in pieces."""
    request = REQUESTS[name]
    async with both() as (fast, slow):
        alone = await answers(slow, request, WHOLE)
        assert alone
        assert await answers(fast, request, WHOLE) == alone
        assert await answers(fast, request, 50) == alone == await answers(slow, request, 50)
        before = await answers(slow, plain(), WHOLE)
        assert await answers(fast, plain() + request, WHOLE) == before + alone
        behind = await answers(slow, request + plain(f"Origin: {PAGE}"), 50)
        assert await answers(fast, request + plain(f"Origin: {PAGE}"), 50) == behind


async def test_plain_requests_never_meet_aiohttp() -> None:
    """Otherwise everything above would compare the slow lane with itself."""
    async with listening(Echo()) as listener:
        assert listener._server is not None
        assert listener._lanes is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for name in list(REQUESTS)[: list(REQUESTS).index("kept") + 1]:
            writer.write(REQUESTS[name].replace(PORT.encode(), str(listener.port).encode()))
            await read_answer(reader)
            assert listener._server.connections == [], name
        writer.write(REQUESTS["a preflight"].replace(PORT.encode(), str(listener.port).encode()))
        assert (await read_answer(reader)).status == 204
        assert len(listener._server.connections) == 1
        assert not listener._lanes._lanes
        writer.close()


async def test_a_connection_counts_once_whoever_has_it(start_listener: StartListener) -> None:
    connections = Connections(total=2)
    listener = await start_listener(connections=connections)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for data in (plain(), CHUNKED, plain()):
        writer.write(data.replace(PORT.encode(), str(listener.port).encode()))
        assert (await read_answer(reader)).status == 200
        assert len(connections) == 1
    writer.close()
    async with asyncio.timeout(PATIENCE):
        while len(connections):  # noqa: ASYNC110  the other side notices in its own time
            await asyncio.sleep(0.01)


async def test_an_upgrade_behind_other_requests(start_listener: StartListener) -> None:
    listener = await start_listener()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Origin: {PAGE}")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    one = plain().replace(PORT.encode(), str(listener.port).encode())
    writer.write(one * 3 + head(listener.port, *upgrade, key, method="GET"))
    for _ in range(3):
        assert (await read_answer(reader)).status == 200
    assert (await read_answer(reader)).status == 101
    writer.write(bytes([0x81, 0x80 | len(CALL)]) + b"\0\0\0\0" + CALL)
    assert PAGE.encode() in await reader.readuntil(b"}")
    writer.close()


async def test_many_at_once_are_answered_in_order(start_listener: StartListener) -> None:
    """More than are answered in a row, with slow ones and other lanes' ones between them."""
    listener = await start_listener()
    count = 3 * IN_A_ROW + 5
    calls = [b'{"jsonrpc":"2.0","id":%d,"method":"node"}' % number for number in range(count)]
    data = b"".join(plain(body=body) for body in calls) + CHUNKED
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data.replace(PORT.encode(), str(listener.port).encode()))
    async with asyncio.timeout(PATIENCE):
        for number in range(count):
            assert (await read_answer(reader)).body == b'{"id":%d,"result": "raw"}' % number
        assert (await read_answer(reader)).json["result"] == "anonymous"
    writer.close()


async def test_a_revoked_token_fails_the_very_next_call(start_listener: StartListener, tokens: TokenBook) -> None:
    listener = await start_listener()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    one = plain(path=f"/{TOKEN}").replace(PORT.encode(), str(listener.port).encode())
    for status in (200, 200):
        writer.write(one)
        assert (await read_answer(reader)).status == status
    known = tokens.known.pop(TOKEN)
    writer.write(one)
    assert (await read_answer(reader)).status == 401
    tokens.known[TOKEN] = known
    writer.write(one)
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_no_head_with_a_token_is_remembered(start_listener: StartListener) -> None:
    listener = await start_listener()
    for request in (REQUESTS["a token"], REQUESTS["a token in the header"], REQUESTS["a call"]):
        await exchange(listener.port, request.replace(PORT.encode(), str(listener.port).encode()))
    assert listener._lanes is not None
    remembered = listener._lanes.heads._remembered
    assert len(remembered) == 1
    assert not any(TOKEN.encode() in known for known in remembered)


async def test_who_pipelines_and_never_reads_is_not_read(
    start_listener: StartListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held for it is bounded, and at last the connection ends."""
    monkeypatch.setattr(http, "SEND_SECONDS", 0.3)
    connections = Connections()
    listener = await start_listener(connections=connections)
    body = b'{"jsonrpc":"2.0","id":1,"method":"large","params":[50000]}'
    one = plain(body=body).replace(PORT.encode(), str(listener.port).encode())
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)
    writer.transport.set_write_buffer_limits(0)
    held = 0
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        async with asyncio.timeout(PATIENCE):
            while True:
                writer.write(one * 200)
                await writer.drain()
                assert listener._lanes is not None
                held = max([held, *(lane._held for lane in listener._lanes._lanes)])
    assert held <= AT_ONCE + 512 * 1024
    assert len(connections) == 0
    assert connections.cut_off == {"http": 1, "ws": 0, "ipc": 0}
    writer.close()


async def test_a_call_ended_from_within_ends_its_connection() -> None:
    """There is no answer to give; a client must not wait for it for ever."""

    async def ended(request: Request, context: Context) -> Answer:
        raise asyncio.CancelledError

    listener = DappListener(Door(ended))
    await listener.start(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(plain().replace(PORT.encode(), str(listener.port).encode()))
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    await listener.close(0.5)


async def test_the_end_leaves_nobody_to_the_slow_lane() -> None:
    """What is in flight is finished; what comes behind it is read by neither lane."""
    echo = Echo()
    async with listening(echo) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        wait = plain(body=CALL.replace(b"who", b"wait"))
        writer.write((wait + CHUNKED + plain()).replace(PORT.encode(), str(listener.port).encode()))
        await echo.waiting.wait()
        ending = asyncio.create_task(listener.close(2 * PATIENCE))
        await turns(3)
        echo.release.set()
        async with asyncio.timeout(PATIENCE):
            assert (await read_answer(reader)).json["result"] == "anonymous"
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            await ending
        assert len(echo.seen) == 1
        writer.close()


def made_up() -> st.SearchStrategy[bytes]:
    """Requests of the table, mutilated."""

    def mutilated(request: bytes, places: list[tuple[int, bytes]]) -> bytes:
        for place, inserted in places:
            at = place % (len(request) + 1)
            request = request[:at] + inserted + request[at + len(inserted) // 2 :]
        return request

    small = [request for name, request in REQUESTS.items() if len(request) < 2000 and "bad token" not in name]
    pieces = st.sampled_from([b"\r\n", b"\n", b" ", b":", b"\x00", b"POST", b"HTTP/1.1", b"0", b"\xff", b"{", b"\t"])
    change = st.lists(st.tuples(st.integers(0, 400), pieces | st.binary(max_size=3)), max_size=2)
    return st.builds(mutilated, st.sampled_from(small), change)


def corpus() -> list[bytes]:
    return [file.read_bytes() for file in sorted(CORPUS.iterdir())]


async def compared(data: bytes) -> None:
    """Feed both lanes byte by byte, so that aiohttp drops no request for garbage read together with its last byte."""
    async with both() as (fast, slow):
        expected = await answers(slow, data, 1)
        assert await answers(fast, data, 1) == expected
        at_once = await answers(fast, data, WHOLE)
        dropped = await answers(slow, data, WHOLE)  # with aiohttp's word for what it read together
    rest = iter(expected)
    assert all(answer in rest or answer in dropped[-1:] for answer in at_once), "nothing else, in its order"


@settings(max_examples=50, deadline=None)
@given(st.lists(made_up(), min_size=1, max_size=3).map(b"".join))
def test_whatever_comes_both_say_the_same(data: bytes) -> None:
    asyncio.run(compared(data))


def test_the_corpus_is_answered_alike() -> None:
    async def run() -> None:
        for data in corpus():
            await compared(data)
            await compared(plain() + data + plain())

    assert len(corpus()) >= 20
    asyncio.run(run())
