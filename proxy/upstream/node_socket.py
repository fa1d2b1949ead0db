"""What an open socket to a node is, whatever carries it: the port between `ipc` or `ws` and those who ask over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from middleware.errors import LimitExceeded
from proxy.upstream.frames import Frame, Oversize

Ask: TypeAlias = Callable[[str, list[Any]], Awaitable[bytes]]
"""Ask the node behind one particular connection; returns the raw answer."""


class Receiver(Protocol):
    """What a socket tells its owner."""

    def received(self, frame: Frame | Oversize) -> None:
        """Take one value from the node."""

    def ended(self, reason: str) -> None:
        """Learn once that the socket is closed."""


class Socket(Protocol):
    """An open connection to a node that carries JSON values both ways."""

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be sent any more."""

    async def send(self, frame: bytes) -> None:
        """Send one value. Raise `Broken` when the connection has ended."""

    def close(self) -> None:
        """End the connection; its receiver hears of it."""


Open: TypeAlias = Callable[[Receiver], Awaitable[Socket]]
"""Open a socket; raise `Unreachable`."""


def too_large() -> LimitExceeded:
    """Return the error for an answer above [limits] response."""
    return LimitExceeded("response", "the L1 node's answer is larger than [limits] response; ask for less at once")
