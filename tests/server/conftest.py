"""What the tests of the doors share: both event loops, a listener over an echo, and raw HTTP over a bare socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvloop

from middleware.errors import Refused
from middleware.waist import Answer, Context, NodeReply, Request, result
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.http import DappListener


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Run every test on both loops: the daemon runs on uvloop; what holds there holds on asyncio's own."""
    del config, item
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Known:
    """A token in force."""

    name: str
    origin: str | None = None


@dataclass
class TokenBook:
    """The tokens in force, by text."""

    known: dict[str, Known] = field(default_factory=dict)

    def verify(self, token: str) -> Known | None:
        return self.known.get(token)


@dataclass
class Echo:
    """Answers with who asked what; `wait` waits for `release`, and says when its asker has gone."""

    seen: list[tuple[Request, Context]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Request, context: Context) -> Answer:
        self.seen.append((request, context))
        match request.method:
            case "wait":
                self.waiting.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case "refuse":
                raise Refused("no")
            case "large":
                return result("x" * int(request.params[1:-1]))
            case "node":
                return NodeReply(b'{"id":' + (request.id or b"0") + b',"result": "raw"}')
            case "push":
                assert context.connection is not None
                context.connection.push("eth_subscription", {"subscription": "0x1", "result": 7})
        return result(str(context.origin))


LANES = ["fast", "slow"]
first_lane = {"name": "fast"}
"""Which lane sees the connections of `listening` and `start_listener` first; the fixture `lane` sets it."""

TOKEN = "A" * 43
BOUND = "B" * 43
PAGE = "https://app.example"

StartListener = Callable[..., Awaitable[DappListener]]


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on both lanes: with the fast one before aiohttp, and with aiohttp alone."""
    first_lane["name"] = request.param
    yield request.param
    first_lane["name"] = "fast"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def tokens() -> TokenBook:
    return TokenBook({TOKEN: Known("free"), BOUND: Known("bound", PAGE)})


@pytest.fixture
async def start_listener(echo: Echo, tokens: TokenBook) -> AsyncIterator[StartListener]:
    """Start listeners on free ports; they end with the test."""
    started: list[DappListener] = []

    async def start(connections: Connections | None = None, **settings: Any) -> DappListener:
        settings.setdefault("tokens", tokens)
        settings.setdefault("fast", first_lane["name"] == "fast")
        listener = DappListener(Door(echo, batch=10), connections=connections, **settings)
        await listener.start(0)
        started.append(listener)
        return listener

    yield start
    for listener in started:
        await listener.close(0.5)


@pytest.fixture
async def listener(start_listener: StartListener) -> DappListener:
    return await start_listener()


@asynccontextmanager
async def listening(echo: Echo, **settings: Any) -> AsyncIterator[DappListener]:
    """Open a listener over `echo` with both tokens in force, for tests that have no fixture of this folder."""
    settings.setdefault("tokens", TokenBook({TOKEN: Known("free"), BOUND: Known("bound", PAGE)}))
    settings.setdefault("fast", first_lane["name"] == "fast")
    listener = DappListener(Door(echo, batch=10), **settings)
    await listener.start(0)
    try:
        yield listener
    finally:
        await listener.close(0.5)


@dataclass(frozen=True)
class HttpAnswer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a body that answers nobody's id."""
        body = self.json
        assert body["jsonrpc"] == "2.0"
        assert body["id"] is None
        return cast(dict[str, Any], body["error"])


async def read_answer(reader: asyncio.StreamReader) -> HttpAnswer:
    """Read one HTTP answer with a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines), f"a header stands twice: {lines}"
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpAnswer(int(first.split()[1]), headers, body)


CALL = b'{"jsonrpc":"2.0","id":1,"method":"who"}'


def head(
    port: int, *lines: str, method: str = "POST", path: str = "/", host: str | None = None, size: int | None = None
) -> bytes:
    """Return a request head; `lines` replace nothing, `host=""` leaves the Host out."""
    host_line = [] if host == "" else [f"Host: {host or f'127.0.0.1:{port}'}"]
    size_line = [] if size is None else [f"Content-Length: {size}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *host_line, *lines, *size_line, "", ""]).encode(
        "utf-8", "surrogateescape"
    )


JSON = "Content-Type: application/json"

PATIENCE = 45.0
"""Seconds for what must happen, however slow and busy the machine is: a guard, which no test is about. Less than the minute after
which a reader that takes nothing is cut off, so that nobody who waited for that passes for one who did not wait."""
SOON = 20.0
"""The same, less than the half minute after which a body that does not come, or who sends no more, is given up."""


async def exchange(port: int, data: bytes, *, address: str = "127.0.0.1") -> HttpAnswer:
    """Send raw bytes, return the first answer."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            return await read_answer(reader)
    finally:
        writer.close()


async def post(port: int, *lines: str, body: bytes = CALL, path: str = "/", host: str | None = None) -> HttpAnswer:
    """Post a JSON body with extra header lines."""
    return await exchange(port, head(port, JSON, *lines, path=path, host=host, size=len(body)) + body)
