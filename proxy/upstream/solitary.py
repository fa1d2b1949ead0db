"""A connection to a node that carries one request at a time: for what cannot be numbered on a shared socket, and for long calls.

Used by `Multiplexed`. The request goes as it is, with the caller's raw id, and the next value is its answer as it comes; no number is
needed to tell whose it is (rpc.md, "Passed through").
"""

from __future__ import annotations

import asyncio

import msgspec

from middleware.waist import LargeReply
from proxy.upstream.arrival import Oversize, as_it_is
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Value
from proxy.upstream.node_socket import Socket


class Solitary:
    """A connection that carries one request at a time; the next value is its answer."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self._answer: asyncio.Future[bytes | LargeReply] | None = None
        self.over = False

    async def ask(self, frame: bytes) -> bytes | LargeReply:
        """Send `frame` as it is and return the answer as it comes."""
        if self.socket is None or self.over:
            raise Unreachable("the connection to the L1 node has ended")
        answer: asyncio.Future[bytes | LargeReply] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self.socket.send(frame)
            return await answer
        except BaseException:
            self.socket.close()  # its answer may still come, and must meet nobody
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _give_back(answer.result())
            raise
        finally:
            self._answer = None

    def received(self, value: Value) -> None:
        """Take the answer; a value nobody waits for ends the connection."""
        if self._answer is None or self._answer.done():
            _give_back(value)
            if self.socket is not None:
                self.socket.close()
        elif isinstance(value, Frame):
            if value.incoming.method is msgspec.UNSET:  # a notification answers nothing
                self._answer.set_result(value.body)
        elif isinstance(value, LargeReply):
            self._answer.set_result(value)
        elif isinstance(value, Oversize):
            self._answer.set_exception(value.refusal())
        else:
            self._answer.set_exception(Broken(f"the L1 node's answer is unusable: {value.trouble}", repeatable=False))

    def begins(self, first: bytes) -> bytes | None:
        """Want a large answer as it is, if anybody waits for one."""
        return None if self._answer is None or self._answer.done() else as_it_is(first)

    def pauses(self, paused: bool) -> None:
        """Learn that the node has stopped reading: the one who waits waits on."""

    def ended(self, reason: str) -> None:
        """Tell the one who waits that no answer will come."""
        self.over = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(reason, repeatable=True))


def _give_back(value: object) -> None:
    if isinstance(value, LargeReply):
        value.close()
