"""The dapp listener: HTTP POST and WebSocket on one loopback port, both families; and its slow lane, on aiohttp.

Bytes of the network become a checked identity and a body here; `Door` does the rest. The fast lane (`fast_lane`) sees every
connection first and leaves here what is not plain. Order of the checks, each before the next is looked at: Host, Origin, path
and token, method, content type, size. Nothing is served before Host and Origin hold, whatever the route or method
(security.md 1-4, 6; rpc.md, "Listeners").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

from aiohttp import hdrs, web

from middleware.errors import InvalidRequest, LimitExceeded
from middleware.waist import Context
from proxy.server import bodies, operations, websocket
from proxy.server.attempts import Attempts
from proxy.server.bodies import Body
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.fast_lane import FastLane
from proxy.server.identity import (
    Identity,
    NoTokens,
    Tokens,
    Turned,
    check_content,
    check_host,
    claim,
    host_names,
    identify,
)
from proxy.server.lanes import Lanes, Patience
from proxy.server.listening import bind_loopback
from proxy.server.peers import HALF_CLOSED_SECONDS, STRANGE, Peer, PeerServer
from proxy.server.plain_heads import PlainHeads
from proxy.server.replies import preflight, reply, streamed, turned_away
from proxy.server.taking import SlowReader, taken

BODY_SECONDS = 30.0  # for a body that has begun
IDLE_SECONDS = 75.0  # for a connection without a whole request head
SEND_SECONDS = 60.0  # for an answer to be taken
AT_ONCE = 64 * 1024  # bytes the transport takes without waiting


class DappListener:
    """The listener for web pages and libraries.

    `hosts`: `[listen] hosts`; `most_bytes`: `[limits] body`; `may_ask(origin)`: whether an unconnected page may raise a
    question, for private-network preflights. `operations` answers /healthz, /readyz and /metrics (None: not served).
    `fast` False: the slow lane sees every connection first.
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
        fast: bool = True,
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
        self._fast = fast
        self._server: PeerServer | None = None
        self._lanes: Lanes | None = None
        self._protocol: Callable[[], asyncio.Protocol]
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
        self._protocol = self._fast_lane(self._server) if self._fast else self._server
        self._listening = [await loop.create_server(self._protocol, sock=bound) for bound in sockets]

    def _fast_lane(self, slow: PeerServer) -> Callable[[], asyncio.Protocol]:
        heads = PlainHeads(self._names, self._most_bytes)
        patience = Patience(IDLE_SECONDS, BODY_SECONDS, SEND_SECONDS, HALF_CLOSED_SECONDS)
        lanes = Lanes(self._door, self._tokens, self._connections, heads, slow.taking_over, patience)
        self._lanes = lanes
        return lambda: cast(asyncio.Protocol, FastLane(lanes))

    async def close(self, grace: float = 10.0) -> None:
        """Take nothing new, finish what is in flight for at most `grace` seconds, end every connection."""
        for listening in self._listening:
            listening.close()
        self._closing.set()
        if self._server is not None:
            self._server.pre_shutdown()
            if self._lanes is not None:
                await asyncio.gather(self._lanes.close(grace), self._server.shutdown(grace))
            else:
                await self._server.shutdown(grace)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        page: str | None = None
        try:
            headers = request.headers
            check_host(headers.getall(hdrs.HOST, ()), self._names)
            if self._operations is not None and operations.is_operation(request):
                return await operations.answer(request, self._operations)
            asked = claim(
                headers.getall(hdrs.HOST, ()),
                headers.getall(hdrs.ORIGIN, ()),
                request.raw_path,
                headers.getall(hdrs.AUTHORIZATION, ()),
                self._names,
            )
            page = asked.page
            identity = identify(page, asked.token, self._tokens)
            _peer(request).belongs_to(identity.origin)
            return await self._route(request, identity)
        except Turned as turned:
            if turned.guess and not await self._attempts.wait():
                raise ConnectionError("too many bad tokens wait for their answer") from turned
            readable = None if turned.status in (401, 403) else page or turned.page
            return turned_away(turned.status, turned.error, readable)
        except LimitExceeded as error:  # of connections; a call's own errors never come this far
            return turned_away(503, error, page)

    async def _route(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        if request[STRANGE]:
            raise Turned(505, InvalidRequest("this proxy speaks HTTP/1.1"))
        if request.method == hdrs.METH_OPTIONS and identity.page is not None:
            return self._preflight(request, identity.page)
        if request.method == hdrs.METH_GET and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._upgrade(request, identity)
        if request.method != hdrs.METH_POST:
            raise Turned(405, InvalidRequest("send JSON-RPC by POST, or open a WebSocket"))
        return await self._post(request, identity)

    async def _post(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        headers = request.headers
        check_content(headers.getall(hdrs.CONTENT_TYPE, ()), headers.getall(hdrs.CONTENT_ENCODING, ()))
        body = await self._body(request)
        attendance = _peer(request).attend()
        try:
            answer = await self._door.answer(body, Context(identity.origin, "http", None, attendance))
        finally:
            attendance.leave()
        try:
            return await _sent(request, answer, identity.page)
        except SlowReader:
            self._connections.count_cut_off("http")
            raise

    async def _upgrade(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        if request.headers.getall(hdrs.SEC_WEBSOCKET_VERSION, ()) != ["13"]:  # RFC 6455, 4.4
            raise Turned(426, InvalidRequest("this proxy speaks version 13 of the WebSocket protocol"))
        try:
            return await websocket.serve(
                *(request, identity, self._door, self._most_bytes, self._closing),
                on_slow=lambda: self._connections.count_cut_off("ws"),
            )
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
            _peer(request).close()  # behind the answer: half a body is no beginning of the next request
            raise Turned(408, InvalidRequest(f"the body did not arrive within {BODY_SECONDS:g} s")) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


async def _sent(request: web.BaseRequest, body: Body | None, page: str | None) -> web.StreamResponse:
    """Send a large answer part by part: a client that asks and never reads would hold it for ever. Return any answer."""
    if body is None or (isinstance(body, bytes) and len(body) <= AT_ONCE):
        return reply(204 if body is None else 200, body, page)
    response = streamed(body, page)
    _peer(request).answers_at_length()
    try:
        await response.prepare(request)
        for part in bodies.parts_of(body):
            await taken(response.write(part), request.transport, SEND_SECONDS)
        await taken(response.write_eof(), request.transport, SEND_SECONDS)
    except SlowReader:
        if request.transport is not None:
            request.transport.abort()
        raise
    finally:
        bodies.close(body)
    return response


def _peer(request: web.BaseRequest) -> Peer:
    return cast(Peer, request.protocol)
