"""`hub.send` and `hub.request`: the one connection to the plugin's operator, held by the proxy (plugin.md).

Exactly the address the owner approved: no redirects, no cookies, no proxy from the environment, no header of the plugin's
that could name another host. A WebSocket hub is kept connected while the plugin runs; its messages are delivered in order,
and the socket is not read faster than the plugin answers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Meta
from yarl import URL

from middleware.errors import Disconnected, InvalidParams, LimitExceeded, PluginUnavailable, Unauthorized, shorten
from proxy.host.blobs import Base64, Blob, from_base64, text_or_base64, to_base64, to_bytes
from proxy.host.deliveries import Deliveries
from proxy.host.provider import Asker, HostMethod, Params

log = logging.getLogger("l2proxy.host")

MAX_MESSAGE = 512 * 1024  # bytes, both ways
MAX_ESCAPED = 1024 * 1024 - 4096  # bytes of a text message as JSON
CONNECT, REQUEST, SEND = 15.0, 30.0, 30.0  # seconds
BACK_OFF = (0.2, 0.5, 1.0, 3.0, 10.0, 30.0)  # seconds until the next attempt
STEADY = 30.0  # seconds after which a connection counts as good
MAX_HEADERS = 32

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_PATH = re.compile(r"/(?!/)[\x21-\x7e]*")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_OURS = re.compile(
    r"host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|expect|via|forwarded|origin|referer"
    r"|cookie|set-cookie|date|(proxy|sec|x-forwarded|access-control)-?.*",
    re.IGNORECASE,
)


class HubSend(Params, frozen=True, kw_only=True):
    """Exactly one of text and base64."""

    text: str | None = None
    base64: str | None = None


class HubRequest(Params, frozen=True, kw_only=True):
    """A request to an http(s) hub; `path` below the hub's."""

    method: str
    path: Annotated[str, Meta(max_length=4096)]
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Blob | None = None


