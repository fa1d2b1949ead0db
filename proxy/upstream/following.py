"""Everything that goes on by itself towards the L1 node: the block tracker, the node's announcements, subscriptions.

Owned by `L1`, started after the chain's identity is known. One task owns all others; its end is the end of them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from middleware.errors import Disconnected, RpcError
from middleware.waist import NodeReply, Request
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.failures import NodeFailure
from proxy.upstream.line import Line
from proxy.upstream.subscriptions import Subscriptions

log = logging.getLogger("l2proxy.upstream")

# Seconds between looks at the newest block: near dev nodes make blocks at any moment and go back without a word.
POLL_DEV, POLL_NEAR, POLL_FAR, POLL_ANNOUNCED = 0.2, 1.0, 4.0, 12.0


class Following:
    """The tasks that follow the chain. `line`: the shared socket, None over HTTP; `confirm` raises when the chain is foreign;
    `revive` tries nodes that failed;
    `poll_seconds`: between looks at a node that announces nothing.
    """

    def __init__(
        self,
        line: Callable[[], Awaitable[Line | None]],
        call: Callable[..., Awaitable[Any]],
        confirm: Callable[[], Awaitable[None]],
        revive: Callable[[], Awaitable[None]],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._line = line
        self._revive = revive
        self._poll_seconds = poll_seconds
        self._announced = False
        self._owner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self.blocks = BlockTracker(call, self._interval, confirm)
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
                self._spawn(self.blocks.run())
                self._spawn(self._listen())
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

    async def _listen(self) -> None:
        """Let a node that announces new heads hasten the tracker; what it announces is looked at, never believed."""
        while True:
            try:
                line = await self._line()
                if line is not None:
                    request = Request("eth_subscribe", b'["newHeads"]')
                    NodeReply(await line.ask(request, b"1", deliver=self._hasten)).result()
                    await line.over.wait()
            except RpcError as error:
                if not isinstance(error, Disconnected):
                    log.info("the L1 node announces no new heads, it is polled: %s", error.message)
                    return
            except NodeFailure as failure:
                log.info("the L1 node announces no new heads at this moment: %s", failure)
            self._announced = False
            await asyncio.sleep(POLL_FAR)

    def _hasten(self, _: bytes) -> None:
        self._announced = True
        self.blocks.poke()

    def _interval(self) -> float:
        seconds = self._poll_seconds()
        return POLL_ANNOUNCED if self._announced and seconds > POLL_DEV else seconds
