"""Many requests in flight on one socket to a node: numbers instead of the callers' ids, put back into the answers.

Stands between `Node` and a socket (`ipc`, `ws`). Requests that cannot be numbered travel alone: each on a connection of its own that
carries one request at a time, with the caller's raw id, and the next frame is its answer as it came (rpc.md, "Passed through"). A late
answer, one whose asker has gone, is dropped. Subscriptions of the socket are bound to their receivers here and end with it.
Must never let one answer reach another asker, nor one asker's trouble end the shared socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec

from middleware.errors import LimitExceeded
from middleware.waist import Request
from proxy.upstream import envelope
from proxy.upstream.failures import Broken, Unreachable
from proxy.upstream.frames import Frame, Oversize

log = logging.getLogger("l2proxy.upstream")

# Requests that travel alone: connections open at once, and how many idle ones are kept.
_ALONE_OPEN = 8
_ALONE_IDLE = 2
_ORPHANS = 64

Deliver = Callable[[bytes], None]
Ask = Callable[[str, list[Any]], Awaitable[bytes]]
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


Open = Callable[[Receiver], Awaitable[Socket]]
"""Open a socket; raise `Unreachable`."""


class Pending:
    """One request on the shared socket."""

    __slots__ = ("answer", "deliver", "raw_id")

    def __init__(self, raw_id: bytes, deliver: Deliver | None) -> None:
        self.raw_id = raw_id
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
        pending = self._pending[number] = Pending(raw_id, deliver)
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
        """Give an answer with id null to the only one it can be meant for; else nobody can tell whose it is."""
        if number == b"null" and len(self._pending) == 1:
            (only,) = self._pending.values()
            if not only.answer.done():
                only.answer.set_result(frame.body)
        elif number == b"null":
            log.warning(
                "the L1 node sent an answer with id null that belongs to none of %d requests", len(self._pending)
            )

    def _bind(self, body: bytes, deliver: Deliver) -> None:
        reply = msgspec.json.decode(body)
        if isinstance(reply, dict) and isinstance(subscription := reply.get("result"), str):
            self._subscriptions[subscription] = deliver
            for result in self._orphans.pop(subscription, []):
                deliver(result)

    def _notified(self, frame: Frame) -> None:
        if frame.incoming.params is msgspec.UNSET:
            return
        try:
            push = msgspec.json.decode(frame.incoming.params, type=_Push)
        except msgspec.DecodeError:
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


class _Push(msgspec.Struct):
    subscription: str
    result: msgspec.Raw


def too_large() -> LimitExceeded:
    """Return the error for an answer above [limits] response."""
    return LimitExceeded("response", "the L1 node's answer is larger than [limits] response; ask for less at once")


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


class Multiplexed:
    """A node over sockets: one shared by all who can be numbered, a few for those who travel alone.

    `verify` is handed a way to ask on each new socket before anything else may use it; what it raises closes the socket.
    """

    def __init__(self, open_socket: Open, verify: Callable[[Ask], Awaitable[None]]) -> None:
        self._open_socket = open_socket
        self._verify = verify
        self._line: Line | None = None
        self._opening = asyncio.Lock()
        self._alone = asyncio.Semaphore(_ALONE_OPEN)
        self._idle: list[Solitary] = []

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes:
        """Return the node's answer to `request` with the caller's id. Raise `Unreachable`, `WrongChain` or `Broken`.

        `alone`: on a connection of its own, whatever the request looks like.
        """
        raw_id = b"null" if request.id is None else request.id
        if alone or envelope.travels_alone(request):
            async with self._alone, self._solitary() as solitary:
                return await solitary.ask(envelope.write(request, raw_id))
        line = await self.line()
        return await line.ask(request, raw_id)

    async def line(self) -> Line:
        """Return the shared socket, opened and verified if need be."""
        if self._line is not None and self._line.usable:
            return self._line
        async with self._opening:
            if self._line is None or not self._line.usable:
                self._line = await self._new_line()
            return self._line

    async def close(self) -> None:
        """Close every socket; what waits hears that the connection ended."""
        if self._line is not None and self._line.socket is not None:
            self._line.socket.close()
        while self._idle:
            if (socket := self._idle.pop().socket) is not None:
                socket.close()

    async def _new_line(self) -> Line:
        line = Line()
        line.socket = await self._open_socket(line)

        async def ask(method: str, params: list[Any]) -> bytes:
            return await line.ask(Request(method, msgspec.json.encode(params)), b"1")

        try:
            await self._verify(ask)
        except BaseException:
            line.socket.close()
            raise
        return line

    @asynccontextmanager
    async def _solitary(self) -> AsyncIterator[Solitary]:
        solitary = await self._fresh_or_idle()
        yield solitary
        if not solitary.over and len(self._idle) < _ALONE_IDLE:
            self._idle.append(solitary)
        elif solitary.socket is not None:
            solitary.socket.close()

    async def _fresh_or_idle(self) -> Solitary:
        while self._idle:
            solitary = self._idle.pop()
            if solitary.socket is not None and not solitary.socket.closed and not solitary.over:
                return solitary
        solitary = Solitary()
        solitary.socket = await self._open_socket(solitary)

        async def ask(method: str, params: list[Any]) -> bytes:
            return await solitary.ask(envelope.write(Request(method, msgspec.json.encode(params)), b"1"))

        try:
            await self._verify(ask)
        except BaseException:
            solitary.socket.close()
            raise
        return solitary
