"""A connection to a node that carries one request at a time, for what cannot be numbered on a shared socket.

Used by `Multiplexed`. The request goes as it is, with the caller's raw id, and the next value is its answer as it comes; no number is
needed to tell whose it is (rpc.md, "Passed through").
"""

from __future__ import annotations

import asyncio

from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Oversize
from proxy.upstream.node_socket import Socket, too_large


class Solitary:
    """A connection that carries one request at a time; the next value is its answer."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self.over = False

    async def ask(self, frame: bytes) -> bytes:
        """Send `frame` as it is and return the answer as it comes."""
        if self.socket is None or self.over:
            raise Unreachable("the connection to the L1 node has ended")
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self.socket.send(frame)
            return await self._answer
        except BaseException:
            self.socket.close()  # its answer may still come, and must meet nobody
            raise
        finally:
            self._answer = None

    def received(self, frame: Frame | Oversize) -> None:
        """Take the answer; a value nobody waits for ends the connection."""
        if self._answer is None or self._answer.done():
            if self.socket is not None:
                self.socket.close()
        elif isinstance(frame, Oversize):
            self._answer.set_exception(too_large())
        else:
            self._answer.set_result(frame.body)

    def ended(self, reason: str) -> None:
        """Tell the one who waits that no answer will come."""
        self.over = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(reason, repeatable=True))
