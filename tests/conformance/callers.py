"""Raw callers over HTTP, WebSocket and IPC, for a node and for the proxy alike: bytes in, bytes out, nothing read into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

Ask = Callable[[bytes], Awaitable[bytes]]
LIMIT = 64 * 1024 * 1024
SECONDS = 60.0  # against hanging, no more


@asynccontextmanager
async def http(url: str) -> AsyncIterator[Ask]:
    """Post to `url`."""
    async with http_session() as session:

        async def ask(body: bytes) -> bytes:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                return await response.read()

        yield ask


@asynccontextmanager
async def chunked(url: str) -> AsyncIterator[Ask]:
    """Post to `url` in chunks of a length nobody said before: the slow lane's way."""
    async with http_session() as session:

        async def ask(body: bytes) -> bytes:
            half = len(body) // 2

            async def parts() -> AsyncIterator[bytes]:
                yield body[:half]
                yield body[half:]

            async with session.post(url, data=parts(), headers={"Content-Type": "application/json"}) as response:
                return await response.read()

        yield ask


def http_session() -> aiohttp.ClientSession:
    """Open a session with the patience of this module."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))


@asynccontextmanager
async def ws(url: str) -> AsyncIterator[Ask]:
    """Speak over one WebSocket, a request at a time."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=LIMIT) as socket:

        async def ask(body: bytes) -> bytes:
            await socket.send_str(body.decode())
            return (await socket.receive_str(timeout=SECONDS)).encode()

        yield ask


@asynccontextmanager
async def ipc(path: str | Path) -> AsyncIterator[Ask]:
    """Speak over one unix socket, a request at a time; the newline between answers is no part of them."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LIMIT)

    async def ask(body: bytes) -> bytes:
        writer.write(body.replace(b"\n", b" ") + b"\n")
        async with asyncio.timeout(SECONDS):
            return (await reader.readuntil(b"\n")).strip()

    yield ask
    writer.close()
