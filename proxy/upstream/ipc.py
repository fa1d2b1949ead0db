"""The unix socket of a node (geth, anvil, the embedded L1): one connection that carries JSON values.

Opened by `Multiplexed`; bytes in and out, nothing else is decided here. Values go out ended by a newline, as geth's own clients do.
"""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.upstream.arrival import Keeping
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import FrameSplitter, NotJson
from proxy.upstream.node_socket import Open, Receiver, Socket
from proxy.upstream.outbox import Outbox


def opener(path: str, keeping: Keeping, connect_seconds: float = 10) -> Open:
    """Return a function that opens the unix socket at `path`; `keeping` bounds its answers."""

    async def open_socket(receiver: Receiver) -> Socket:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_seconds):
                _, socket = await loop.create_unix_connection(lambda: _UnixSocket(receiver, keeping), path)
        except FileNotFoundError as error:
            raise Unreachable("there is no socket there; is the node running?") from error
        except TimeoutError as error:
            raise Unreachable(f"the socket did not take the connection within {connect_seconds:g} s") from error
        except OSError as error:
            raise Unreachable(
                f"the socket refused the connection ({error.strerror or type(error).__name__})"
            ) from error
        return socket

    return open_socket


class _UnixSocket(asyncio.Protocol):
    def __init__(self, receiver: Receiver, keeping: Keeping) -> None:
        self._receiver = receiver
        self._splitter = FrameSplitter(keeping, receiver.begins)
        self._outbox = Outbox()
        self._transport: asyncio.Transport | None = None
        self._reason = "the L1 node closed the connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._outbox.open(self._transport)

    def data_received(self, data: bytes) -> None:
        received = self._receiver.received
        try:
            for value in self._splitter.feed(data):
                received(value)
        except NotJson as error:
            self._reason = f"the L1 node's socket does not speak JSON-RPC: {error}"
            self.close()

    def pause_writing(self) -> None:
        self._outbox.pause()
        self._receiver.pauses(True)

    def resume_writing(self) -> None:
        self._outbox.resume()
        self._receiver.pauses(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._outbox.close()
        self._splitter.close()
        self._receiver.ended(self._reason)

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise Broken(self._reason, repeatable=True)
        self._outbox.put(frame + b"\n")

    async def room(self) -> None:
        await self._outbox.room()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
