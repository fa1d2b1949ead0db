"""One shared socket to a node and what is in flight on it: numbers instead of the callers' ids, put back into the answers.

Used by `Multiplexed`, `subscriptions` and `following`. A late answer, one whose asker has gone, is dropped. Subscriptions of the socket
are bound to their receivers here and end with it. Must never let one answer reach another asker, nor one asker's trouble end the socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

import msgspec

from middleware.waist import Request
from proxy.upstream import envelope
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Oversize
from proxy.upstream.node_socket import Socket, too_large
from proxy.upstream.repeatable import may_repeat

log = logging.getLogger("l2proxy.upstream")

# Notifications kept for subscriptions whose answer has not come yet, and subscriptions they are kept for.
_ORPHANS = 64

Deliver = Callable[[bytes], None]


class _Push(msgspec.Struct):
    subscription: str
    result: msgspec.Raw


class _Subscribed(msgspec.Struct):
    result: str


class Pending:
    """One request on the shared socket."""

    __slots__ = ("answer", "deliver", "raw_id", "repeatable")

    def __init__(self, raw_id: bytes, deliver: Deliver | None, *, repeatable: bool) -> None:
        self.raw_id = raw_id
        self.repeatable = repeatable
        self.deliver = deliver
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class Line:
    """One shared socket and what is in flight on it. Born before its socket, dead with it."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self.over = asyncio.Event()
        self._numbers = itertools.count(1)
        self._pending: dict[bytes, Pending] = {}
        self._subscriptions: dict[str, Deliver] = {}
        self._orphans: dict[str, list[bytes]] = {}
        self._flooded = False

    @property
    def usable(self) -> bool:
        """Tell whether a request may be sent."""
        return self.socket is not None and not self.socket.closed and not self.over.is_set()

    async def ask(self, request: Request, raw_id: bytes, deliver: Deliver | None = None) -> bytes:
        """Send `request` under a number and return the answer under `raw_id`.

        With `deliver` the answer's result is taken as a subscription's id and bound before anything else of the socket is read.
        """
        if self.socket is None or self.over.is_set():
            raise Unreachable("the connection to the L1 node has ended")
        number = b"%d" % next(self._numbers)
        pending = self._pending[number] = Pending(raw_id, deliver, repeatable=may_repeat(request.method))
        try:
            await self.socket.send(envelope.write(request, number))
            return await pending.answer
        finally:
            self._pending.pop(number, None)

    def unbind(self, subscription: str) -> None:
        """Deliver nothing of `subscription` any more."""
        self._subscriptions.pop(subscription, None)

    def received(self, frame: Frame | Oversize) -> None:
        """Route one value: an answer to its asker, a notification to its receiver."""
        if isinstance(frame, Oversize):
            self._too_large(frame)
        elif frame.incoming.method is not msgspec.UNSET:
            self._notified(frame)
        else:
            self._answered(frame)

    def ended(self, reason: str) -> None:
        """Tell all that wait that no answer will come."""
        self.over.set()
        pending, self._pending = self._pending, {}
        self._subscriptions.clear()
        for one in pending.values():
            if not one.answer.done():
                one.answer.set_exception(Broken(reason, repeatable=True, alone=self._flooded))

    def _answered(self, frame: Frame) -> None:
        raw = frame.incoming.id
        number = b"null" if raw is msgspec.UNSET else bytes(raw)
        pending = self._pending.get(number)
        if pending is None:
            self._unnumbered(frame, number)
            return
        if pending.answer.done():
            return
        try:
            body = envelope.put_back(frame.body, pending.raw_id)
        except ValueError as error:
            pending.answer.set_exception(Broken(f"the L1 node's answer is unusable: {error}", repeatable=False))
            return
        if pending.deliver is not None:
            self._bind(body, pending.deliver)
        pending.answer.set_result(body)

    def _unnumbered(self, frame: Frame, number: bytes) -> None:
        """Take an answer with id null: nobody can tell whose it is, unless one alone waits; reads are asked again one by one."""
        if number != b"null":
            return  # late: its asker has gone
        waiting = [pending for pending in self._pending.values() if not pending.answer.done()]
        if len(waiting) == 1:
            waiting[0].answer.set_result(frame.body)
            return
        for pending in waiting:
            if pending.repeatable:
                failure = Broken("the L1 node did not say which request it answered", repeatable=True, alone=True)
                pending.answer.set_exception(failure)

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
            push = msgspec.json.decode(frame.incoming.params, type=_Push)
        except (msgspec.DecodeError, RecursionError):
            log.warning("the L1 node sent a notification that is no subscription's")
            return
        if deliver := self._subscriptions.get(push.subscription):
            deliver(bytes(push.result))
        elif any(pending.deliver for pending in self._pending.values()):
            # Its answer may still be on the way; a node need not send that first.
            waiting = self._orphans.setdefault(push.subscription, [])
            if len(waiting) < _ORPHANS and len(self._orphans) <= _ORPHANS:
                waiting.append(bytes(push.result))
        else:
            self._orphans.clear()

    def _too_large(self, frame: Oversize) -> None:
        number = envelope.number_at_head(frame.head)
        if number is not None and (pending := self._pending.get(number)):
            if not pending.answer.done():
                pending.answer.set_exception(too_large())
        elif number is None and self.socket is not None:
            self._flooded = True
            self.socket.close()


def _subscription_in(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Subscribed).result
    except (msgspec.DecodeError, RecursionError):
        return None  # an error, or nothing to be bound to: whoever asked reads it himself
