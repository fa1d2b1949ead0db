"""A WebSocket on the dapp door: one conversation of text frames (binary frames are read as well, answers are text).

Reached from `http` after Host, Origin and token were checked, that is before the upgrade. aiohttp shakes hands and reads;
answers are framed here and written without waiting, a large one as a message of many fragments, between which a pong may
pass (RFC 6455, 5.4). A message over the body limit is answered -32005, one four times as large ends the connection (1009),
so memory stays bounded.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import cast

from aiohttp import WSCloseCode, WSMsgType, web

from middleware.errors import LimitExceeded, RpcError
from middleware.waist import Context
from proxy.server import envelope
from proxy.server.conversation import Conversation
from proxy.server.door import Door
from proxy.server.identity import Identity
from proxy.server.outbox import Outbox
from proxy.server.peers import Peer
from proxy.server.presence import Attendance
from proxy.server.taking import SlowReader

TEXT, CONTINUATION, FIN = 0x1, 0x0, 0x80


class WebSocketWire:
    """A `Wire` of unmasked text frames (RFC 6455, 5.2)."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @property
    def transport(self) -> asyncio.Transport | None:
        """What the reader takes from; None once the connection has ended."""
        return self._peer.transport

    @property
    def clogged(self) -> bool:
        """Tell whether nothing more should be written for now."""
        return self._peer.writing_paused

    def send(self, frame: bytes) -> None:
        """Write a message of one frame."""
        self._write(FIN | TEXT, frame)

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        """Write one fragment of a message."""
        self._write((FIN if last else 0) | (TEXT if first else CONTINUATION), part)

    async def drained(self) -> None:
        """Wait until it is not clogged. Raise `ConnectionError` when the connection has ended."""
        await self._peer.drained()

    def _write(self, first: int, payload: bytes) -> None:
        transport = self._peer.transport
        if transport is None or transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            transport.write(_SHORT.pack(first, size) + payload)
        elif size < 65536:
            transport.write(_MIDDLE.pack(first, 126, size) + payload)
        else:  # not writelines(), which asks nobody to pause on Python 3.12
            transport.write(_LONG.pack(first, 127, size))
            transport.write(payload)


_SHORT, _MIDDLE, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")


class _Revoked(ConnectionError):
    """The token this connection was opened with is no longer in force."""


async def serve(
    request: web.BaseRequest,
    identity: Identity,
    door: Door,
    most_bytes: int,
    closing: asyncio.Event,
    on_slow: Callable[[], None],
) -> web.WebSocketResponse:
    """Upgrade `request` and answer on it until either side ends it. Raise `web.HTTPBadRequest` for a bad handshake.

    `on_slow` hears of a reader that is cut off.
    """
    socket = web.WebSocketResponse(compress=False, max_msg_size=4 * most_bytes, timeout=2, autoclose=True)
    socket.headers["Server"] = "l2proxy"
    await socket.prepare(request)
    outbox = Outbox(WebSocketWire(cast(Peer, request.protocol)), on_slow=on_slow, shelf=door.shelf())
    attendance = Attendance()
    context = Context(identity.origin, "ws", outbox, attendance)
    conversation = Conversation(door, context, outbox)
    code = WSCloseCode.OK
    try:
        await conversation.run(_messages(socket, identity, outbox, most_bytes), closing)
        code = WSCloseCode.GOING_AWAY if closing.is_set() else WSCloseCode.OK
    except _Revoked:
        code = WSCloseCode.POLICY_VIOLATION
    except SlowReader:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:  # the other side has gone: there is nobody to tell
        return socket
    finally:
        attendance.leave()
    await socket.close(code=code)
    return socket


async def _messages(
    socket: web.WebSocketResponse, identity: Identity, outbox: Outbox, most_bytes: int
) -> AsyncIterator[bytes]:
    async for message in socket:
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return
        if not identity.holds():
            raise _Revoked
        body = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if len(body) > most_bytes:
            await outbox.put(envelope.failure(envelope.NULL, too_large(len(body), most_bytes)))
            continue
        yield body


def too_large(size: int | None, most_bytes: int) -> RpcError:
    """Return the error for a body over the limit."""
    said = f"a body of {size} bytes" if size is not None else "the body"
    return LimitExceeded("body", f"{said} exceeds {most_bytes} bytes ([limits] body)")
