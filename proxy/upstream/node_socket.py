"""What an open socket to a node is, whatever carries it: the port between `ipc` or `ws` and those who ask over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from middleware.waist import LargeReply
from proxy.upstream.failures import Broken
from proxy.upstream.frames import Value

Ask: TypeAlias = Callable[[str, list[Any]], Awaitable["bytes | LargeReply"]]
"""Ask the node behind one particular connection; returns the raw answer."""


class Receiver(Protocol):
    """What a socket tells its owner."""

    @property
    def due(self) -> int:
        """How many answers have yet to come."""

    def received(self, value: Value) -> None:
        """Take one value from the node."""

    def begins(self, first: bytes) -> bytes | None:
        """Return what to keep in place of the first bytes of a large value; None when nobody wants it."""

    def pauses(self, paused: bool) -> None:
        """Learn that the node has stopped reading what is sent to it, or reads again."""

    def ended(self, reason: str) -> None:
        """Learn once that the socket is closed."""


class Socket(Protocol):
    """An open connection to a node that carries JSON values both ways."""

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be sent any more."""

    def send(self, frame: bytes) -> None:
        """Send one value, with all others of this turn of the loop. Raise `Broken` when the connection has ended."""

    async def room(self) -> None:
        """Return once the node reads again, or the connection has ended."""

    def close(self) -> None:
        """End the connection; its receiver hears of it."""


Open: TypeAlias = Callable[[Receiver], Awaitable[Socket]]
"""Open a socket; raise `Unreachable`."""


def in_memory(body: bytes | LargeReply) -> bytes:
    """Return the answer to a question of the proxy's own. Raise `Broken` for megabytes: nothing it asks is answered with these."""
    if isinstance(body, LargeReply):
        body.close()
        raise Broken("it answers a short question with megabytes", repeatable=False)
    return body
