"""One shared socket to a node and what is in flight on it: numbers instead of the callers' ids, put back into the answers.

Used by `Multiplexed`, `subscriptions` and `following`. A late answer, one whose asker has gone, is dropped. Subscriptions of the socket
are bound to their receivers here and end with it. Must never let one answer reach another asker, nor one asker's trouble end the socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from middleware.waist import LargeReply, Request
from proxy.upstream import envelope
from proxy.upstream.arrival import Lost, Oversize
from proxy.upstream.exchange import Exchange
from proxy.upstream.failures import Broken, NodeFailure, Unreachable
from proxy.upstream.frames import Frame, Value
from proxy.upstream.large_ids import number_at_end, placed_at_end
from proxy.upstream.node_socket import Socket, in_memory
from proxy.upstream.pushes import Push, Subscribed
from proxy.upstream.repeatable import may_repeat

log = logging.getLogger("l2proxy.upstream")

# Notifications kept for subscriptions whose answer has not come yet, and subscriptions they are kept for.
_ORPHANS: Final = 64
_TAIL: Final = 200
# Answers due on one socket before another one is taken: many small ones share its reads and writes; of large ones (bytes), which a
# node makes and sends one after the other, each had better have its own.
_MANY: Final = 64
_LARGE: Final = 64 * 1024
# Requests given up whose answers may still come, as far as they are remembered.
_OWED: Final = 1024
# Who leaves after so many seconds in which nothing came has met a socket that is dead.
_SILENT_SECONDS = 1.0

Deliver = Callable[[bytes], None]


class Pending(Exchange):
    """One request on the shared socket."""

    __slots__ = ("deliver", "heard", "line", "number", "raw_id")

    def __init__(self, line: Line, number: bytes, method: str, raw_id: bytes, deliver: Deliver | None) -> None:
        self.done = False
        self.asker = None
        self.line = line
        self.number = number
        self.method = method
        self.raw_id = raw_id
        self.deliver = deliver
        self.heard = line.heard

    def give_up(self, failure: NodeFailure) -> None:
        """Forget the request; its number stays owed, so that its answer meets nobody."""
        self.line.gave_up(self)
        self.fail(failure)


class Line:
    """One shared socket and what is in flight on it. Born before its socket, dead with it.

    `numbers` never repeat at one node; `unusable` hears, perhaps more than once, that it takes no request any more.
    """

    def __init__(self, numbers: Iterator[int], unusable: Callable[[Line], None]) -> None:
        self.socket: Socket | None = None
        self.over = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.heard = 0  # values that have come
        self.pending: dict[bytes, Pending] = {}
        self.most = _MANY  # answers due from which on it is busy
        self.blocked = False  # the node does not read, or sends what all others have to wait for
        self._numbers = numbers
        self._unusable = unusable
        self._owed: dict[bytes, None] = {}
        self._subscriptions: dict[str, Deliver] = {}
        self._orphans: dict[str, list[bytes]] = {}
        self._flooded = False
        self._retired = False
        self._large: Pending | None = None  # whose large answer is on its way in

    @property
    def usable(self) -> bool:
        """Tell whether a request may be sent."""
        return self.socket is not None and not self._retired and not self.socket.closed and not self.over.is_set()

    @property
    def due(self) -> int:
        """How many answers have yet to come."""
        return len(self.pending)

    def post(self, request: Request, raw_id: bytes, deliver: Deliver | None = None) -> Pending:
        """Send `request` under a number; its answer comes under `raw_id`. Raise `Broken` when the connection has ended."""
        if self.socket is None:
            raise Unreachable("the connection to the L1 node has ended")
        number = b"%d" % next(self._numbers)
        self.socket.send(envelope.write(request, number))
        pending = self.pending[number] = Pending(self, number, request.method, raw_id, deliver)
        return pending

    async def exchange(self, request: Request, raw_id: bytes, deliver: Deliver | None = None) -> bytes | LargeReply:
        """Send `request` under a number and return the answer under `raw_id`.

        With `deliver` the answer's result is taken as a subscription's id and bound before anything else of the socket is read.
        """
        if self.socket is None or self.over.is_set():
            raise Unreachable("the connection to the L1 node has ended")
        if self.blocked:
            await self.socket.room()
        pending, sent_at = self.post(request, raw_id, deliver), self.loop.time()
        try:
            return await pending.answer()
        finally:
            if pending.number not in self.pending:
                pass
            elif self.loop.time() - sent_at >= _SILENT_SECONDS:  # `L1` and `Node` have clocks of their own for these
                self.gave_up(pending)
            else:
                del self.pending[pending.number]
                self._owe(pending.number)

    async def ask(self, request: Request, raw_id: bytes, deliver: Deliver | None = None) -> bytes:
        """Return the answer to a question of the proxy's own, none of which is large; see `exchange`. Raise `Broken`."""
        return in_memory(await self.exchange(request, raw_id, deliver))

    def unbind(self, subscription: str) -> None:
        """Deliver nothing of `subscription` any more."""
        self._subscriptions.pop(subscription, None)

    def gave_up(self, pending: Pending) -> None:
        """Forget a request; a socket on which nothing has come since it was sent takes no more, and ends with its last request."""
        if self.pending.pop(pending.number, None) is not None:
            self._owe(pending.number)
        if self.heard == pending.heard:
            self._retired = True
            self._unusable(self)
        if self._retired and not self.pending and self.socket is not None:
            self.socket.close()

    def received(self, value: Value) -> None:
        """Route one value: an answer to its asker, a notification to its receiver."""
        self.heard += 1
        if isinstance(value, Frame):
            if value.incoming.method is msgspec.UNSET:
                self._answered(value)
            else:
                self._notified(value)
        elif isinstance(value, LargeReply):
            self._answered_at_length(value)
        else:
            self._lost(value)

    def begins(self, first: bytes) -> bytes | None:
        """Put the asker's id into the first bytes of a large answer; None where nobody wants it any more."""
        self._large = None
        self.blocked = True
        number = envelope.number_at_head(first[:_TAIL])
        if number is None:
            return first  # it may stand at the end
        pending = self.pending.get(number)
        if pending is None or pending.done:
            return None
        self._large = pending
        return envelope.put_back(first, pending.raw_id)

    def pauses(self, paused: bool) -> None:
        """Learn that the node has stopped reading, or reads again."""
        self.blocked = paused

    def ended(self, reason: str) -> None:
        """Tell all that wait that no answer will come."""
        self.over.set()
        self._unusable(self)
        pending, self.pending = self.pending, {}
        self._subscriptions.clear()
        for one in pending.values():
            one.fail(Broken(reason, repeatable=True, alone=self._flooded))

    def _answered(self, frame: Frame) -> None:
        raw = frame.incoming.id
        number = b"null" if raw is msgspec.UNSET else b"".join((raw,))
        pending = self.pending.pop(number, None)
        if pending is None:
            self._unnumbered(frame, number)
            return
        if len(frame.body) > _LARGE:
            self.most = 1
        elif self.most < _MANY:
            self.most += 1
        if pending.done:
            return
        try:
            body = envelope.put_back(frame.body, pending.raw_id)
        except ValueError as error:
            pending.fail(Broken(f"the L1 node's answer is unusable: {error}", repeatable=False))
            return
        if pending.deliver is not None:
            self._bind(body, pending.deliver)
        pending.settle(body)

    def _answered_at_length(self, reply: LargeReply) -> None:
        self.blocked = False
        pending, self._large = self._large, None
        if pending is None:
            pending, reply = self._placed_at_end(reply)
        if pending is None:
            reply.close()
        else:
            self.pending.pop(pending.number, None)
            pending.settle(reply)

    def _placed_at_end(self, reply: LargeReply) -> tuple[Pending | None, LargeReply]:
        """Put the asker's id into the end of a large answer; where it stands elsewhere nobody can be told to be its asker."""
        number = number_at_end(reply)
        if number is None:
            self._cannot_tell()
            return None, reply
        pending = self.pending.get(number)
        return (None, reply) if pending is None else (pending, placed_at_end(reply, pending.raw_id))

    def _lost(self, value: Oversize | Lost) -> None:
        self._large = None
        self.blocked = False
        number = envelope.number_at_head(value.head)
        if number is None:
            self._cannot_tell()
        elif pending := self.pending.pop(number, None):
            if isinstance(value, Oversize):
                pending.fail(value.refusal())
            else:
                pending.fail(Broken(f"the L1 node's answer is unusable: {value.trouble}", repeatable=False))

    def _cannot_tell(self) -> None:
        """End the socket: an answer came that cannot be told to be anyone's, and whoever it was for would wait for ever."""
        if self.socket is not None:
            self._flooded = True
            self.socket.close()

    def _unnumbered(self, frame: Frame, number: bytes) -> None:
        """Take an answer with id null: nobody can tell whose it is, unless one alone waits; reads are asked again one by one."""
        if number != b"null":
            self._owed.pop(number, None)  # late: its asker has gone
            return
        if len(self.pending) == 1 and not self._owed:
            (alone,) = self.pending.values()
            self.pending.clear()
            alone.settle(frame.body)
            return
        for pending in list(self.pending.values()):
            if may_repeat(pending.method):
                failure = Broken("the L1 node did not say which request it answered", repeatable=True, alone=True)
                pending.fail(failure)
                del self.pending[pending.number]
                self._owe(pending.number)

    def _owe(self, number: bytes) -> None:
        self._owed[number] = None
        if len(self._owed) > _OWED:
            del self._owed[next(iter(self._owed))]

    def _bind(self, body: bytes, deliver: Deliver) -> None:
        subscription = _subscription_in(body)
        if subscription is not None:
            self._subscriptions[subscription] = deliver
            for result in self._orphans.pop(subscription, []):
                deliver(result)

    def _notified(self, frame: Frame) -> None:
        if frame.incoming.params is msgspec.UNSET:
            return
        try:
            push = msgspec.json.decode(frame.incoming.params, type=Push)
        except (msgspec.DecodeError, RecursionError):
            log.warning("the L1 node sent a notification that is no subscription's")
            return
        if deliver := self._subscriptions.get(push.subscription):
            deliver(bytes(push.result))
        elif any(pending.deliver for pending in self.pending.values()):
            # Its answer may still be on the way; a node need not send that first.
            waiting = self._orphans.setdefault(push.subscription, [])
            if len(waiting) < _ORPHANS and len(self._orphans) <= _ORPHANS:
                waiting.append(bytes(push.result))
        else:
            self._orphans.clear()


def _subscription_in(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=Subscribed).result
    except (msgspec.DecodeError, RecursionError):
        return None  # an error, or nothing to be bound to: whoever asked reads it himself
