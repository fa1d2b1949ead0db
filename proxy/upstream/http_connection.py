"""One kept-alive HTTP/1.1 connection to a node: one request at a time, the answer as it came.

Held by `http`'s pool. The answer is checked to be one JSON object, so that the page of a captive portal never becomes an answer, and
to carry the id that was sent, so that what a confused gateway meant for somebody else reaches nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

import msgspec

from middleware.waist import LargeReply
from proxy.upstream import envelope
from proxy.upstream.arrival import Keeping, Lost, Oversize
from proxy.upstream.endpoint import acknowledge
from proxy.upstream.exchange import Exchange
from proxy.upstream.failures import Broken, NodeFailure, Overloaded
from proxy.upstream.http_response import NotHttp, ResponseReader

_TOO_MANY: Final = 429


class Course(Exchange):
    """One request on its connection."""

    __slots__ = ("connection", "raw_id")

    def __init__(self, connection: Connection, method: str, raw_id: bytes) -> None:
        super().__init__(method)
        self.connection = connection
        self.raw_id = raw_id

    def give_up(self, failure: NodeFailure) -> None:
        """End the connection too, which its answer would come on."""
        self.fail(failure)
        self.connection.close()

    def leave(self) -> None:
        """Give the connection up, if the answer has yet to come over it: nobody reads it."""
        if not self.done:
            self.done = True
            self.connection.close()


class Connection:
    """One connection, an `asyncio.Protocol` by its methods. `free` hears that it can take the next request, `gone` once that it has ended."""

    def __init__(
        self, head: bytes, keeping: Keeping, free: Callable[[Connection], None], gone: Callable[[Connection], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = self.loop.time()
        self.served = 0  # callers' requests answered
        self._asked_at = 0.0  # by the loop's clock, the request that has it now
        self._head = head
        self._keeping = keeping
        self._free = free
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._course: Course | None = None
        self._reader: ResponseReader | None = None
        self._heard = False

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be asked any more."""
        return self._transport is None or self._transport.is_closing()

    def held(self, seconds: float) -> bool:
        """Tell whether one request has had it for so long."""
        return self._course is not None and self.loop.time() - self._asked_at >= seconds

    def ask(self, frame: bytes, method: str, raw_id: bytes) -> Course:
        """Send `frame`, which asks for `method` under `raw_id`, and return what awaits its answer; the connection is free. Raise `Broken`."""
        if self._transport is None or self._transport.is_closing():
            raise Broken("the L1 node closed the connection", repeatable=True)
        course = self._course = Course(self, method, raw_id)
        self._heard = False
        self._asked_at = self.loop.time()
        self._transport.write(self._head % len(frame) + frame)
        return course

    def close(self) -> None:
        """End the connection; who waits for an answer hears of it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def pause_writing(self) -> None:
        """Learn that the node does not read: the one request there is waits for it anyway."""

    def resume_writing(self) -> None:
        """Learn that the node reads again."""

    def data_received(self, data: bytes) -> None:
        if self._course is None:
            self.close()  # nobody asked
            return
        self._heard = True
        reader = self._reader
        if reader is None:
            reader = self._reader = ResponseReader(self._keeping)
        try:
            whole = reader.feed(data)
        except NotHttp as error:
            self._course.fail(Broken(f"the L1 node's answer is unusable: {error}", repeatable=False))
            self.close()
            return
        if whole:
            self._answered(reader)
        elif self._transport is not None:
            acknowledge(self._transport)

    def eof_received(self) -> bool:
        if self._reader is not None and self._reader.feed_eof():
            self._answered(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._reader is not None:
            self._reader.abandon()
        if self._course is not None:
            if self._heard:
                self._course.fail(Broken("the L1 node's answer broke off", repeatable=False))
            else:
                closed = "the L1 node closed the connection without an answer"
                self._course.fail(Broken(closed, repeatable=self.served > 0, alone=True))
            self._course = None
        self._gone(self)

    def _answered(self, reader: ResponseReader) -> None:
        course, self._course, self._reader = self._course, None, None
        assert course is not None  # noqa: S101
        body: bytes | LargeReply = b""
        failure: Exception | None = None
        try:
            body = _checked(reader, course.raw_id)
        except (NodeFailure, Exception) as error:  # noqa: BLE001  (whatever it is, it is the asker's answer)
            failure = error
        if reader.keep_alive and not reader.trailing and not isinstance(failure, Broken):
            self.served += 1
            self.idle_since = self.loop.time()
            self._free(self)
        else:
            self.close()
        if failure is not None:
            course.fail(failure)
        else:
            course.settle(body)


def _checked(reader: ResponseReader, raw_id: bytes) -> bytes | LargeReply:
    """Return the answer, if it is one. Raise the `NodeFailure` it is otherwise, or `LimitExceeded`."""
    status, body = reader.status, reader.body
    if isinstance(body, Oversize):
        raise body.refusal()
    if 300 <= status < 400:
        raise Broken(f"it redirects elsewhere (HTTP {status}); give its final URL", repeatable=False)
    if isinstance(body, Lost):
        raise Broken(f"the L1 node's answer is unusable: {body.trouble}", repeatable=False)
    if isinstance(body, LargeReply):
        return body
    refuses = status == _TOO_MANY or status >= 500
    try:
        incoming = envelope.read(body, strictly=status != 200)
    except msgspec.DecodeError as error:
        what = "something that is not JSON-RPC" if status == 200 else f"HTTP {status}"
        raise Broken(f"the L1 node answered with {what}", repeatable=False) from error
    if incoming.method is not msgspec.UNSET:
        raise Broken("the L1 node answered with a notification", repeatable=False)
    if refuses:
        raise Overloaded(f"it answered with HTTP {status}", body)
    given = incoming.id
    if given is not msgspec.UNSET and (found := bytes(given)) != raw_id and envelope.is_of_another(found, raw_id):
        raise Broken("the L1 node answered another request than the one it was asked", repeatable=False)
    return body
