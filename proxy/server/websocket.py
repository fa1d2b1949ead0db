"""A WebSocket on the dapp door: one conversation of text frames (binary frames are read as well, answers are text).

Reached from `http` after Host, Origin and token were checked, that is before the upgrade. A message over the body limit is
answered -32005, one four times as large ends the connection (1009), so memory stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, WSMsgType, web

from middleware.errors import LimitExceeded, RpcError
from middleware.waist import Context
from proxy.server import envelope
from proxy.server.conversation import Conversation
from proxy.server.door import Door
from proxy.server.identity import Identity
from proxy.server.outbox import Outbox, SlowReader
from proxy.server.presence import Attendance


class _Revoked(ConnectionError):
    """The token this connection was opened with is no longer in force."""


async def serve(
    request: web.BaseRequest, identity: Identity, door: Door, most_bytes: int, closing: asyncio.Event
) -> web.WebSocketResponse:
    """Upgrade `request` and answer on it until either side ends it. Raise `web.HTTPBadRequest` for a bad handshake."""
    socket = web.WebSocketResponse(compress=False, max_msg_size=4 * most_bytes, timeout=2, autoclose=True)
    socket.headers["Server"] = "l2proxy"
    await socket.prepare(request)
    outbox = Outbox(lambda frame: socket.send_frame(frame, WSMsgType.TEXT))
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
