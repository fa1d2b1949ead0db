"""A node that does as it is told: over HTTP, WebSocket and a unix socket, in the ways real nodes fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

GENESIS = "0x" + "ab" * 32
OTHER_GENESIS = "0x" + "cd" * 32

Reply = bytes | None
Push = Callable[[bytes], Awaitable[None]]
asking: ContextVar[Push] = ContextVar("asking")
"""How to push on the connection whose request is being answered."""
Answer = Callable[[dict[str, Any]], Awaitable[Reply]]


class Die(Exception):
    """Raised by an answer: the node drops the connection."""


class Hang(Exception):
    """Raised by an answer: the node never answers."""


@dataclass
class FakeNode:
    """Answers its identity itself and everything else by `answer` (decoded request in, raw body out)."""

    answer: Answer | None = None
    chain_id: int = 31337
    genesis: str = GENESIS
    version: str = "anvil/v9"
    ending: bytes = b"\n"
    asked: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    pushes: list[Callable[[bytes], Awaitable[None]]] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    carriers: list[Any] = field(default_factory=list)  # the TCP sockets of its WebSockets

    def methods(self) -> list[str]:
        """Return what was asked beside the identity."""
        own = ("eth_chainId", "web3_clientVersion", "eth_getBlockByNumber", "eth_subscribe")
        asked = [json.loads(raw)["method"] for raw in self.asked]
        return [method for method in asked if method not in own]

    async def respond(self, raw: bytes) -> Reply:
        self.asked.append(raw)
        request = json.loads(raw)
        match request["method"]:
            case "eth_chainId" if request.get("params") == []:
                return result(request, hex(self.chain_id))
            case "web3_clientVersion":
                return result(request, self.version)
            case "eth_getBlockByNumber":
                return result(request, block(0, self.genesis, "0x" + "00" * 32))
        if self.answer is None:
            return result(request, "0x1")
        return await self.answer(request)

    def drop_all(self) -> None:
        """Drop every connection of the unix socket."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    @contextlib.asynccontextmanager
    async def ipc(self, path: Path) -> AsyncIterator[str]:
        """Listen on the unix socket `path`."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self.writers.append(writer)

            async def push(frame: bytes) -> None:
                writer.write(frame + self.ending)

            self.pushes.append(push)
            asking.set(push)
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while line := await reader.readline():
                    task = asyncio.create_task(one(line, writer))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

        async def one(line: bytes, writer: asyncio.StreamWriter) -> None:
            try:
                body = await self.respond(line.strip())
            except Die:
                writer.transport.abort()
            except Hang:
                return
            else:
                if body is not None:
                    writer.write(body + self.ending)

        server = await asyncio.start_unix_server(serve, path, limit=2**24)
        try:
            yield str(path)
        finally:
            server.close()
            self.drop_all()
            path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def ws(self) -> AsyncIterator[str]:
        """Listen for WebSockets on a free port."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            self.connections += 1
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            self.carriers.append(request.get_extra_info("socket"))

            async def push(frame: bytes) -> None:
                await socket.send_str(frame.decode())

            self.pushes.append(push)
            asking.set(push)

            async def one(raw: bytes) -> None:
                try:
                    body = await self.respond(raw)
                except Die:
                    await socket.close()
                except Hang:
                    return
                else:
                    if body is not None and not socket.closed:
                        await socket.send_str(body.decode())

            async with asyncio.TaskGroup() as tasks:
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        tasks.create_task(one(message.data.encode()))
            return socket

        async with listening(serve) as port:
            yield f"ws://127.0.0.1:{port}"

    @contextlib.asynccontextmanager
    async def http(self, port: int = 0, reply: Callable[[bytes], bytes] | None = None) -> AsyncIterator[str]:
        """Listen for HTTP; `reply` makes the raw HTTP response of a body."""
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.append(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, Die):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                    self.headers.append(headers)
                    try:
                        body = await self.respond(await reader.readexactly(int(headers["content-length"])))
                    except Hang:
                        await reader.read()
                        break
                    writer.write((reply or ok)(body or b""))
            if not writer.is_closing():
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()


@contextlib.asynccontextmanager
async def listening(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """Serve `handler` on a free port."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def ok(body: bytes) -> bytes:
    """Return a plain HTTP response."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def raw_id(request: dict[str, Any]) -> bytes:
    """Return the id of a decoded request as JSON."""
    return json.dumps(request["id"]).encode()


def result(request: dict[str, Any], value: Any) -> bytes:
    """Return the answer a node gives, id second."""
    return b'{"jsonrpc":"2.0","id":' + raw_id(request) + b',"result":' + json.dumps(value).encode() + b"}"


def block(number: int, hash: str, parent: str) -> dict[str, Any]:  # noqa: A002
    """Return a block with the members the proxy reads."""
    return {"number": hex(number), "hash": hash, "parentHash": parent, "timestamp": hex(1_700_000_000 + number)}
