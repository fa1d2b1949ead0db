"""The HTTP connections of a listener: aiohttp's protocol, counted, and without a word of its own to anybody.

aiohttp answers what is no HTTP by itself, in plain text, with its version, and logs a traceback that may hold a token's
URL. Here such requests get a JSON-RPC body and leave no trace; a connection over the limit is told so and closed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any, cast

from aiohttp import web

from middleware.errors import InternalError, InvalidRequest, LimitExceeded, RpcError
from middleware.waist import Origin
from proxy.server import envelope
from proxy.server.connections import Connection, Connections
from proxy.server.replies import turned_away

logger = logging.getLogger("l2proxy.door")


class Peer(web.RequestHandler):
    """One HTTP connection."""

    __slots__ = ("_connections", "counted")

    def __init__(self, server: web.Server, connections: Connections, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._connections = connections
        self.counted: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        try:
            self.counted = self._connections.open()
        except LimitExceeded as error:
            cast(asyncio.Transport, transport).write(_refusal(error))
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self.counted is not None:
            self.counted.close()
        super().connection_lost(exc)

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
            status, said = _malformed(message or "")
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
        super().__init__(handler, handler_cancellation=True)
        self._peer_settings = settings
        self._counted = connections

    def __call__(self) -> Peer:
        """Return the protocol of a new connection."""
        return Peer(self, self._counted, loop=asyncio.get_running_loop(), **self._peer_settings)


def _malformed(message: str) -> tuple[int, str]:
    """Return status and sentence for what the parser refuses: some headers twice, before any handler could (security.md 2)."""
    if "'Host' header" in message:
        return 403, "one Host header is needed, with a name of this listener ([listen] hosts in the config)"
    if "'Content-Type' header" in message:
        return 415, "Content-Type must be application/json, once"
    return 400, "this is not an HTTP request"


def _refusal(error: RpcError) -> bytes:
    body = envelope.failure(envelope.NULL, error)
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
