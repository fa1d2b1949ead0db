"""Everything that goes on by itself towards the L1 node: the block tracker, the node's announcements, subscriptions.

Owned by `L1`, started after the chain's identity is known. One task owns all others; its end is the end of them all. The one
`eth_subscribe newHeads` of the whole proxy is made here, however many callers follow the chain.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from middleware.errors import Disconnected, RpcError
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.chain_events import Event, NewHead
from proxy.upstream.failures import NodeFailure
from proxy.upstream.line import Line
from proxy.upstream.node_subscription import NodeSubscription
from proxy.upstream.pace import POLL_DEV, POLL_FAR, POLL_NEAR, Pace
from proxy.upstream.settled import Settled
from proxy.upstream.subscriptions import Subscriptions

__all__ = ["POLL_DEV", "POLL_FAR", "POLL_NEAR", "Following"]

log = logging.getLogger("l2proxy.upstream")

_POLL_ANNOUNCED = 12.0  # seconds between looks at a node that announces
_LISTEN_AGAIN = 0.5, 4.0  # seconds until a lost announcement is asked for again: first, longest
_DEAF_SECONDS = 5.0  # of new blocks that were found and not announced, after which the announcement is made anew
_SETTLED_DEV, _SETTLED = 1.0, 30.0  # seconds between readings of the finalized block


class Following:
    """The tasks that follow the chain. `line`: the shared socket, None over HTTP; `look` calls for one block; `confirm` raises when the chain is foreign;
    `revive` tries nodes that failed; `poll_seconds`: between looks at a node that announces nothing, at most; `pushes_bodies`: whether
    nodes of this kind announce whole blocks.
    """

    def __init__(
        self,
        line: Callable[[], Awaitable[Line | None]],
        call: Callable[..., Awaitable[Any]],
        look: Callable[..., Awaitable[Any]],
        confirm: Callable[[], Awaitable[None]],
        revive: Callable[[], Awaitable[None]],
        poll_seconds: Callable[[], float],
        pushes_bodies: Callable[[], bool],
    ) -> None:
        self._line = line
        self._revive = revive
        self._poll_seconds = poll_seconds
        self._announced = False
        self._silent_since: float | None = None
        self._deaf = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self._pace = Pace(poll_seconds)
        self.blocks = BlockTracker(look, self._interval, confirm, self._is_dev, pushes_bodies)
        self.blocks.on_change(self._changed)
        self._settled = Settled(self.blocks, look, lambda: _SETTLED_DEV if self._is_dev() else _SETTLED)
        self.subscriptions = Subscriptions(line, call, self.blocks, self._spawn)

    async def start(self) -> None:
        """Begin to follow the chain."""
        running = asyncio.Event()
        self._owner = asyncio.create_task(self._run(running))
        await running.wait()

    async def stop(self) -> None:
        """End every task."""
        self._stopping = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
            self._owner = None

    async def _run(self, running: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                self._spawn(self._settled.run())
                self._spawn(self.blocks.run())
                self._spawn(self._keep_listening())
                self._spawn(self._keep_reviving())
                running.set()
        except Exception:
            log.critical("the proxy has stopped following the L1 chain by a fault of its own", exc_info=True)
            raise
        finally:
            running.set()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._group is None or self._stopping:
            coroutine.close()
            raise Disconnected("the L1 node is not followed: the proxy is starting or stopping")
        return self._group.create_task(coroutine)

    async def _keep_reviving(self) -> None:
        """Try nodes that failed again, so that no caller has to find out."""
        while True:
            await asyncio.sleep(POLL_NEAR)
            await self._revive()

    # -- what the node announces

    async def _keep_listening(self) -> None:
        """Hold the node's own announcement of new heads up, over reconnects; a node that has none is polled."""
        pause, longest = _LISTEN_AGAIN
        while True:
            try:
                line = await self._line()
                if line is not None:
                    await self._listen(line)
                    pause = _LISTEN_AGAIN[0]
            except RpcError as error:
                if not isinstance(error, Disconnected):
                    log.info("the L1 node announces no new heads, it is polled: %s", error.message)
                    pause = longest  # another node of the config may be asked by then
            except NodeFailure as failure:
                log.info("the L1 node announces no new heads at this moment: %s", failure)
            self._announced = False
            self.blocks.poke()
            await asyncio.sleep(pause)
            pause = min(longest, pause * 2)

    async def _listen(self, line: Line) -> None:
        """Take announcements of `line` until it ends, or stays silent while there are new blocks."""
        self._deaf.clear()
        self._silent_since = None
        async with NodeSubscription(line, b'["newHeads"]', self._heard, self.blocks.figures, self._spawn) as held:
            await held.until_over(self._deaf)

    def _heard(self, header: bytes) -> None:
        self._announced = True
        self.blocks.announced(header)
        self._silent_since = None

    def _changed(self, event: Event) -> None:
        self._pace.take(event)
        if isinstance(event, NewHead) and self._announced:
            now = time.monotonic()
            if self._silent_since is None:
                self._silent_since = now
            elif now - self._silent_since > _DEAF_SECONDS:
                self._deaf.set()

    # -- how often it is looked at

    def _is_dev(self) -> bool:
        return self._poll_seconds() <= POLL_DEV

    def _interval(self) -> float:
        return _POLL_ANNOUNCED if self._announced and not self._is_dev() else self._pace.wait()
