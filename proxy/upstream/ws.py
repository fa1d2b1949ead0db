"""The WebSocket of a node: one connection whose messages are JSON values.

Opened by `Multiplexed`. Fixed URL: redirects are refused, no cookies, no proxies of the environment, no header of any caller
(security.md 8). Messages are read as bytes and not re-encoded.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

import aiohttp
import msgspec
from yarl import URL

from proxy.upstream import envelope
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Oversize
from proxy.upstream.node_socket import Open, Receiver, Socket

_TIMEOUT = aiohttp.ClientWSTimeout(ws_close=1)


async def refuse_redirect(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Let no answer of a node send the proxy elsewhere."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise Unreachable(f"it redirects elsewhere (HTTP {response.status}); give its final URL")
    return response


def new_session(
    connector: aiohttp.BaseConnector | None = None, traces: Sequence[aiohttp.TraceConfig] = ()
) -> aiohttp.ClientSession:
    """Return a client session for one node: no cookies, no proxies of the environment, no redirects on an upgrade."""
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=list(traces),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        middlewares=(refuse_redirect,),
        skip_auto_headers={"User-Agent"},
    )


def opener(session: Callable[[], aiohttp.ClientSession], url: str, limit: int, connect_seconds: float = 10) -> Open:
    """Return a function that opens the WebSocket at `url`; `limit` is the largest answer in bytes."""

    async def open_socket(receiver: Receiver) -> Socket:
        try:
            async with asyncio.timeout(connect_seconds):
                connection = await session().ws_connect(
                    URL(url, encoded=True), max_msg_size=limit, decode_text=False, heartbeat=20, timeout=_TIMEOUT
                )
        except aiohttp.WSServerHandshakeError as error:
            raise Unreachable(f"it does not speak WebSocket (HTTP {error.status})") from error
        except TimeoutError as error:
            raise Unreachable(f"it did not take the connection within {connect_seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(refusal(error)) from error
        socket = _WebSocket(connection, receiver)
        await socket.reading.wait()
        return socket

    return open_socket


def refusal(error: Exception) -> str:
    """Return why a connection could not be made, without its address."""
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is unknown"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return f"it refused the connection ({os.strerror(number)})" if number > 0 else "nothing listens there"
    return f"no connection could be made ({type(error).__name__})"


class _WebSocket:
    def __init__(self, connection: aiohttp.ClientWebSocketResponse[bool], receiver: Receiver) -> None:
        self._connection = connection
        self._receiver = receiver
        self._reason = "the L1 node closed the connection"
        self._over = False
        self.reading = asyncio.Event()  # from here on `close` ends the reader in an orderly way
        self._reader = asyncio.create_task(self._read())

    @property
    def closed(self) -> bool:
        return self._over or self._connection.closed

    async def send(self, frame: bytes) -> None:
        if self.closed:
            raise Broken(self._reason, repeatable=True)
        try:
            await self._connection.send_frame(frame, aiohttp.WSMsgType.TEXT)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Broken(self._reason, repeatable=True) from error

    def close(self) -> None:
        self._over = True
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            self.reading.set()
            async for message in self._connection:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    body: bytes = message.data
                    self._receiver.received(Frame(body, envelope.read(body)))
                elif message.type is aiohttp.WSMsgType.ERROR:
                    self._note(message.data)
        except msgspec.DecodeError as error:
            self._reason = f"the L1 node's WebSocket does not speak JSON-RPC: {error}"
        finally:
            self._over = True
            self._receiver.ended(self._reason)
            await self._connection.close()

    def _note(self, error: object) -> None:
        if isinstance(error, aiohttp.WebSocketError) and error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            self._receiver.received(Oversize(b""))
            self._reason = "the L1 node sent more than [limits] response at once"
