"""What the raw connections to a node have in common, the unix socket's and the WebSocket's: sending, and both ends of it.

Between asyncio's transport and the `Receiver`. A kind of connection says how a value is framed on its way out, what its bytes mean on
their way in (`data_received`), and what it lets go of when it has ended.
"""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.upstream.failures import Broken
from proxy.upstream.node_socket import Receiver
from proxy.upstream.outbox import Outbox


class RawSocket:
    """A connection to a node (a `Socket`), opened by `ipc` or `ws`; an `asyncio.Protocol` by its methods."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._outbox = Outbox()
        self._transport: asyncio.Transport | None = None
        self._reason = "the L1 node closed the connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; what is sent goes over it from now on."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._outbox.open(self._transport)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """Learn that the node says no more: the connection ends."""
        return False

    def pause_writing(self) -> None:
        """Learn that the node does not read."""
        self._outbox.pause()
        self._receiver.pauses(True)

    def resume_writing(self) -> None:
        """Learn that the node reads again."""
        self._outbox.resume()
        self._receiver.pauses(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go, and tell the receiver why."""
        self._transport = None
        self._outbox.close()
        self._let_go()
        self._receiver.ended(self._reason)

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    def send(self, frame: bytes) -> None:
        """Send one value, with all others of this turn of the loop. Raise `Broken` when the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            raise Broken(self._reason, repeatable=True)
        self._outbox.put(self._framed(frame))

    async def room(self) -> None:
        """Return once the node reads again, or the connection has ended."""
        await self._outbox.room()

    def close(self) -> None:
        """End the connection; its receiver hears of it."""
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.close()

    def _framed(self, frame: bytes) -> bytes:
        """Return one value as it travels."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Give back what the connection held."""
        raise NotImplementedError
