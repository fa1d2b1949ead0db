"""One L1 node: how it is spoken to, whether it may be asked now, and which chain it was last seen to serve.

Stands between `L1`, which knows all nodes, and a transport. A node that could not be asked rests for a while (back-off) and is refused
until then without being touched. Every new connection is verified before use; `admit` decides whether the chain is ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp

from middleware.waist import Request
from proxy.upstream import ipc, ws
from proxy.upstream.addresses import Address, Kind
from proxy.upstream.failures import Broken, NodeFailure, Unreachable, WrongChain
from proxy.upstream.figures import NodeFigures
from proxy.upstream.http import Http
from proxy.upstream.identity import ChainIdentity, read_identity
from proxy.upstream.line import Line
from proxy.upstream.multiplexed import Multiplexed
from proxy.upstream.node_socket import Ask

log = logging.getLogger("l2proxy.upstream")

_VERIFY_SECONDS = 10
_PROBE = Request("eth_chainId", b"[]", b"1")


class Transport(Protocol):
    """A way to one node."""

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes:
        """Return the node's answer with the caller's id."""

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked of what listens there now."""

    async def close(self) -> None:
        """End every connection."""


class Node:
    """One node of the config. `admit(identity)` raises `WrongChain`; `limit` is the largest answer in bytes."""

    def __init__(self, address: Address, limit: int, admit: Callable[[ChainIdentity], None]) -> None:
        self.address = address
        self.identity: ChainIdentity | None = None
        self.trouble: str | None = None
        self.figures = NodeFigures()
        self._admit = admit
        self._session: aiohttp.ClientSession | None = None
        self._first_pause, self._longest_pause = (0.05, 1.0) if address.local else (0.5, 15.0)
        self._pause = self._first_pause
        self._rests_until = float("-inf")
        self._wrong_chain = False
        self._transport = self._make_transport(limit)

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes:
        """Return the node's answer to `request`. Raise `Unreachable`, `WrongChain` or `Broken`; a cause is kept in `trouble`."""
        self._refuse_while_resting()
        try:
            body = await self._transport.exchange(request, alone=alone)
        except (Unreachable, WrongChain) as failure:
            raise self._rest(failure) from failure
        except Broken as broken:
            self.trouble = str(broken)
            raise
        self._works()
        return body

    def hangs(self) -> None:
        """Learn that a request was given up: others are preferred until it answers again."""
        self.trouble = f"{self.address.shown}: it did not answer in time"

    async def line(self) -> Line | None:
        """Return the shared socket, for a subscription; None over HTTP. Raise `Unreachable` or `WrongChain`."""
        if not isinstance(self._transport, Multiplexed):
            return None
        self._refuse_while_resting()
        try:
            return await self._transport.line()
        except (Unreachable, WrongChain) as failure:
            raise self._rest(failure) from failure

    async def try_again(self) -> None:
        """Ask a node that failed for what costs nothing; it works again, or rests longer."""
        try:
            async with asyncio.timeout(_VERIFY_SECONDS):
                await self.exchange(_PROBE)
        except (NodeFailure, TimeoutError) as failure:
            log.debug("%s does not work yet: %s", self.address.shown, failure)

    async def confirm(self) -> None:
        """Verify a node whose chain has changed deeply; a foreign chain ends every connection to it."""
        try:
            await self._verify(self._transport.ask)
        except WrongChain as failure:
            self._rest(failure)
            await self._transport.close()
        except NodeFailure as failure:
            log.info(
                "%s could not be verified now, and will be on its next connection: %s", self.address.shown, failure
            )

    @property
    def resting(self) -> bool:
        """Tell whether the node failed lately and is not asked now."""
        return time.monotonic() < self._rests_until

    async def close(self) -> None:
        """End every connection to the node."""
        await self._transport.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _make_transport(self, limit: int) -> Transport:
        match self.address.kind:
            case Kind.HTTP:
                return Http(self.address.target, limit, self._verify)
            case Kind.IPC:
                return Multiplexed(ipc.opener(self.address.target, limit), self._verify)
            case Kind.WS:
                return Multiplexed(ws.opener(self._own_session, self.address.target, limit), self._verify)

    def _own_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = ws.new_session()
        return self._session

    async def _verify(self, ask: Ask) -> None:
        try:
            async with asyncio.timeout(_VERIFY_SECONDS):
                identity = await read_identity(ask, self.address)
        except TimeoutError as error:
            raise Unreachable(f"it did not say within {_VERIFY_SECONDS} s which chain it serves") from error
        except Broken as error:
            raise Unreachable(f"it did not say which chain it serves: {error}") from error
        self._admit(identity)
        self.identity = identity

    def _refuse_while_resting(self) -> None:
        if self.resting:
            failure = WrongChain if self._wrong_chain else Unreachable
            raise failure(self.trouble or "it did not answer")

    def _rest(self, failure: NodeFailure) -> NodeFailure:
        """Let the node rest, longer each time, and return the failure with the node's name in it."""
        if not self.resting:
            self._rests_until = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, self._longest_pause)
            self._wrong_chain = isinstance(failure, WrongChain)
            self.trouble = f"{self.address.shown}: {failure}"
        return type(failure)(self.trouble)

    def _works(self) -> None:
        self.trouble = None
        self._pause = self._first_pause
