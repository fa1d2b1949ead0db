"""A node over sockets: a few shared by all requests that can be numbered, others for those that travel alone or take long.

Stands between `Node` and the sockets (`ipc`, `ws`): opens them when they are needed, verifies each before its first use, and chooses
which a request takes: of the shared ones the first that is not busy, so that few have much to write at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from middleware.waist import LargeReply, Request
from proxy.upstream import envelope
from proxy.upstream.exchange import Exchange
from proxy.upstream.failures import Broken, NodeFailure, Unreachable
from proxy.upstream.figures import NodeFigures
from proxy.upstream.line import Line
from proxy.upstream.node_socket import Ask, Open
from proxy.upstream.solitary import Solitary
from proxy.upstream.traits import traits

log = logging.getLogger("l2proxy.upstream")

# Shared sockets at most: what shares a socket shares its writes and reads, and system calls are what a call costs most. Seconds
# between two that are opened for want of more, and after one that failed or ended.
_LINES: Final = 4
_PACE_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 5.0
# Requests that travel alone, and long ones: connections open at once, and how many idle ones are kept.
_ALONE_OPEN: Final = 8
_LONG_OPEN: Final = 16
_IDLE: Final = 4


class Multiplexed:
    """A node over sockets. `verify` is handed a way to ask on each new socket before anything else may use it; what it raises
    closes the socket.
    """

    def __init__(self, open_socket: Open, verify: Callable[[Ask], Awaitable[None]], figures: NodeFigures) -> None:
        self._open_socket = open_socket
        self._verify = verify
        self._figures = figures
        self._numbers = itertools.count(1)
        self._lines: list[Line] = []
        self._lost = 0  # shared sockets that ended and were not replaced yet
        self._opening: asyncio.Task[Line] | None = None
        self._not_before = float("-inf")
        self._alone = asyncio.Semaphore(_ALONE_OPEN)
        self._long = asyncio.Semaphore(_LONG_OPEN)
        self._idle: list[Solitary] = []

    def post(self, request: Request) -> Exchange | None:
        """Send `request` at once and return what awaits its answer; None where that takes a connection or a place first."""
        lines = self._lines
        if not lines or traits(request.method).long or envelope.travels_alone(request):
            return None
        line = lines[0]
        if line.blocked or len(line.pending) >= line.most:
            line = self._less_busy()
        if line.blocked:
            return None
        try:
            return line.post(request, b"null" if request.id is None else request.id)
        except Broken:
            return None

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes | LargeReply:
        """Return the node's answer to `request` with the caller's id. Raise `Unreachable`, `WrongChain` or `Broken`.

        `alone`: on a connection of its own, whatever the request looks like.
        """
        raw_id = b"null" if request.id is None else request.id
        known = traits(request.method)
        odd = envelope.travels_alone(request)
        if alone or known.long or odd:
            numbered = known.repeatable and not (alone or odd)
            async with self._long if known.long else self._alone:
                return await self._apart(request, raw_id, b"%d" % next(self._numbers) if numbered else None)
        line = await self.line()
        return await line.exchange(request, raw_id)

    async def line(self) -> Line:
        """Return the first shared socket that nothing blocks, opened and verified if need be. Raise why there is none."""
        while True:
            usable = [line for line in self._lines if line.usable]
            if free := [line for line in usable if not line.blocked]:
                return free[0]
            if len(usable) >= _LINES:
                return usable[0]
            begun_before = self._opening is not None and not self._opening.done()
            opening = self._open()
            try:
                await asyncio.shield(opening)
            except asyncio.CancelledError as cancelled:
                task = asyncio.current_task()
                if not opening.cancelled() or (task is not None and task.cancelling()):
                    raise
                raise Unreachable("the connection to the L1 node has ended") from cancelled  # by `close`
            except NodeFailure:
                if usable and usable[0].usable:
                    return usable[0]
                if not begun_before:  # what was begun before may have met the end of the last one
                    raise

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked over the shared socket."""
        line = await self.line()
        return await line.ask(Request(method, msgspec.json.encode(params)), b"1")

    async def close(self) -> None:
        """Close every socket; what waits hears that the connection ended."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for line in list(self._lines):
            if line.socket is not None:
                line.socket.close()
        while self._idle:
            if (socket := self._idle.pop().socket) is not None:
                socket.close()

    def _less_busy(self) -> Line:
        """Return the first shared socket that is not busy, or the one with the fewest answers due; ask for one more then."""
        open_ones = [line for line in self._lines if not line.blocked] or self._lines
        for line in open_ones:
            if len(line.pending) < line.most:
                return line
        self._grow()
        return min(open_ones, key=lambda line: len(line.pending))

    def _grow(self) -> None:
        """Open one more shared socket for those who come later; where that fails the present ones do."""
        if len(self._lines) < _LINES and self._opening is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + _PACE_SECONDS
            self._open()

    def _open(self) -> asyncio.Task[Line]:
        """Open a shared socket, once for all who want it."""
        if self._opening is None or self._opening.done():  # done, and `_opened` was not called yet: its end is old news
            self._opening = asyncio.create_task(self._new_line())
            self._opening.add_done_callback(self._opened)
        return self._opening

    def _opened(self, task: asyncio.Task[Line]) -> None:
        if self._opening is task:
            self._opening = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            log.debug("no shared socket to the L1 node: %s", error)

    async def _new_line(self) -> Line:
        line = Line(self._numbers, self._ended)
        line.socket = await self._open_socket(line)

        async def ask(method: str, params: list[Any]) -> bytes:
            return await line.ask(Request(method, msgspec.json.encode(params)), b"1")

        try:
            await self._verify(ask)
        except BaseException:
            line.socket.close()
            raise
        if not line.usable:
            raise Unreachable("it closes every connection at once")
        self._lines.append(line)
        if self._lost:
            self._lost -= 1
            self._figures.reconnects += 1
        return line

    def _ended(self, line: Line) -> None:
        if line in self._lines:
            self._lines.remove(line)
            self._lost += 1
            self._not_before = time.monotonic() + _AGAIN_SECONDS

    async def _apart(self, request: Request, raw_id: bytes, number: bytes | None) -> bytes | LargeReply:
        """Return the answer to `request`, sent over a socket that nobody else uses meanwhile."""
        solitary = await self._fresh_or_idle()
        answer = await solitary.ask(request, raw_id, number)
        if not solitary.over and len(self._idle) < _IDLE:
            self._idle.append(solitary)
        elif solitary.socket is not None:
            solitary.socket.close()
        return answer

    async def _fresh_or_idle(self) -> Solitary:
        while self._idle:
            solitary = self._idle.pop()
            if solitary.socket is not None and not solitary.socket.closed and not solitary.over:
                return solitary
        solitary = Solitary()
        solitary.socket = await self._open_socket(solitary)

        async def ask(method: str, params: list[Any]) -> bytes | LargeReply:
            return await solitary.ask(Request(method, msgspec.json.encode(params)), b"1")

        try:
            await self._verify(ask)
        except BaseException:
            solitary.socket.close()
            raise
        return solitary
