"""One request that passes `L1` without a task: sent in the turn in which it was read, answered in the turn its answer was read.

Made by `L1.send` where a node can be asked at once. What is unusual (the node failed, or refuses) goes on in a task of its own, on the same
ways as every other request (`L1.elsewhere`). It must never let what its asker does with the answer end the socket it came on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from middleware.passing import Then
from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream.exchange import Exchange
from proxy.upstream.failover import refuses
from proxy.upstream.failures import NodeFailure, Overloaded
from proxy.upstream.node import Node
from proxy.vigil import Vigil

log = logging.getLogger("l2proxy.upstream")


class Chain(Protocol):
    """`L1`, as a passage sees it."""

    several: bool
    """Whether there is another node to ask."""
    vigil: Vigil
    """What waits for the answers."""

    def done(self, request: Request, body: bytes | LargeReply) -> NodeReply | LargeReply:
        """Return what the asker gets."""

    async def elsewhere(
        self, request: Request, node: Node, failure: NodeFailure, started: float
    ) -> NodeReply | LargeReply:
        """Take a request on where it failed first."""


class Passage:
    """A request at a node (an `Asker`); `then` hears how it ended."""

    __slots__ = ("_chain", "_exchange", "_node", "_request", "_started", "_task", "_then")

    def __init__(self, chain: Chain, request: Request, node: Node, exchange: Exchange, then: Then) -> None:
        self._chain = chain
        self._request = request
        self._node = node
        self._exchange = exchange
        self._then = then
        self._started = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        figures = node.figures
        figures.requests += 1
        figures.in_flight += 1
        chain.vigil.expect(figures.in_flight)
        exchange.asker = self

    def settled(self, body: bytes | LargeReply) -> None:
        """Hand the answer on."""
        chain, node = self._chain, self._node
        chain.vigil.came()
        node.deadlines.remove(self._exchange)
        node.figures.in_flight -= 1
        node.answered(time.monotonic() - self._started)
        if chain.several and refuses(body):
            self._go_elsewhere(Overloaded("it refuses requests for being too many", body))
            return
        self._hand_over(chain.done(self._request, body))

    def failed(self, error: Exception) -> None:
        """Go on elsewhere, or hand the error on."""
        self._node.deadlines.remove(self._exchange)
        self._node.figures.in_flight -= 1
        if isinstance(error, NodeFailure):
            self._node.failed(error)
            self._go_elsewhere(error)
        else:
            self._hand_on(error)

    def leave(self) -> None:
        """Learn that nobody waits any more; what is at the node stays under its deadline, and ends with it."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._exchange.leave()
            self._node.figures.in_flight -= 1
        self._then.left()

    def _hand_over(self, answer: NodeReply | LargeReply) -> None:
        try:
            self._then.answered(answer)
        except Exception as error:
            log.exception("an answer of the L1 node could not be handed over")
            self._hand_on(error)

    def _hand_on(self, error: Exception) -> None:
        try:
            self._then.failed(error)
        except Exception:
            log.exception("an error could not be handed over")

    def _go_elsewhere(self, failure: NodeFailure) -> None:
        with self._then.speaking():
            self._task = asyncio.get_running_loop().create_task(self._elsewhere(failure))

    async def _elsewhere(self, failure: NodeFailure) -> None:
        try:
            answer = await self._chain.elsewhere(self._request, self._node, failure, self._started)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the asker's answer)
            self._hand_on(error)
        else:
            self._hand_over(answer)
