"""The WebSocket of a node: one connection whose messages are JSON values, over TCP or TLS (RFC 6455).

Opened by `Multiplexed` where `endpoint` says. Fixed URL: redirects are refused, no cookies, no header of any caller (security.md 8). A node that
says nothing for a while is asked for a sign of life, and given up when it gives none: a half-open connection looks like a quiet one.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from hashlib import sha1
from os import urandom
from typing import Final, cast

import msgspec

from proxy.upstream import envelope
from proxy.upstream.arrival import Keeping
from proxy.upstream.endpoint import Endpoint, acknowledge, connect
from proxy.upstream.failures import Silent, Unreachable
from proxy.upstream.frames import Frame
from proxy.upstream.node_socket import Open, Receiver, Socket
from proxy.upstream.raw_socket import RawSocket
from proxy.upstream.ws_frames import CLOSE, PING, PONG, Control, Masking, MessageReader, NotWebSocket

_SECRET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_SILENCE_SECONDS: float = 20
# Answers due from which on requests follow each other so closely that they carry the acknowledgements.
_FEW: Final = 8
_LONGEST_HEAD: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_ACCEPT: Final = re.compile(rb"\r\nsec-websocket-accept:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)


def opener(to: Endpoint, keeping: Keeping, connect_seconds: float = 10) -> Open:
    """Return a function that opens the WebSocket at `to`; `keeping` bounds its answers."""

    async def open_socket(receiver: Receiver) -> Socket:
        socket = await connect(to, lambda: _WebSocket(to, receiver, keeping), connect_seconds)
        try:
            async with asyncio.timeout(connect_seconds):
                await socket.opened
        except TimeoutError as error:
            socket.close()
            raise Silent(f"it did not take the connection within {connect_seconds:g} s") from error
        except BaseException:
            socket.close()
            raise
        return socket

    return open_socket


class _WebSocket(RawSocket):
    def __init__(self, to: Endpoint, receiver: Receiver, keeping: Keeping) -> None:
        super().__init__(receiver)
        self._to = to
        self._reader = MessageReader(keeping, receiver.begins)
        self._masking = Masking()
        self._loop = asyncio.get_running_loop()
        self._key = b64encode(urandom(16))
        self._head: bytes | None = b""  # of the node's answer to the upgrade; None once it is whole
        self._heard, self._asked_for_life = False, False
        self._heartbeat: asyncio.TimerHandle | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        lines = (
            b"GET %b HTTP/1.1\r\n%bUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
        )
        cast(asyncio.Transport, transport).write(lines % (self._to.target, self._to.head, self._key))

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._head is not None:
            data = self._upgrade(self._head + data)
        try:
            for message in self._reader.feed(data):
                if isinstance(message, bytes):
                    self._receiver.received(Frame(message, envelope.read(message)))
                elif isinstance(message, Control):
                    self._control(message)
                else:
                    self._receiver.received(message)
        except (msgspec.DecodeError, NotWebSocket) as error:
            self._give_up(f"the L1 node's WebSocket does not speak JSON-RPC: {error}")
        if self._transport is not None and 0 < self._receiver.due < _FEW:
            acknowledge(self._transport)

    def _framed(self, frame: bytes) -> bytes:
        return self._masking.frame(frame)

    def _let_go(self) -> None:
        self._reader.close()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if not self.opened.done():
            self.opened.set_exception(Unreachable("it closed the connection while it was asked for a WebSocket"))
            self.opened.exception()  # whoever waited may have gone

    def _upgrade(self, head: bytes) -> bytes:
        """Take the node's answer to the upgrade; return what came behind it."""
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._head = head
            if len(head) > _LONGEST_HEAD:
                self._refuse("it does not speak WebSocket")
            return b""
        self._head = None
        status = _STATUS.match(head)
        accept = _ACCEPT.search(head[: end + 2])
        if status is None:
            self._refuse("it does not speak WebSocket")
        elif status[1][:1] == b"3":
            self._refuse(f"it redirects elsewhere (HTTP {status[1].decode()}); give its final URL")
        elif status[1] != b"101":
            self._refuse(f"it does not speak WebSocket (HTTP {status[1].decode()})")
        elif accept is None or accept[1] != b64encode(sha1(self._key + _SECRET).digest()):  # noqa: S324  (the protocol's own)
            self._refuse("it does not speak WebSocket: it answered another connection's key")
        elif not self.opened.done():
            self.opened.set_result(None)
            self._heartbeat = self._loop.call_later(_SILENCE_SECONDS, self._beat)
            return head[end + 4 :]
        return b""

    def _refuse(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(Unreachable(reason))
            self.opened.exception()
        self.close()

    def _control(self, frame: Control) -> None:
        if frame.opcode == PING:
            self._outbox.put(self._masking.frame(frame.payload, PONG))
        elif frame.opcode == CLOSE and self._transport is not None:
            self._transport.write(self._masking.frame(frame.payload[:2], CLOSE))
            self._transport.close()

    def _beat(self) -> None:
        if self._heard:
            self._heard = self._asked_for_life = False
        elif self._asked_for_life:
            self._give_up("the L1 node gave no sign of life")
            return
        else:
            self._asked_for_life = True
            self._outbox.put(self._masking.frame(b"", PING))
        self._heartbeat = self._loop.call_later(_SILENCE_SECONDS, self._beat)
