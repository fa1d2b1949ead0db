"""The connections of the fast lane of one listener: what they share, how long they may wait, and their end.

Between `http` (which makes it) and `FastLane` (one per connection). One sweep looks after the time of all of them: an idle
connection, a body that does not come, an answer nobody takes; no connection has a timer of its own for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.server.connections import Connection, Connections
from proxy.server.door import Door
from proxy.server.identity import Tokens
from proxy.server.plain_heads import PlainHeads
from proxy.server.replies import Heads

if TYPE_CHECKING:
    from proxy.server.fast_lane import FastLane

MOST_PAGES: Final = 256  # whose heads are kept


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection is waited for, in seconds: for a request head, for a body, for an answer to be taken."""

    idle: float
    body: float
    send: float
    half_closed: float


class Lanes:
    """What the fast connections of one listener share. `slow` makes the protocol of the slow lane for a counted connection."""

    def __init__(
        self,
        door: Door,
        tokens: Tokens,
        connections: Connections,
        heads: PlainHeads,
        slow: Callable[[Connection], asyncio.Protocol],
        patience: Patience,
    ) -> None:
        self.door = door
        self.tokens = tokens
        self.connections = connections
        self.heads = heads
        self.slow = slow
        self.patience = patience
        self.loop = asyncio.get_running_loop()
        self.closing = False
        self._heads_for: dict[str | None, Heads] = {}
        self._lanes: set[FastLane] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._every = min(5.0, patience.idle / 4, patience.body / 4, patience.send / 4)
        self._sweep: asyncio.TimerHandle | None = None

    def entered(self, lane: FastLane) -> None:
        """Look after one more connection."""
        self._lanes.add(lane)
        self._empty.clear()
        if self._sweep is None:
            self._sweep = self.loop.call_later(self._every, self._look)

    def left(self, lane: FastLane) -> None:
        """Look after it no more: it ended, or the slow lane has it."""
        self._lanes.discard(lane)
        if not self._lanes:
            self._empty.set()

    def heads_for(self, page: str | None) -> Heads:
        """Return the heads of the answers to a page, or to none."""
        heads = self._heads_for.get(page)
        if heads is None:
            if len(self._heads_for) >= MOST_PAGES:
                self._heads_for.clear()
            heads = self._heads_for[page] = Heads(page)
        return heads

    def _look(self) -> None:
        self._sweep = self.loop.call_later(self._every, self._look) if self._lanes else None
        now = self.loop.time()
        for lane in tuple(self._lanes):
            lane.look(now)

    async def close(self, grace: float) -> None:
        """Finish what is in flight for at most `grace` seconds, end every connection."""
        self.closing = True
        for lane in tuple(self._lanes):
            lane.finish()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            for lane in tuple(self._lanes):
                lane.abort()
        if self._sweep is not None:
            self._sweep.cancel()
