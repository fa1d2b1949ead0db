"""A node over sockets: one shared by all requests that can be numbered, a few for those that travel alone.

Stands between `Node` and the sockets (`ipc`, `ws`): opens them when they are needed, verifies each before its first use, and chooses
which a request takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from middleware.waist import Request
from proxy.upstream import envelope
from proxy.upstream.line import Line
from proxy.upstream.node_socket import Ask, Open
from proxy.upstream.solitary import Solitary

# Requests that travel alone: connections open at once, and how many idle ones are kept.
_ALONE_OPEN = 8
_ALONE_IDLE = 2


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

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked over the shared socket."""
        line = await self.line()
        return await line.ask(Request(method, msgspec.json.encode(params)), b"1")

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
