"""HTTP answers of the dapp door: status, JSON body, CORS. Every body is JSON-RPC; turned-away requests have id null.

Both lanes take their headers from `headers_of`: the slow one as aiohttp's responses, the fast one as the bytes of a head.
CORS echoes the one page that asks, with `Vary: Origin`; never `*`, never credentials (security.md 3; rpc.md, "Listeners").
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import web

from middleware.errors import RpcError
from proxy.server import envelope
from proxy.server.bodies import Body, length_of

METHODS: Final = "POST, OPTIONS"
MOST_HEADS: Final = 128  # kept, of different lengths


def headers_of(page: str | None, *, content: bool) -> dict[str, str]:
    """Return the headers of an answer; `page`: the web origin that may read it; `content`: it has a body."""
    headers = {"Server": "l2proxy", "X-Content-Type-Options": "nosniff"}
    if content:
        headers["Content-Type"] = "application/json"
    if page is not None:
        headers["Access-Control-Allow-Origin"] = page
    headers["Vary"] = "Origin"
    return headers


def reply(status: int, body: bytes | None, page: str | None) -> web.Response:
    """Return an answer; `body` None: no content."""
    return web.Response(status=status, body=body, headers=headers_of(page, content=body is not None))


def streamed(body: Body, page: str | None) -> web.StreamResponse:
    """Return the beginning of a large answer, whose parts are sent one by one."""
    response = web.StreamResponse(headers=headers_of(page, content=True))
    response.content_length = length_of(body)
    return response


def turned_away(status: int, error: RpcError, page: str | None) -> web.Response:
    """Return the answer to a request that never reached the chain."""
    response = reply(status, envelope.failure(envelope.NULL, error), page)
    if status == 405:
        response.headers["Allow"] = METHODS
    if status == 505:
        response.force_close()
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 426:
        response.headers["Upgrade"] = "websocket"
        response.headers["Connection"] = "Upgrade"
        response.headers["Sec-WebSocket-Version"] = "13"
    return response


def preflight(page: str, *, private_network: bool, local_network: bool) -> web.Response:
    """Return the answer to a CORS preflight of `page`, also to a private-network or local-network one."""
    response = reply(204, None, page)
    headers = response.headers
    headers["Vary"] = "Origin, Access-Control-Request-Private-Network, Access-Control-Request-Local-Network"
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = "content-type, authorization"
    headers["Access-Control-Max-Age"] = "600"
    if private_network:
        headers["Access-Control-Allow-Private-Network"] = "true"
    if local_network:
        headers["Access-Control-Allow-Local-Network"] = "true"
    return response


class Heads:
    """The heads of the fast lane's answers to one page (or to none), as bytes; those of one second are kept."""

    __slots__ = ("_date", "_empty", "_full", "_made")

    def __init__(self, page: str | None) -> None:
        self._full = _lines(200, page, content=True) + b"Content-Length: "
        self._empty = _lines(204, page, content=False) + b"Date: "
        self._date = b""
        self._made: dict[int, bytes] = {}

    def full(self, length: int) -> bytes:
        """Return the head of an answer of `length` bytes."""
        date = _date.now()
        if date is not self._date or len(self._made) >= MOST_HEADS:
            self._made.clear()
            self._date = date
        head = self._made.get(length)
        if head is None:
            head = self._made[length] = b"%b%d\r\nDate: %b" % (self._full, length, date)
        return head

    def empty(self) -> bytes:
        """Return the whole answer to what was only notifications."""
        return self._empty + _date.now()


def closing(status: int, error: RpcError, page: str | None) -> bytes:
    """Return a whole answer, as bytes, behind which the connection ends."""
    body = envelope.failure(envelope.NULL, error)
    head = _lines(status, page, content=True)
    return b"%bConnection: close\r\nContent-Length: %d\r\nDate: %b%b" % (head, len(body), _date.now(), body)


def _lines(status: int, page: str | None, *, content: bool) -> bytes:
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    rest = (f"{name}: {value}" for name, value in headers_of(page, content=content).items())
    return "\r\n".join((first, *rest, "")).encode("ascii")


class _Date:
    """The date of this second, and the end of the head: one for all connections."""

    __slots__ = ("_over", "_text")

    def __init__(self) -> None:
        self._over = 0.0
        self._text = b""

    def now(self) -> bytes:
        """Return it."""
        now = _clock()
        if not self._over - 1 <= now < self._over:
            second = int(now)
            self._over = second + 1.0
            self._text = formatdate(second, usegmt=True).encode("ascii") + b"\r\n\r\n"
        return self._text


_clock: Final = time.time
_date: Final = _Date()
