"""A thousand WebSocket clients on newHeads: how many subscriptions reach the node, how long until the last client has a block.

The clients are raw protocols of this process: they note when the frame arrived and read no more of it than its number.
Between the daemon and the node stands a tap that counts the subscriptions asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import aiohttp

from benchmarks import field

NUMBER = re.compile(rb'"number":"(0x[0-9a-f]+)"')
MINE = b'{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":[]}'
SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'


@dataclass(frozen=True)
class Heads:
    """What the clients saw. Delays in milliseconds from the moment the block is asked of the node."""

    clients: int
    blocks: int
    subscriptions: int
    last_client: float  # median over the blocks
    worst: float
    beside: float  # one client straight at the node, in the same run


class Tap:
    """A unix socket before the node's; counts what asks for newHeads on the way to the node."""

    def __init__(self, node: str) -> None:
        self.subscriptions = 0
        self._node = node

    @asynccontextmanager
    async def open(self, path: Path) -> AsyncIterator[None]:
        """Listen on `path`."""
        server = await asyncio.start_unix_server(self._pass_on, path)
        try:
            yield
        finally:
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_node, to_node = await asyncio.open_unix_connection(self._node)
        await asyncio.gather(self._copy(reader, to_node, counted=True), self._copy(from_node, writer, counted=False))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if counted:
                    *lines, rest = (rest + data).split(b"\n")
                    self.subscriptions += sum(b'"eth_subscribe"' in line and b"newHeads" in line for line in lines)
                writer.write(data)
                await writer.drain()
        writer.close()


class Crowd:
    """Who has heard of which block, and when."""

    def __init__(self) -> None:
        self.subscribed = 0
        self.lost = 0
        self.heard: dict[int, list[float]] = {}
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    def hears(self, number: int) -> None:
        self.heard.setdefault(number, []).append(asyncio.get_running_loop().time())
        self.changed()

    async def until(self, enough: int, number: int | None = None, seconds: float = 60) -> None:
        """Wait until `enough` clients are subscribed, or have heard of block `number`."""
        async with asyncio.timeout(seconds):
            while (self.subscribed if number is None else len(self.heard.get(number, ()))) < enough:
                if self.lost:
                    raise ConnectionError(f"{self.lost} WebSocket connections were closed")
                self._changed.clear()
                await self._changed.wait()


class Listener(asyncio.Protocol):
    """One WebSocket client."""

    def __init__(self, host: str, crowd: Crowd) -> None:
        self._host = host
        self._crowd = crowd
        self._open = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET / HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._transport.close()
                return
            self._open = True
            self._send(1, SUBSCRIBE)
            data = data[end:]
        self._rest = self._frames(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost += 1
        self._crowd.changed()

    def close(self) -> None:
        self._transport.close()

    def _frames(self, data: bytes) -> bytes:
        """Take every whole frame from `data` and return what is left."""
        while len(data) >= 2:
            length, start = data[1] & 127, 2
            if length >= 126:
                start = 4 if length == 126 else 10
                length = int.from_bytes(data[2:start])
            if len(data) < start + length:
                break
            self._frame(data[0] & 15, data[start : start + length])
            data = data[start + length :]
        return data

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._send(10, payload)
        elif b'"eth_subscription"' in payload and (number := NUMBER.search(payload)):
            self._crowd.hears(int(number[1], 16))
        elif b'"result"' in payload:
            self._crowd.subscribed += 1
            self._crowd.changed()

    def _send(self, opcode: int, payload: bytes) -> None:
        # Masked with a key of zeros: allowed, and the payload stays as it is. Only short frames are sent here.
        self._transport.write(bytes([128 | opcode, 128 | len(payload)]) + bytes(4) + payload)


@asynccontextmanager
async def _listeners(url: str, count: int) -> AsyncIterator[Crowd]:
    parts = urlsplit(url)
    crowd, open_ = Crowd(), []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        _, listener = await loop.create_connection(
            lambda: Listener(parts.netloc, crowd), parts.hostname or "127.0.0.1", parts.port or 80
        )
        open_.append(listener)
    try:
        await crowd.until(count)
        yield crowd
    finally:
        for listener in open_:
            listener.close()


async def measure(folder: Path, clients: int, blocks: int) -> Heads:
    """Run node, tap, daemon and `clients`; make `blocks` blocks one after the other."""
    home = folder / "heads"
    home.mkdir()
    async with field.anvil(home) as node:
        tap = Tap(node.ipc)
        async with (
            tap.open(home / "tap.ipc"),
            field.daemon("l2proxy heads", str(home / "tap.ipc"), home) as daemon,
            _listeners(node.ws, 1) as beside,
            _listeners(daemon.ready["ws"], clients) as crowd,
            aiohttp.ClientSession() as session,
        ):
            last, one = [], []
            for number in range(1, blocks + 1):
                start = asyncio.get_running_loop().time()
                async with session.post(node.http, data=MINE, headers={"Content-Type": "application/json"}) as answer:
                    await answer.read()
                await crowd.until(clients, number)
                await beside.until(1, number)
                last.append((max(crowd.heard[number]) - start) * 1000)
                one.append((beside.heard[number][0] - start) * 1000)
            return Heads(clients, blocks, tap.subscriptions, statistics.median(last), max(last), statistics.median(one))
