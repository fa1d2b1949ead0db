"""A node over HTTP POST: a pool of kept-alive connections, one request at a time on each, the caller's raw id kept.

Stands between `Node` and aiohttp's client. Fixed URL: no redirects, no cookies, no proxies of the environment, no header of any caller
(security.md 8). The body is read up to the limit and returned as it came; it is checked to be one JSON object, so that the page of a
captive portal never becomes an answer. Before a new connection is made the node is verified, because another chain may have come up at
the same place since the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from middleware.waist import Request
from proxy.upstream import envelope
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.node_socket import Ask, too_large
from proxy.upstream.ws import new_session, refusal

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
_CONNECTIONS = 128


@dataclass
class _Course:
    """How one request travels, as aiohttp's trace hooks tell."""

    reused: bool = False


class Http:
    """One node over HTTP. `limit` is the largest answer in bytes; `verify` is asked before each new connection."""

    def __init__(
        self, url: str, limit: int, verify: Callable[[Ask], Awaitable[None]], connect_seconds: float = 10
    ) -> None:
        self._url = URL(url, encoded=True)
        self._limit = limit
        self._verify = verify
        self._connect_seconds = connect_seconds
        self._timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._checking: aiohttp.ClientSession | None = None
        self._verifying = asyncio.Lock()
        self._verified_at = float("-inf")

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes:
        """Return the node's answer to `request`, as it came. Raise `Unreachable`, `WrongChain` or `Broken`.

        `alone` changes nothing here: every request has its connection to itself.
        """
        raw_id = b"1" if request.id is None else request.id
        return await self._post(self._pool(), envelope.write(request, raw_id))

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._session, self._checking):
            if session is not None:
                await session.close()
        self._session = self._checking = None

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            traces = aiohttp.TraceConfig()
            traces.on_connection_create_start.append(self._before_connection)
            traces.on_connection_reuseconn.append(_note_reuse)
            self._session = new_session(aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=30), (traces,))
        return self._session

    async def _before_connection(self, _: aiohttp.ClientSession, __: SimpleNamespace, ___: object) -> None:
        """Verify the node once for all connections that are wanted at this moment."""
        wanted_at = time.monotonic()
        async with self._verifying:
            if self._verified_at < wanted_at:
                started_at = time.monotonic()
                await self._verify(self.ask)
                self._verified_at = started_at

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked over a new connection."""
        if self._checking is None:
            self._checking = new_session(aiohttp.TCPConnector(force_close=True))
        frame = envelope.write(Request(method, msgspec.json.encode(params)), b"1")
        return await self._post(self._checking, frame)

    async def _post(self, session: aiohttp.ClientSession, frame: bytes) -> bytes:
        course = _Course()
        try:
            async with session.post(
                self._url,
                data=frame,
                headers=_HEADERS,
                allow_redirects=False,
                timeout=self._timeout,
                trace_request_ctx=course,
            ) as response:
                return self._checked(response.status, await self._read(response))
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(refusal(error)) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
            raise Broken("the L1 node closed the connection without an answer", repeatable=course.reused) from error
        except aiohttp.ClientError as error:
            raise Broken(f"the L1 node's answer broke off ({type(error).__name__})", repeatable=False) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._limit:
            response.close()
            raise too_large()
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._limit:
                response.close()
                raise too_large()
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @staticmethod
    def _checked(status: int, body: bytes) -> bytes:
        try:
            envelope.read(body, strictly=status != 200)
        except msgspec.DecodeError as error:
            what = "something that is not JSON-RPC" if status == 200 else f"HTTP {status}"
            raise Broken(f"the L1 node answered with {what}", repeatable=False) from error
        return body


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True
