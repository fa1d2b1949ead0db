"""The fast lane: plain `POST`s over a kept connection, answered without aiohttp. First to see the bytes of every connection.

A request is read, judged and handed to the door here; whatever is not plain, or not to be served (another method or path,
an upgrade, chunks, a bad Host, Origin, token or type, too much, too many), is left to the slow lane: its protocol takes the
connection over with the bytes as they came, once all earlier answers are out. So nothing is refused here but a connection
too many and a body that does not come. One request is answered at a time, in the order of their coming; what comes behind
it waits unread. Must never hold more of a connection than one body, one answer and a few reads (security.md 6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final, cast

from middleware.errors import InvalidRequest, LimitExceeded
from middleware.waist import Context
from proxy.server import bodies
from proxy.server.bodies import Body, Large
from proxy.server.connections import Connection
from proxy.server.door import Later, Waiting
from proxy.server.identity import Identity, Turned, identify
from proxy.server.lanes import Lanes
from proxy.server.plain_heads import LONGEST, PlainHead, may_become_plain
from proxy.server.presence import Attendance
from proxy.server.replies import Heads, closing

logger = logging.getLogger("l2proxy.door")

AT_ONCE: Final = 64 * 1024  # bytes that wait unread behind a request, and bytes of small answers joined in one write
IN_A_ROW: Final = 32  # requests of one connection answered before others have their turn
MOST_KNOWN: Final = 16  # heads a connection remembers
NO_HEAD: Final = b"\n"  # what no request begins with
HALF: Final = -1  # a request that is not all there
FOREIGN: Final = -2  # one for the slow lane
NOW: Final = 0.0  # since when a connection waits that was answered after the last look


class FastLane:
    """One connection until it ends or the slow lane takes it over; an `asyncio.Protocol` by its methods."""

    __slots__ = (
        "_answer",
        "_attendance",
        "_body_at",
        "_busy",
        "_context",
        "_counted",
        "_ending",
        "_head",
        "_heads",
        "_held",
        "_identity",
        "_known",
        "_lanes",
        "_length",
        "_needed",
        "_over",
        "_parts",
        "_plain",
        "_said_all",
        "_sent",
        "_since",
        "_skip",
        "_stopped",
        "_taken",
        "_task",
        "_transport",
        "_unread",
        "_waiting",
        "_writable",
        "_writing",
    )

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._transport = cast(asyncio.Transport, None)  # until connection_made, before which nothing comes
        self._counted: Connection | None = None
        self._attendance = Attendance()
        # Who asked last, and what follows from it.
        self._known: dict[
            bytes, tuple[PlainHead, Identity]
        ] = {}  # by head; with tokens, so it ends with the connection
        self._plain: PlainHead | None = None
        self._head = NO_HEAD  # the last one, and how long its body was
        self._length = 0
        self._identity: Identity | None = None
        self._context = cast(Context, None)  # set with the identity, as are the heads
        self._heads: Heads = lanes.heads_for(None)
        # What came and was not read: `_needed` bytes make it worth another look.
        self._unread: list[bytes] = []
        self._skip = 0  # bytes of the first piece that were read
        self._held = 0
        self._needed = 0
        self._body_at = 0
        self._stopped = False  # reading from the transport is
        self._said_all = False  # the client sends no more
        # What is being answered.
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: Waiting | None = None
        self._answer: Large | None = None
        self._parts: Iterator[bytes] | None = None
        # How the client takes it.
        self._writable = True
        self._writing = False
        self._sent = 0
        self._taken = 0
        self._since = 0.0
        self._ending: asyncio.TimerHandle | None = None
        self._over = False

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._since = self._lanes.loop.time()
        self._lanes.entered(self)
        try:
            self._counted = self._lanes.connections.open()
        except LimitExceeded as error:
            self._transport.write(closing(503, error, None))
            self._end()
            return
        if self._lanes.closing:
            self._end()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; what was asked is cancelled."""
        del exc
        self._over = True
        self._attendance.leave()
        if self._counted is not None:
            self._counted.close()
        if self._ending is not None:
            self._ending.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._waiting is not None:
            self._waiting.leave()
        self._drop_answer()
        self._unread.clear()
        self._known.clear()
        self._head = NO_HEAD
        self._lanes.left(self)

    def eof_received(self) -> bool:
        """Take note that the client sends no more; keep the connection while a whole request waits for its answer."""
        self._said_all = True
        if self._over:
            return False
        if not self._busy:
            if self._unread and not self._needed:  # a head without an end: the slow lane knows what is wrong with it
                return self._hand_over()
            return False
        self._attendance.leave()
        if self._parts is None:  # who takes a large answer is watched as he does
            self._ending = self._lanes.loop.call_later(self._lanes.patience.half_closed, self.abort)
        return True

    def pause_writing(self) -> None:
        """Send no more for now."""
        self._writable = False
        self._since = self._lanes.loop.time()

    def resume_writing(self) -> None:
        """Go on sending, or with the next request."""
        self._writable = True
        if self._writing:  # whoever writes goes on by himself
            return
        if self._parts is not None:
            self._pump()
        elif self._busy and self._task is None and self._waiting is None:
            self._answered()

    def data_received(self, data: bytes) -> None:
        """Answer the requests in `data`, or keep it for later."""
        self._lanes.door.vigil.came()
        if self._over:
            return
        if not self._busy and data.startswith(self._head):
            head = len(self._head)
            if len(data) == head + self._length and not self._unread and self._still_asks():
                self._read_usual(data[head:])
                return
        if self._busy:
            self._keep(data)
            if self._held > AT_ONCE and not self._stopped:
                self._stopped = True
                self._transport.pause_reading()
            return
        if self._unread:
            self._keep(data)
            if self._held < self._needed:
                return
            self._read(*self._all_unread())
            return
        self._read(data)

    # -- what the listener says

    def look(self, now: float) -> None:
        """End what has waited too long."""
        if self._since == NOW:
            self._since = now
        waited, patience = now - self._since, self._lanes.patience
        if self._over or not self._writable:
            taken = self._sent - self._transport.get_write_buffer_size()
            if taken != self._taken:
                self._taken, self._since = taken, now
            elif waited > patience.send:
                if not self._over:
                    self._lanes.connections.count_cut_off("http")
                self.abort()
        elif self._busy:
            return
        elif self._needed:
            if waited > patience.body:
                late = InvalidRequest(f"the body did not arrive within {patience.body:g} s")
                self._write(closing(408, late, None if self._plain is None else self._plain.claimed.page))
                self._end()
        elif waited > patience.idle:
            self._end()

    def finish(self) -> None:
        """End once what is in flight is answered."""
        if not self._busy and not self._needed:
            self._end()

    def abort(self) -> None:
        """End at once."""
        self._over = True
        self._transport.abort()

    # -- requests

    def _read_usual(self, body: bytes) -> None:
        """Answer one request that came alone, by the same head as the one before: what `_read` would do, in few steps."""
        outcome = self._lanes.door.pass_on(body, self._context, self._take)
        if type(outcome) is Waiting:
            self._busy = True
            self._waiting = outcome
        elif type(outcome) is bytes:
            self._since = NOW
            self._write(self._heads.full(len(outcome)) + outcome)
            self._go_on(0)
        elif outcome is None:
            self._since = NOW
            self._write(self._heads.empty())
            self._go_on(0)
        else:
            self._wait_for(cast("Large | Later", outcome))

    def _still_asks(self) -> bool:
        """Tell whether who asked last still is who he was: a token may be revoked at any moment."""
        plain, identity = self._plain, self._identity
        return plain is not None and identity is not None and (plain.identity is not None or identity.holds())

    def _read(self, data: bytes, at: int = 0) -> None:
        """Answer the whole requests in `data` from `at`, up to one that has to be waited for or is not plain."""
        answers: list[bytes] = []
        size = stop = 0
        later: Large | Later | Waiting | None = None
        while at < len(data) and later is None and len(answers) < 2 * IN_A_ROW and size < AT_ONCE:
            stop = self._next(data, at)
            if stop < 0:
                break
            outcome = self._lanes.door.pass_on(data[self._body_at : stop], self._context, self._take)
            at = stop
            if type(outcome) is bytes:
                size += len(outcome)
                answers += (self._heads.full(len(outcome)), outcome)
            elif outcome is None:
                answers += (self._heads.empty(), b"")
            else:
                later = cast("Large | Later | Waiting", outcome)
        if answers:
            self._since = NOW
            self._write(b"".join(answers))
        if at < len(data):
            self._unread, self._skip, self._held = [data], at, len(data) - at
        if later is not None:
            self._wait_for(later)
        else:
            self._go_on(stop)

    def _next(self, data: bytes, at: int) -> int:
        """Return where the request at `at` ends, and know who asks and where its body begins; or `HALF`, or `FOREIGN`."""
        end = data.find(b"\r\n\r\n", at) + 4
        if end == 3:
            self._needed = 0
            return HALF if may_become_plain(data[at : at + LONGEST + 1]) else FOREIGN
        plain = self._judged(data[at:end])
        if plain is None:
            return FOREIGN
        stop = end + plain.length
        if stop > len(data):
            self._needed = stop - at
            self._since = self._lanes.loop.time()
            return HALF
        self._needed = 0
        self._body_at = end
        return stop

    def _judged(self, head: bytes) -> PlainHead | None:
        """Return what `head` says, and know who asks by it; None: the slow lane must say it, or refuse it."""
        known = self._known.get(head)
        if known is None:
            plain = self._lanes.heads.read(head)
            if plain is None:
                return None
            try:
                identity = plain.identity or identify(plain.claimed.page, plain.claimed.token, self._lanes.tokens)
            except Turned:
                return None
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[head] = plain, identity
        else:
            plain, identity = known
            if plain.identity is None and not identity.holds():  # a token may be revoked at any moment
                del self._known[head]
                return None
        self._plain = plain
        if identity is not self._identity and not self._asks_as(identity):
            self._head = NO_HEAD
            return None
        self._head, self._length = head, plain.length
        return plain

    def _asks_as(self, identity: Identity) -> bool:
        """Count the connection for who asks now, and make what its requests share."""
        known = self._identity
        if known is None or known.origin != identity.origin or known.page != identity.page:
            try:
                cast(Connection, self._counted).belongs_to(identity.origin)
            except LimitExceeded:
                self._identity = None
                return False
            self._context = self._lanes.door.bound(Context(identity.origin, "http", None, self._attendance))
            self._heads = self._lanes.heads_for(identity.page)
        self._identity = identity
        return True

    # -- answers

    def _wait_for(self, later: Large | Later | Waiting) -> None:
        """Answer later: when the node has, in a task, or part by part."""
        self._busy = True
        if type(later) is Waiting:
            self._waiting = later
        elif asyncio.iscoroutine(later):
            self._task = self._lanes.loop.create_task(self._run(later))
        else:
            self._begin_large(cast(Large, later))

    def _take(self, body: Body | None) -> None:
        """Send the answer of a call that was with the node, in the turn in which that was read."""
        if self._unread:  # what is asked next is no matter of the node's connection
            self._lanes.loop.call_soon(self._hand_over_answer, body)
        else:
            self._hand_over_answer(body)

    def _hand_over_answer(self, body: Body | None) -> None:
        self._waiting = None
        if self._over or self._transport.is_closing():  # nobody is there; connection_lost follows
            bodies.close(body)
            return
        try:
            if type(body) is bytes and len(body) <= AT_ONCE:
                self._write(self._heads.full(len(body)) + body)
                if self._writable:
                    self._answered()
            else:
                self._deliver(body)
        except Exception:
            logger.exception("an answer could not be sent")
            self.abort()

    async def _run(self, later: Later) -> None:
        try:
            body = await later
        except BaseException:  # it was ended from within: there will be no answer, so there is an end
            if not self._over:
                self.abort()
            raise
        self._task = None
        if self._over or self._transport.is_closing():  # nobody is there; connection_lost follows
            bodies.close(body)
        else:
            self._deliver(body)

    def _deliver(self, body: Body | None) -> None:
        if body is None:
            self._write(self._heads.empty())
        elif not isinstance(body, bytes):
            self._begin_large(body)
            return
        elif len(body) <= AT_ONCE:
            self._write(self._heads.full(len(body)) + body)
        else:  # not copied once more; nor by writelines(), which asks nobody to pause on Python 3.12
            self._write(self._heads.full(len(body)))
            self._write(body)
        if self._writable:
            self._answered()

    def _begin_large(self, body: Large) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._answer, self._parts = body, body.parts()
        self._write(self._heads.full(body.length))
        self._pump()

    def _pump(self) -> None:
        """Send parts of a large answer as long as the client takes them."""
        parts = cast("Iterator[bytes]", self._parts)
        while self._writable:
            try:
                part = next(parts, None)
            except (OSError, ValueError):
                logger.exception("a large answer could not be read back")
                self.abort()
                return
            if part is None:
                self._drop_answer()
                self._answered()
                return
            self._write(part)

    def _drop_answer(self) -> None:
        bodies.close(self._answer)
        self._answer = self._parts = None

    def _answered(self) -> None:
        """Take up what came while the answer was made."""
        if self._over:
            return
        self._busy = False
        self._since = NOW
        if self._unread and not self._lanes.closing:
            self._read(*self._all_unread())
        else:
            self._go_on(0)
        if self._stopped and (not self._busy or self._held <= AT_ONCE) and not self._over:
            self._stopped = False
            self._transport.resume_reading()

    def _go_on(self, stop: int) -> None:
        """Do what is right after all answers that can be given: wait for the client, go on soon, hand over, or end."""
        if not self._writable:
            self._busy = True  # until it can be written again
        elif stop == FOREIGN and not self._lanes.closing:
            self._hand_over()
        elif self._unread and stop > 0:  # others have their turn first
            self._busy = True
            self._lanes.loop.call_soon(self._answered)
        elif self._said_all or (self._lanes.closing and not self._needed):
            self._end()
        else:
            self._lanes.door.vigil.expect()

    # -- bytes

    def _write(self, data: bytes) -> None:
        self._sent += len(data)
        self._writing = True
        self._transport.write(data)
        self._writing = False

    def _keep(self, data: bytes) -> None:
        self._unread.append(data)
        self._held += len(data)

    def _all_unread(self) -> tuple[bytes, int]:
        """Return what was not read, and where in it to begin."""
        data, at = self._unread[0], self._skip
        if len(self._unread) > 1:
            data, at = b"".join((data[at:], *self._unread[1:])), 0
        self._unread, self._skip, self._held = [], 0, 0
        return data, at

    def _end(self) -> None:
        """End the connection once everything written is taken."""
        self._over = True
        self._since = self._lanes.loop.time()
        self._transport.close()

    def _hand_over(self) -> bool:
        """Leave the connection to the slow lane, with everything not read; False: it is done with it already."""
        self._over = True
        self._lanes.left(self)
        slow = self._lanes.slow(cast(Connection, self._counted))
        self._transport.set_protocol(slow)
        slow.connection_made(self._transport)
        if self._stopped:
            self._transport.resume_reading()
        data, at = self._all_unread()
        slow.data_received(data[at:])
        if self._said_all and not slow.eof_received():
            self._transport.close()
            return False
        return True