class Hub:
    """The hub of one plugin. `session` has no cookies and trusts no environment."""

    def __init__(self, plugin_id: str, url: str | None, session: aiohttp.ClientSession, deliveries: Deliveries) -> None:
        self._plugin_id = plugin_id
        self._url = url
        self._session = session
        self._deliveries = deliveries
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.connected = False

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {
            "hub.send": HostMethod("hub", HubSend, self.send),
            "hub.request": HostMethod("hub", HubRequest, self.request),
        }

    async def run(self) -> None:
        """Keep a WebSocket hub connected until cancelled or the plugin is gone for good."""
        if self._url is None or not self._url.startswith(("ws://", "wss://")):
            return
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            began = loop.time()
            try:
                await self._connection(self._url)
            except PluginUnavailable:
                return
            attempt = 0 if loop.time() - began > STEADY else attempt + 1
            await asyncio.sleep(BACK_OFF[min(attempt, len(BACK_OFF) - 1)])

    async def send(self, params: HubSend, _: Asker) -> dict[str, Any]:
        """Send one message. Raises Disconnected while the hub is away."""
        if (params.text is None) == (params.base64 is None):
            raise InvalidParams("params", "either text or base64", "both or neither")
        data = params.text.encode() if params.text is not None else from_base64(params.base64 or "", "base64")
        if len(data) > MAX_MESSAGE:
            raise LimitExceeded("hub_message", f"a message has {len(data)} bytes; the limit is {MAX_MESSAGE}")
        if self._url is None or not self._url.startswith("ws"):
            raise Unauthorized(f"{self._plugin_id} has no WebSocket hub")
        socket = self._socket
        if socket is None or socket.closed:
            raise Disconnected("the hub is not connected; `hub {event: open}` says when it is")
        try:
            async with asyncio.timeout(SEND):
                await (socket.send_str(params.text) if params.text is not None else socket.send_bytes(data))
        except (TimeoutError, ConnectionError, aiohttp.ClientError):
            raise Disconnected("the hub went away while the message was sent; whether it got it is unknown") from None
        return {}

    async def request(self, params: HubRequest, _: Asker) -> dict[str, Any]:
        """Ask an http(s) hub; return `{status, headers, body | base64}`."""
        if self._url is None or not self._url.startswith("http"):
            raise Unauthorized(f"{self._plugin_id} has no http(s) hub")
        url = join(self._url, params.path)
        if params.method not in _METHODS:
            raise InvalidParams("method", " ".join(sorted(_METHODS)), params.method)
        body = None if params.body is None else to_bytes(params.body, "body")
        if body is not None and len(body) > MAX_MESSAGE:
            raise LimitExceeded("hub_message", f"a body has {len(body)} bytes; the limit is {MAX_MESSAGE}")
        headers = _headers(params.headers, body, binary=isinstance(params.body, Base64))
        try:
            async with (
                asyncio.timeout(REQUEST),
                self._session.request(
                    params.method, url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                answer = await response.content.read(MAX_MESSAGE + 1)
                while len(answer) <= MAX_MESSAGE and (more := await response.content.read(MAX_MESSAGE + 1)):
                    answer += more
        except (TimeoutError, OSError, aiohttp.ClientError):
            raise Disconnected("the hub did not answer; whether it acted is unknown") from None
        if len(answer) > MAX_MESSAGE:
            raise LimitExceeded("hub_message", f"the hub's answer is longer than {MAX_MESSAGE} bytes")
        shown = {name.lower(): value[:1024] for name, value in list(response.headers.items())[:64]}
        return {"status": response.status, "headers": shown, **_body(answer)}

    async def _connection(self, url: str) -> None:
        """Hold one connection from open to close, telling the plugin of both and of what comes in between."""
        try:
            async with asyncio.timeout(CONNECT):
                socket = await self._session.ws_connect(
                    URL(url, encoded=True), max_msg_size=MAX_MESSAGE + 1, heartbeat=30.0, autoping=True
                )
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            log.debug("hub of %s: %s", self._plugin_id, type(error).__name__)
            return
        try:
            self._socket, self.connected = socket, True
            await self._tell({"event": "open"})
            code, reason = await self._relay(socket)
        finally:
            self._socket, self.connected = None, False
            await socket.close()
        await self._tell({"event": "close", "code": code or socket.close_code, "reason": reason})

    async def _relay(self, socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
        """Tell the plugin each message until the connection ends; return our own code for it, None: the hub's, and the reason."""
        while True:
            message = await socket.receive()
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY) and not _fits(message.data):
                await socket.close(code=aiohttp.WSCloseCode.MESSAGE_TOO_BIG)
                return (
                    aiohttp.WSCloseCode.MESSAGE_TOO_BIG,
                    f"a message over {MAX_MESSAGE} bytes as a plugin would read it",
                )
            if message.type == aiohttp.WSMsgType.TEXT:
                await self._tell({"event": "message", "text": message.data})
            elif message.type == aiohttp.WSMsgType.BINARY:
                await self._tell({"event": "message", **to_base64(message.data)})
            else:
                return None, (message.extra or "") if message.type == aiohttp.WSMsgType.CLOSE else ""

    async def _tell(self, params: dict[str, Any]) -> None:
        await self._deliveries.deliver("hub", "hub", params)


def _fits(data: str | bytes) -> bool:
    """Tell whether a message is within its size and the channel's line: what JSON must escape takes up to six times its room."""
    if isinstance(data, bytes):
        return len(data) <= MAX_MESSAGE
    if len(data) * 6 <= MAX_MESSAGE:
        return True
    return len(data.encode()) <= MAX_MESSAGE and len(json.dumps(data, ensure_ascii=False).encode()) <= MAX_ESCAPED


def join(hub: str, path: str) -> URL:
    """Return the address of `path` below the hub's own path; scheme, host and port stay. Raises InvalidParams.

    `path` is set on the parsed address, never joined as a reference, which could leave the host (hardening.md 30).
    """
    pure, _, query = path.partition("?")
    dotted = any(part in (".", "..") for part in re.sub("%2e", ".", pure, flags=re.IGNORECASE).split("/"))
    if (
        _PATH.fullmatch(path) is None
        or "\\" in path
        or "#" in path
        or dotted
        or re.search("%2f|%5c", pure, re.IGNORECASE)
    ):
        raise InvalidParams("path", "a path like /orders?open=1 without dot segments", shorten(path))
    parts = urlsplit(hub)
    built = URL(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}", encoded=True)
    approved = URL(hub, encoded=True)
    if (built.scheme, built.host, built.port) != (approved.scheme, approved.host, approved.port):
        raise InvalidParams("path", "a path on the hub", shorten(query or path))
    return built


def _headers(given: Mapping[str, str], body: bytes | None, *, binary: bool) -> dict[str, str]:
    if len(given) > MAX_HEADERS:
        raise LimitExceeded("hub_headers", f"at most {MAX_HEADERS} headers")
    headers = {}
    for name, value in given.items():
        if _HEADER.fullmatch(name) is None or _OURS.fullmatch(name):
            raise InvalidParams("headers", "headers that are not the proxy's to set", name)
        if not value.isascii() or not value.isprintable() or len(value) > 4096:
            raise InvalidParams(f"headers.{name}", "printable ASCII of at most 4096 characters", value)
        headers[name] = value
    if body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/octet-stream" if binary else "application/json"
    return headers


def _body(data: bytes) -> dict[str, Any]:
    shown = text_or_base64(data)
    return shown if isinstance(shown, dict) else {"body": shown}
