"""The transport-independent core of every door: the bytes of one message in, the bytes of its answer out.

HTTP, WebSocket and the unix sockets establish who asks (a `Context`) and hand each body to `Door`; the door parses it,
enters the chain once per call and assembles the answers. Every call gets exactly one answer, a notification none. `begin`
answers what needs nobody else at once, `answer` waits; both lead every call through the same chain. Whatever goes wrong
inside leaves as an opaque id; the cause is in the log under it (rpc.md, "Errors").
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Protocol, TypeAlias

from middleware import asking
from middleware.delivery import one_message
from middleware.errors import InternalError, LimitExceeded, RpcError
from middleware.metrics import ANSWERED, GONE, RequestFigures
from middleware.waist import Answer, Context, LargeReply, NodeReply, Request, Result
from proxy.server import bodies, envelope
from proxy.server.bodies import Body
from proxy.server.envelope import Batch, Invalid

logger = logging.getLogger("l2proxy.door")

Answering: TypeAlias = Callable[[Request, Context], Awaitable[Answer]]
"""The chain, or whatever else answers one call."""

Later: TypeAlias = Coroutine[Any, Any, Body | None]
"""An answer that needs somebody else; to be awaited in a task."""


class Deciding(Protocol):
    """Answering that can often tell at once (`Chain`)."""

    def begin(self, request: Request, context: Context) -> Answer | Awaitable[Answer]:
        """Return the answer, or what to await for it; may raise what the call fails with."""

    def bound(self, context: Context) -> Context:
        """Return `context` as calls of one connection should carry it."""


class Door:
    """Answers message bodies. `batch`: most calls in one body; `response`: most bytes of one batch's answers."""

    def __init__(
        self,
        answering: Answering,
        *,
        batch: int = 100,
        response: int = 256 * 1024 * 1024,
        figures: RequestFigures | None = None,
    ) -> None:
        self._enter: Callable[[Request, Context], Answer | Awaitable[Answer]] = getattr(answering, "begin", answering)
        self.bound: Callable[[Context], Context] = getattr(answering, "bound", _as_it_is)
        self._most_items = batch
        self._most_bytes = response
        self.figures = RequestFigures() if figures is None else figures

    async def answer(self, body: bytes, context: Context) -> Body | None:
        """Return the body that answers `body`, or None when it holds notifications only."""
        read = envelope.parse(body, self._most_items)
        if isinstance(read, Request):
            return await self._one(read, context)
        return self._invalid(read) if isinstance(read, Invalid) else await self._batch(read, context)

    def begin(self, body: bytes, context: Context) -> Body | Later | None:
        """Return what `answer` would if that needs nobody else, otherwise what to await."""
        read = envelope.parse(body, self._most_items)
        if type(read) is Request:
            started = perf_counter()
            asking.begin(context)
            try:
                answer = self._enter(read, context)
            except Exception as error:  # noqa: BLE001  the last line, as in _one
                return self._failed(read, error, started)
            if isinstance(answer, (NodeReply, Result, LargeReply)):
                return self._given(read, answer, started)
            return self._awaited(read, answer, started)
        return self._invalid(read) if isinstance(read, Invalid) else self._batch(read, context)  # type: ignore[arg-type]

    async def _one(self, request: Request, context: Context) -> Body | None:
        started = perf_counter()
        asking.begin(context)
        try:
            answer = self._enter(request, context)
        except Exception as error:  # noqa: BLE001  the last line: nothing of the cause may reach the caller
            return self._failed(request, error, started)
        if isinstance(answer, (NodeReply, Result, LargeReply)):
            return self._given(request, answer, started)
        return await self._awaited(request, answer, started)

    async def _awaited(self, request: Request, answer: Awaitable[Answer], started: float) -> Body | None:
        try:
            return self._given(request, await answer, started)
        except asyncio.CancelledError:
            self.figures.observe(request.method, GONE, perf_counter() - started)
            raise
        except Exception as error:  # noqa: BLE001  the last line: nothing of the cause may reach the caller
            return self._failed(request, error, started)

    def _given(self, request: Request, answer: Answer, started: float) -> Body | None:
        self.figures.observe(request.method, ANSWERED, perf_counter() - started)
        if request.id is not None:
            return envelope.body_of(answer, request.id)
        if isinstance(answer, LargeReply):
            bodies.close(answer)
        return None

    def _failed(self, request: Request, error: Exception, started: float) -> bytes | None:
        told = error if isinstance(error, RpcError) else _logged(request, error)
        self.figures.observe(request.method, told.code, perf_counter() - started)
        return None if request.id is None else envelope.failure(request.id, told)

    def _invalid(self, call: Invalid) -> bytes:
        self.figures.invalid += 1
        return envelope.failure(call.id, call.error)

    async def _batch(self, batch: Batch, context: Context) -> Body | None:
        held = 0

        async def item(call: Request | Invalid) -> Body | None:
            nonlocal held
            if isinstance(call, Invalid):
                return self._invalid(call)
            body = await self._one(call, context)
            if body is None:
                return None
            held += bodies.length_of(body)
            if held > self._most_bytes:
                held -= bodies.length_of(body)
                bodies.close(body)
                body = envelope.failure(call.id or envelope.NULL, self._too_large())
            return body

        tasks: list[asyncio.Task[Body | None]] = []
        try:
            with one_message():
                async with asyncio.TaskGroup() as group:
                    tasks += [group.create_task(item(call)) for call in batch]
        except BaseException:  # the asker has gone: what is there already is for nobody
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is None:
                    bodies.close(task.result())
            raise
        answers = [body for body in (task.result() for task in tasks) if body is not None]
        return bodies.joined(answers) if answers else None

    def _too_large(self) -> LimitExceeded:
        message = (
            f"the answers of this batch exceed {self._most_bytes} bytes ([limits] response); ask in smaller batches"
        )
        return LimitExceeded("response", message)


def _as_it_is(context: Context) -> Context:
    return context


def _logged(request: Request, cause: Exception) -> InternalError:
    error_id = secrets.token_hex(8)
    logger.error("internal error %s in %.80r", error_id, request.method, exc_info=cause)
    return InternalError(error_id)
