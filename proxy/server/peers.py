"""The HTTP connections of a listener: aiohttp's protocol, counted, and without a word of its own to anybody.

aiohttp answers what is no HTTP by itself, in plain text, with its version, and logs a traceback that may hold a token's
URL. Here such requests get a JSON-RPC body and leave no trace; a connection over the limit is told so and closed. A client
that has said everything (`shutdown(SHUT_WR)`) still gets the answers to its whole requests, within a time: from here it
looks like one that has gone, so to a question to the owner it counts as gone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from middleware.errors import InternalError, InvalidRequest, LimitExceeded, RpcError
from middleware.waist import Origin
from proxy.server.connections import Connection, Connections
from proxy.server.presence import Attendance
from proxy.server.replies import closing, turned_away

logger = logging.getLogger("l2proxy.door")

STRANGE = web.RequestKey("strange", bool)  # whether a request was written in an HTTP of another kind
HALF_CLOSED_SECONDS = 30.0  # for the answers to a client that sends no more; an upstream call takes no longer


class Peer(web.RequestHandler):
    """One HTTP connection."""

    __slots__ = ("_at_length", "_attendance", "_connections", "_ending", "_in_flight", "counted")

    def __init__(
        self, server: web.Server, connections: Connections, counted: Connection | None = None, **settings: Any
    ) -> None:
        super().__init__(server, **settings)
        self._connections = connections
        self._in_flight: StreamReader | None = None
        self._attendance: Attendance | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._at_length = False  # an answer is on its way part by part: its reader is watched as it takes them
        self.counted = counted  # by the fast lane, where it began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if self.counted is not None:
            return
        try:
            self.counted = self._connections.open()
        except LimitExceeded as error:
            cast(asyncio.Transport, transport).write(closing(503, error, None))
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self.counted is not None:
            self.counted.close()
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own contract; aiohttp always closes
        """Take note that the client sends no more; keep the connection while a whole request waits for its answer."""
        waiting = [body for _, body in self._messages]
        if self._in_flight is not None:
            waiting.append(self._in_flight)
        is_websocket = self._payload_parser is not None
        if is_websocket or not waiting or not all(body.is_eof() for body in waiting):
            return False
        self._ending = asyncio.get_running_loop().call_later(HALF_CLOSED_SECONDS, self._give_up)
        if self._at_length:
            self._ending.cancel()
        if self._attendance is not None:
            self._attendance.leave()
        self._close_after_last()
        return True

    def begins(self, body: StreamReader) -> None:
        """Learn that the next request is being handled."""
        self._in_flight = body
        self._close_after_last()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._in_flight = None

    def attend(self) -> Attendance:
        """Return the presence of the one who asks the request being handled."""
        self._attendance = Attendance()
        if self._ending is not None:
            self._attendance.leave()
        return self._attendance

    def answers_at_length(self) -> None:
        """Learn that an answer is on its way part by part, also to a client that sends no more."""
        self._at_length = True
        if self._ending is not None:
            self._ending.cancel()

    async def drained(self) -> None:
        """Wait until more may be written. Raise `ConnectionError` when the connection has ended."""
        await self._drain_helper()

    def _close_after_last(self) -> None:
        if self._ending is not None and not self._messages:
            self.close()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def belongs_to(self, origin: Origin) -> None:
        """Count this connection for `origin`. Raise -32005 when it has too many."""
        if self.counted is not None:
            self.counted.belongs_to(origin)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what is not HTTP, or to a failure of ours, and close."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        error: RpcError
        if status < 500:
            status, said = _malformed(message or "", exc)
            error = InvalidRequest(said)
        else:
            error_id = secrets.token_hex(8)
            logger.error("internal error %s in a request", error_id, exc_info=exc)
            error = InternalError(error_id)
        response = turned_away(status, error, None)
        response.force_close()
        return response


class PeerServer(web.Server):
    """aiohttp's low-level server, making `Peer`s."""

    def __init__(self, handler: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(handler, request_factory=_begun, handler_cancellation=True)
        self._peer_settings = settings
        self._counted = connections

    def __call__(self) -> Peer:
        """Return the protocol of a new connection."""
        return self.taking_over(None)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Finish what is in flight for at most `timeout` seconds in all; aiohttp alone would wait that long twice."""
        over = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self._abort_all)
        await super().shutdown(timeout)
        if over is not None:
            over.cancel()

    def _abort_all(self) -> None:
        for peer in self.connections:
            if peer.transport is not None:
                peer.transport.abort()

    def taking_over(self, counted: Connection | None) -> Peer:
        """Return the protocol of a connection the fast lane has counted already."""
        return Peer(self, self._counted, counted, loop=asyncio.get_running_loop(), **self._peer_settings)


def _begun(
    message: RawRequestMessage,
    body: StreamReader,
    peer: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    cast(Peer, peer).begins(body)
    strange = message.version.major != 1
    if strange:  # it is answered in the version that is spoken here (RFC 9110, 15.6.6)
        message = message._replace(version=HttpVersion11)
    request = web.BaseRequest(message, body, peer, writer, task, asyncio.get_running_loop())
    request[STRANGE] = strange
    return request


def _malformed(message: str, cause: BaseException | None) -> tuple[int, str]:
    """Return status and sentence for what the parser refuses: some headers twice, before any handler could (security.md 2)."""
    if "'Host' header" in message:
        return 403, "one Host header is needed, with a name of this listener ([listen] hosts in the config)"
    if "'Content-Type' header" in message:
        return 415, "Content-Type must be application/json, once"
    if isinstance(cause, LineTooLong) or message.startswith("Too many headers"):
        return 431, "the head of the request is too large"
    return 400, "this is not an HTTP request"
