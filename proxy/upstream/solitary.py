"""A connection to a node that carries one request at a time: for what cannot be numbered on a shared socket, and for long calls.

Used by `Multiplexed`. Long reads are numbered, as on a shared socket, so that an answer which comes twice meets nobody else; the rest goes
as it is, with the caller's raw id, and its answer stays as it comes (rpc.md, "Passed through").
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from middleware.waist import LargeReply, Request
from proxy.upstream import envelope
from proxy.upstream.arrival import Lost, Oversize, as_it_is
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Value
from proxy.upstream.large_ids import number_at_end, placed_at_end
from proxy.upstream.node_socket import Socket

_HEAD = 200


@dataclass(eq=False)
class _Asked:
    """The request under way. `number`: what it carries in place of `raw_id`; `placed`: a large answer has the caller's id already."""

    raw_id: bytes
    number: bytes | None
    answer: asyncio.Future[bytes | LargeReply]
    placed: bool = False


class Solitary:
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self._asked: _Asked | None = None
        self.over = False

    @property
    def due(self) -> int:
        """How many answers have yet to come."""
        return int(self._asked is not None and not self._asked.answer.done())

    async def ask(self, request: Request, raw_id: bytes, number: bytes | None = None) -> bytes | LargeReply:
        """Send `request`, under `number` if it has one, and return the answer with the caller's id."""
        if self.socket is None or self.over:
            raise Unreachable("the connection to the L1 node has ended")
        answer: asyncio.Future[bytes | LargeReply] = asyncio.get_running_loop().create_future()
        self._asked = _Asked(raw_id, number, answer)
        try:
            self.socket.send(envelope.write(request, raw_id if number is None else number))
            return await answer
        except BaseException:
            self.socket.close()  # its answer may still come, and must meet nobody
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _give_back(answer.result())
            raise
        finally:
            self._asked = None

    def received(self, value: Value) -> None:
        """Take the answer; a value nobody waits for ends the connection."""
        asked = self._asked
        if asked is None or asked.answer.done():
            _give_back(value)
            if self.socket is not None:
                self.socket.close()
        elif isinstance(value, Frame):
            if value.incoming.method is msgspec.UNSET:  # a notification answers nothing
                _settle(asked, value)
        elif isinstance(value, LargeReply):
            _settle_at_length(asked, value)
        elif not _is_strays(asked, value.head):
            _lose(asked, value)

    def begins(self, first: bytes) -> bytes | None:
        """Want a large answer, if anybody waits for one, with the caller's id in it; None for another's."""
        asked = self._asked
        if asked is None or asked.answer.done():
            return None
        if asked.number is None:
            return as_it_is(first)
        found = envelope.number_at_head(first[:_HEAD])
        if found is None:
            return first  # it may stand at the end
        if found != asked.number:
            return None
        asked.placed = True
        return envelope.put_back(first, asked.raw_id)

    def pauses(self, paused: bool) -> None:
        """Learn that the node has stopped reading: the one who waits waits on."""

    def ended(self, reason: str) -> None:
        """Tell the one who waits that no answer will come."""
        self.over = True
        if self._asked is not None and not self._asked.answer.done():
            self._asked.answer.set_exception(Broken(reason, repeatable=True))


def _settle(asked: _Asked, frame: Frame) -> None:
    raw = frame.incoming.id
    found = b"null" if raw is msgspec.UNSET else bytes(raw)
    if found == asked.number:
        asked.answer.set_result(envelope.put_back(frame.body, asked.raw_id))
    elif found == b"null" or (asked.number is None and not envelope.is_of_another(found, asked.raw_id)):
        asked.answer.set_result(frame.body)
    elif asked.number is None:
        another = "the L1 node answered another request than the one it was asked"
        asked.answer.set_exception(Broken(another, repeatable=False))


def _settle_at_length(asked: _Asked, reply: LargeReply) -> None:
    if asked.number is None or asked.placed:
        asked.answer.set_result(reply)
        return
    found = number_at_end(reply)
    if found == asked.number:
        asked.answer.set_result(placed_at_end(reply, asked.raw_id))
        return
    reply.close()
    if found is None:
        why = "the L1 node did not say which request it answered"
        asked.answer.set_exception(Broken(why, repeatable=True, alone=True))


def _is_strays(asked: _Asked, head: bytes) -> bool:
    """Tell whether what could not be kept was an answer to an earlier request, come twice or late."""
    return asked.number is not None and envelope.number_at_head(head) not in (None, asked.number)


def _lose(asked: _Asked, value: Oversize | Lost) -> None:
    if isinstance(value, Oversize):
        asked.answer.set_exception(value.refusal())
    else:
        asked.answer.set_exception(Broken(f"the L1 node's answer is unusable: {value.trouble}", repeatable=False))


def _give_back(value: object) -> None:
    if isinstance(value, LargeReply):
        value.close()
