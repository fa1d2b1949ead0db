"""One connection that carries many calls at once: WebSocket and unix socket. Messages in, answers out as they finish.

Between a transport and `Door`. Reading stops while too much is in flight, so that a caller who asks faster than it is
answered slows down itself and nobody else. When the other side has gone, what it asked is cancelled (a question to the
owner outlives that, see middleware/answers.py); when the proxy stops, what is in flight is finished first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from middleware.delivery import one_message
from middleware.waist import Context
from proxy.server.door import Door, Later
from proxy.server.outbox import Outbox

logger = logging.getLogger("l2proxy.door")

MOST_CALLS = 256
MOST_BYTES = 8 * 1024 * 1024
HANGUP_CHECK_SECONDS = 0.5


class Conversation:
    """The calls of one connection. `context.connection` should be `outbox`, so that subscriptions reach it."""

    def __init__(self, door: Door, context: Context, outbox: Outbox, *, most_calls: int = MOST_CALLS) -> None:
        self._door = door
        self._context = door.bound(context)
        self._outbox = outbox
        self._most_calls = most_calls
        self._calls: set[asyncio.Task[None]] = set()
        self._bytes = 0

    async def run(
        self,
        messages: AsyncIterator[bytes],
        closing: asyncio.Event,
        hung_up: Callable[[], bool] = lambda: True,
    ) -> None:
        """Answer `messages` until they end or `closing` is set; raise what ends the connection (`ConnectionError`).

        After their end what is in flight is finished unless `hung_up` tells that nobody is left to hear it.
        """
        writer = asyncio.create_task(self._outbox.run())
        reader = asyncio.create_task(self._read(messages))
        stop = asyncio.create_task(closing.wait())
        try:
            await asyncio.wait({writer, reader, stop}, return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not writer.done():
                reader.result()
            reader.cancel()
            await self._finish_calls(writer, hung_up, stopping=stop.done())
            self._outbox.finish()
            await writer
        finally:
            await _cancelled((writer, reader, stop, *self._calls))
            await self._outbox.close()

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        async for body in messages:
            self._door.vigil.came()
            while self._calls and (len(self._calls) >= self._most_calls or self._bytes + len(body) > MOST_BYTES):
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            begun = self._door.begin(body, self._context)
            if asyncio.iscoroutine(begun):
                self._bytes += len(body)
                call = asyncio.create_task(self._answer(begun, len(body)))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            elif begun is not None:
                await self._outbox.put(begun)
                self._door.vigil.expect()

    async def _answer(self, later: Later, size: int) -> None:
        try:
            with one_message():
                answer = await later
        finally:
            self._bytes -= size
        if answer is not None:
            putting = self._outbox.put(answer)
            del answer  # one that has to wait may go to disk meanwhile
            await putting
            if len(self._calls) == 1:  # this one
                self._door.vigil.expect()

    async def _finish_calls(self, writer: asyncio.Task[None], hung_up: Callable[[], bool], *, stopping: bool) -> None:
        while self._calls and not writer.done() and (stopping or not hung_up()):
            await asyncio.wait(
                {writer, *self._calls}, timeout=HANGUP_CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait for their end; what they raise now concerns nobody any more."""
    tasks = tuple(tasks)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
            logger.error("a connection ended with an error", exc_info=outcome)
