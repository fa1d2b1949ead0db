"""The dapp listener: HTTP POST and WebSocket on one loopback port, both families.

Bytes of the network become a checked identity and a body here; `Door` does the rest. Order of the checks, each before the
next is looked at: Host, Origin, path and token, method, content type, size. Nothing is served before Host and Origin hold,
whatever the route or method (security.md 1-4, 6; rpc.md, "Listeners").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

from aiohttp import hdrs, web

from middleware.errors import InvalidRequest, LimitExceeded
from middleware.waist import Context
from proxy.server import operations, websocket
from proxy.server.attempts import Attempts
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.identity import (
    Identity,
    NoTokens,
    Tokens,
    Turned,
    check_host,
    host_names,
    identify,
    page_of,
    token_in,
)
from proxy.server.listening import bind_loopback
from proxy.server.peers import Peer, PeerServer
from proxy.server.replies import preflight, reply, turned_away

BODY_SECONDS = 30.0  # for a body that has begun
IDLE_SECONDS = 75.0  # for a connection without a whole request head
SEND_SECONDS = 60.0  # for an answer to be taken
AT_ONCE = 64 * 1024  # bytes the transport takes without waiting


class DappListener:
    """The listener for web pages and libraries.

    `hosts`: `[listen] hosts`; `most_bytes`: `[limits] body`; `may_ask(origin)`: whether an unconnected page may raise a
    question, for private-network preflights. `operations` answers /healthz, /readyz and /metrics (None: not served).
    """

    def __init__(
        self,
        door: Door,
        *,
        tokens: Tokens | None = None,
        connections: Connections | None = None,
        hosts: Iterable[str] = (),
        most_bytes: int = 2 * 1024 * 1024,
        may_ask: Callable[[str], bool] = lambda _: True,
        operations: operations.Operations | None = None,
    ) -> None:
        self._door = door
        self._tokens: Tokens = NoTokens() if tokens is None else tokens
        self._connections = Connections() if connections is None else connections
        self._added_hosts = tuple(hosts)
        self._most_bytes = most_bytes
        self._may_ask = may_ask
        self._operations = operations
        self._attempts = Attempts()
        self._closing = asyncio.Event()
        self._names: frozenset[str] = frozenset()
        self._server: PeerServer | None = None
        self._listening: list[asyncio.Server] = []
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on `port` of 127.0.0.1 and ::1 (0: any free one; `port` tells which). Raise `OSError` when taken."""
        self.port, sockets = bind_loopback(port)
        self._names = host_names(self.port, self._added_hosts)
        self._server = PeerServer(
            self._handle,
            self._connections,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            auto_decompress=False,
            lingering_time=2.0,
        )
        loop = asyncio.get_running_loop()
        self._listening = [await loop.create_server(self._server, sock=bound) for bound in sockets]

    async def close(self, grace: float = 10.0) -> None:
        """Take nothing new, finish what is in flight for at most `grace` seconds, end every connection."""
        for listening in self._listening:
            listening.close()
        self._closing.set()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(grace)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        page: str | None = None
        try:
            headers = request.headers
            check_host(headers.getall(hdrs.HOST, ()), self._names)
            if self._operations is not None and operations.is_operation(request):
                return await operations.answer(request, self._operations)
            page = page_of(headers.getall(hdrs.ORIGIN, ()))
            token = token_in(request.raw_path, headers.getall(hdrs.AUTHORIZATION, ()))
            identity = identify(page, token, self._tokens)
            _peer(request).belongs_to(identity.origin)
            return await self._route(request, identity)
        except Turned as turned:
            if turned.guess and not await self._attempts.wait():
                raise ConnectionError("too many bad tokens wait for their answer") from turned
            readable = None if turned.status in (401, 403) else page
            return turned_away(turned.status, turned.error, readable)
        except LimitExceeded as error:  # of connections; a call's own errors never come this far
            return turned_away(503, error, page)

    async def _route(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS and identity.page is not None:
            return self._preflight(request, identity.page)
        if request.method == hdrs.METH_GET and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._upgrade(request, identity)
        if request.method != hdrs.METH_POST:
            raise Turned(405, InvalidRequest("send JSON-RPC by POST, or open a WebSocket"))
        return await self._post(request, identity)

    async def _post(self, request: web.BaseRequest, identity: Identity) -> web.Response:
        _check_content(request)
        body = await self._body(request)
        attendance = _peer(request).attend()
        try:
            answer = await self._door.answer(body, Context(identity.origin, "http", None, attendance))
        finally:
            attendance.leave()
        return await _sent(request, reply(204 if answer is None else 200, answer, identity.page))

    async def _upgrade(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        try:
            return await websocket.serve(request, identity, self._door, self._most_bytes, self._closing)
        except web.HTTPBadRequest as error:
            raise Turned(400, InvalidRequest("this is not a WebSocket handshake of version 13")) from error

    def _preflight(self, request: web.BaseRequest, page: str) -> web.Response:
        headers = request.headers
        if hdrs.ACCESS_CONTROL_REQUEST_METHOD not in headers:
            raise Turned(405, InvalidRequest("send JSON-RPC by POST, or open a WebSocket"))
        welcome = self._may_ask(page)
        return preflight(
            page,
            private_network=welcome and headers.get("Access-Control-Request-Private-Network") == "true",
            local_network=welcome and headers.get("Access-Control-Request-Local-Network") == "true",
        )

    async def _body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > self._most_bytes:
            raise Turned(413, websocket.too_large(request.content_length, self._most_bytes))
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while part := await request.content.readany():
                    size += len(part)
                    if size > self._most_bytes:
                        raise Turned(413, websocket.too_large(None, self._most_bytes))
                    parts.append(part)
        except TimeoutError as error:
            raise Turned(408, InvalidRequest(f"the body did not arrive within {BODY_SECONDS:g} s")) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


async def _sent(request: web.BaseRequest, response: web.Response) -> web.Response:
    """Send a large answer within a time: a client that asks and never reads would hold it for ever."""
    if not isinstance(response.body, bytes) or len(response.body) <= AT_ONCE:
        return response
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the answer was not taken") from error
    return response


def _check_content(request: web.BaseRequest) -> None:
    """Raise 415 unless the body is said to be plain JSON: a form needs no preflight (security.md 4)."""
    types = request.headers.getall(hdrs.CONTENT_TYPE, ())
    kind, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Turned(415, InvalidRequest("Content-Type must be application/json"))
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Turned(415, InvalidRequest("a compressed body is not read"))


def _peer(request: web.BaseRequest) -> Peer:
    return cast(Peer, request.protocol)
