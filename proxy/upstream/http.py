"""A node over HTTP POST: a pool of kept-alive connections, one request at a time on each, the caller's raw id kept.

Stands between `Node` and `http_connection`. Fixed URL: no redirects, no cookies, no proxies of the environment, no header of any caller
(security.md 8). Before a new connection is used the node is verified over it, because another chain may have come up at the same place
since the last one; connections that are wanted at one moment share one look.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from middleware.waist import LargeReply, Request
from proxy.upstream import envelope
from proxy.upstream.arrival import Keeping
from proxy.upstream.endpoint import Endpoint, connect
from proxy.upstream.exchange import Exchange
from proxy.upstream.figures import NodeFigures
from proxy.upstream.http_connection import Connection
from proxy.upstream.node_socket import Ask, in_memory
from proxy.upstream.traits import traits

_CONNECTIONS: Final = 128
# So many while calls hold more than half of those for a look's seconds each, seen twice in a row: once is also what a process sees that stood still.
_MOST_CONNECTIONS: Final = 512
_LONG_CONNECTIONS: Final = 32
# An idle connection may have been forgotten on the way; after this long nothing is trusted to it.
_IDLE_SECONDS: Final = 30


class Http:
    """One node over HTTP. `keeping` bounds its answers; `verify` is asked before each new connection is used.

    Every `look_seconds` it is seen whether calls wait because slow ones have all connections.
    """

    def __init__(
        self,
        to: Endpoint,
        keeping: Keeping,
        verify: Callable[[Ask], Awaitable[None]],
        figures: NodeFigures,
        connect_seconds: float = 10,
        look_seconds: float = 0.25,
    ) -> None:
        self._to = to
        self._keeping = keeping
        self._verify = verify
        self._figures = figures
        self._connect_seconds = connect_seconds
        self._look_seconds = look_seconds
        lines = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
        self._head = (lines % (to.target, to.head)).replace(b"%", b"%%") + b"Content-Length: %d\r\n\r\n"
        self._all: set[Connection] = set()
        self._opening = 0
        self._lost = 0  # connections that ended and were not replaced yet
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._most = _CONNECTIONS
        self._look: asyncio.TimerHandle | None = None  # the next one, while any call waits for a connection
        self._slow = False  # the last one saw slow calls
        self._long = asyncio.Semaphore(_LONG_CONNECTIONS)
        self._verifying = asyncio.Lock()
        self._verified_at = float("-inf")

    def post(self, request: Request) -> Exchange | None:
        """Send `request` at once and return what awaits its answer; None where that takes a connection first."""
        if not self._idle or traits(request.method).long:
            return None
        connection = self._idle_one()
        return None if connection is None else connection.ask(*_envelope(request))

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes | LargeReply:
        """Return the node's answer to `request`, as it came. Raise `Unreachable`, `WrongChain` or `Broken`.

        `alone`: on a new connection.
        """
        if not traits(request.method).long:
            return await self._exchange(request, fresh=alone)
        async with self._long:
            return await self._exchange(request, fresh=alone)

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked over a new connection."""
        connection = await self._bare()
        try:
            return await _question(connection, method, params)
        finally:
            connection.close()

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        if self._look is not None:
            self._look.cancel()
        self._wake(None)

    async def _exchange(self, request: Request, *, fresh: bool) -> bytes | LargeReply:
        connection = await (self._new() if fresh else self._take())
        return await connection.ask(*_envelope(request)).answer()

    def _idle_one(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.loop.time() - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _take(self) -> Connection:
        """Return a connection that is free, opened if need be, or the next one that becomes free."""
        while True:
            if (connection := self._idle_one()) is not None:
                return connection
            if len(self._all) + self._opening < self._most:
                return await self._new()
            loop = asyncio.get_running_loop()
            place: asyncio.Future[Connection | None] = loop.create_future()
            self._waiting.append(place)
            if self._look is None:
                self._look = loop.call_later(self._look_seconds, self._look_at_waiting, loop)
            try:
                handed = await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._pass_on(place.result())
                raise
            if handed is not None and not handed.closed:
                return handed

    async def _new(self) -> Connection:
        """Open a connection and verify the node over it, once for all connections that are wanted at this moment."""
        wanted_at = time.monotonic()
        self._opening += 1
        connection: Connection | None = None
        try:
            connection = await self._bare()
            async with self._verifying:
                if self._verified_at < wanted_at:
                    started_at = time.monotonic()
                    await self._examine(connection)
                    self._verified_at = started_at
            if connection.closed:  # a node may end each connection after one answer
                connection = await self._bare()
            connection.served = 0
            self._all.add(connection)
        except BaseException:
            if connection is not None:
                connection.close()
            self._wake(None)
            raise
        finally:
            self._opening -= 1
        if self._lost:
            self._lost -= 1
            self._figures.reconnects += 1
        return connection

    async def _examine(self, connection: Connection) -> None:
        spare: Connection | None = None

        async def ask(method: str, params: list[Any]) -> bytes:
            nonlocal spare
            asked = connection
            if connection.closed:
                asked = spare = spare if spare is not None and not spare.closed else await self._bare()
            return await _question(asked, method, params)

        try:
            await self._verify(ask)
        finally:
            if spare is not None:
                spare.close()

    async def _bare(self) -> Connection:
        def make() -> Connection:
            return Connection(self._head, self._keeping, self._freed, self._gone)

        return await connect(self._to, make, self._connect_seconds)

    def _freed(self, connection: Connection) -> None:
        if connection in self._all:
            self._pass_on(connection)

    def _look_at_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Allow more connections where slow calls have all there are, so that they do not hold up the quick ones."""
        if all(place.done() for place in self._waiting):
            self._look = None
            self._slow = False
            self._most = _CONNECTIONS
            return
        before, self._slow = self._slow, 2 * sum([one.held(self._look_seconds) for one in self._all]) > _CONNECTIONS
        if before and self._slow and self._most != _MOST_CONNECTIONS:
            self._most = _MOST_CONNECTIONS
            while self._wake(None):
                """Each looks for itself."""
        self._look = loop.call_later(self._look_seconds, self._look_at_waiting, loop)

    def _pass_on(self, connection: Connection | None) -> None:
        """Let the next who waits go on, with `connection` if there is one; else keep it."""
        if self._wake(connection) or connection is None:
            return
        if len(self._all) > _CONNECTIONS:  # they were for the time of slow calls
            self._all.discard(connection)
            connection.close()
        else:
            self._idle.append(connection)

    def _wake(self, connection: Connection | None) -> bool:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(connection)
                return True
        return False

    def _gone(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            self._lost = min(self._lost + 1, _CONNECTIONS)
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake(None)


def _envelope(request: Request) -> tuple[bytes, str, bytes]:
    raw_id = b"1" if request.id is None else request.id
    return envelope.write(request, raw_id), request.method, raw_id


async def _question(connection: Connection, method: str, params: list[Any]) -> bytes:
    return in_memory(await connection.ask(*_envelope(Request(method, msgspec.json.encode(params)))).answer())
