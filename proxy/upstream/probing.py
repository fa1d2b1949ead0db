"""Which chain somebody serves, asked once and over.

Apart from `l1`, which is compiled: what waits while it handles an exception may not be (docs/decisions/0009).
"""

from __future__ import annotations

from typing import Protocol

from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream.identity import ChainIdentity


class Asked(Protocol):
    """`L1`, as it is asked."""

    async def forward(self, request: Request) -> NodeReply | LargeReply:
        """Return the node's answer, and know the chain."""

    @property
    def identity(self) -> ChainIdentity:
        """The chain."""

    async def close(self) -> None:
        """End every connection."""


async def identity_of(l1: Asked, probe: Request) -> ChainIdentity:
    """Return which chain `l1` serves, and close it. Raise `Disconnected`."""
    try:
        await l1.forward(probe)
        return l1.identity
    finally:
        await l1.close()
