"""The transport-independent core of every door: the bytes of one message in, the bytes of its answer out.

HTTP, WebSocket and the unix sockets establish who asks (a `Context`) and hand each body to `Door`; the door parses it,
enters the chain once per call and assembles the answers. Every call gets exactly one answer, a notification none. `begin`
answers what needs nobody else at once, `pass_on` also sends to the node without waiting, `answer` waits; all lead every call through the same chain. Whatever goes wrong
inside leaves as an opaque id; the cause is in the log under it (rpc.md, "Errors").
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeAlias

from middleware import asking
from middleware.chain import Way
from middleware.delivery import one_message
from middleware.errors import InternalError, LimitExceeded, RpcError
from middleware.metrics import ANSWERED, GONE, RequestFigures
from middleware.passing import Sent
from middleware.waist import Answer, Context, LargeReply, NodeReply, Request, Result
from proxy.server import bodies, envelope
from proxy.server.bodies import Body
from proxy.server.envelope import Batch, Invalid
from proxy.server.shelf import LEAST, Disk, Shelf
from proxy.vigil import Vigil

logger = logging.getLogger("l2proxy.door")

_clock: Final = time.perf_counter
_IN_MEMORY: Final = 4 * 1024 * 1024  # bytes of the larger answers of one batch; the others wait on disk

Answering: TypeAlias = Callable[[Request, Context], Awaitable[Answer]]
"""The chain, or whatever else answers one call."""

STREAMS: Final = ("ws", "ipc")
"""Transports on which nothing but its form and id say which request an answer is to. A batch refused whole is answered there as
geth does: a batch of one error, to its first call; libraries would wait for ever for a batch that a single error answered."""

Deliver: TypeAlias = Callable[[Body | None], None]
"""Takes the answer of a call that is not awaited: its body, None for a notification's."""

Later: TypeAlias = Coroutine[Any, Any, Body | None]
"""An answer that needs somebody else; to be awaited in a task."""


class Deciding(Protocol):
    """Answering that can often tell at once (`Chain`)."""

    def begin(self, request: Request, context: Context) -> Answer | Awaitable[Answer]:
        """Return the answer, or what to await for it; may raise what the call fails with."""

    def enter(self, request: Request, context: Context) -> Answer | Way:
        """Return the answer, or the way the call has to go; `context` is bound. May raise what the call fails with."""

    def bound(self, context: Context) -> Context:
        """Return `context` as calls of one connection should carry it."""


class Waiting:
    """One call that is with the node (a `Then`): nobody awaits it, `deliver` gets its body. `sent` is set once it is sent."""

    __slots__ = ("_deliver", "_door", "_mark", "_over", "_request", "_started", "sent")

    def __init__(self, door: Door, request: Request, mark: asking.Mark, started: float, deliver: Deliver) -> None:
        self._door = door
        self._request = request
        self._mark = mark
        self._started = started
        self._deliver = deliver
        self._over = False
        self.sent: Sent | None = None

    def leave(self) -> None:
        """Learn that nobody is there to be answered."""
        if not self._over and self.sent is not None:
            self.sent.leave()

    def answered(self, answer: Answer) -> None:
        """Deliver the answer's body."""
        self._over = True
        self.sent = None  # it knows this call: the two would wait for the garbage collector
        if self._slow():
            with asking.again(self._mark):
                body = self._door.given(self._request, answer, self._started)
        else:
            body = self._door.given(self._request, answer, self._started)
        self._deliver(body)

    def failed(self, error: Exception) -> None:
        """Deliver the error's body, unless an answer has been delivered."""
        if self._over:
            return
        self._over = True
        self.sent = None
        with asking.again(self._mark):
            body = self._door.failed(self._request, error, self._started)
        self._deliver(body)

    def left(self) -> None:
        """Count a call whose asker has gone."""
        self._over = True
        self.sent = None
        with asking.again(self._mark):
            self._door.left(self._request, self._started)

    def _slow(self) -> bool:
        """Tell whether counting this call may write a line, which is to be known as this call's."""
        return _clock() - self._started > self._door.figures.slow

    def withdrawn(self) -> None:
        """Learn that the call was not sent; it is awaited."""

    def speaking(self) -> AbstractContextManager[None]:
        """Let what is logged inside be known as this call's."""
        return asking.again(self._mark)


class Door:
    """Answers message bodies. `batch`: most calls in one body; `response`: most bytes of one batch's answers.

    `disk`: where answers wait that would take too much memory (None: they take it).
    """

    def __init__(
        self,
        answering: Answering,
        *,
        batch: int = 100,
        response: int = 256 * 1024 * 1024,
        figures: RequestFigures | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._disk = disk
        self._enter: Callable[[Request, Context], Answer | Awaitable[Answer]] = getattr(answering, "begin", answering)
        self._gates: Callable[[Request, Context], Answer | Way] | None = getattr(answering, "enter", None)
        self.bound: Callable[[Context], Context] = getattr(answering, "bound", _as_it_is)
        self._most_items = batch
        self._most_bytes = response
        self.figures = RequestFigures() if figures is None else figures
        self.vigil = Vigil()
        """Waits for the next request of whom a lane or conversation has just answered."""

    async def answer(self, body: bytes, context: Context) -> Body | None:
        """Return the body that answers `body`, or None when it holds notifications only."""
        begun = self.begin(body, context)
        return await begun if asyncio.iscoroutine(begun) else begun

    def begin(self, body: bytes, context: Context) -> Body | Later | None:
        """Return what `answer` would if that needs nobody else, otherwise what to await."""
        read = envelope.parse(body, self._most_items)
        return self._one(read, context) if type(read) is Request else self._others(read, context)  # type: ignore[arg-type]

    def pass_on(self, body: bytes, context: Context, deliver: Deliver) -> Body | Later | Waiting | None:
        """Return what `begin` would, or the call that is with the node now, if `deliver` gets its answer; `context` is bound."""
        if self._gates is None:
            return self.begin(body, context)
        read = envelope.parse(body, self._most_items)
        if type(read) is not Request:
            return self._others(read, context)  # type: ignore[arg-type]
        started = _clock()
        asking.enter(context)
        try:
            found = self._gates(read, context)
            if not isinstance(found, Way):
                given = self.given(read, found, started)
                asking.over()
                return given
            mark = asking.follow(context)
            if found.quick is not None:
                waiting = Waiting(self, read, mark, started, deliver)
                waiting.sent = found.quick(read, context, waiting)
                if waiting.sent is not None:
                    return waiting
            return self._awaited(read, found.rest(read, context), started)
        except Exception as error:  # noqa: BLE001  the last line, as in _one
            asking.follow(context)
            return self.failed(read, error, started)

    def _one(self, request: Request, context: Context) -> Body | Later | None:
        started = _clock()
        asking.begin(context)
        try:
            answer = self._enter(request, context)
        except Exception as error:  # noqa: BLE001  the last line: nothing of the cause may reach the caller
            return self.failed(request, error, started)
        if isinstance(answer, (NodeReply, Result, LargeReply)):
            return self.given(request, answer, started)
        return self._awaited(request, answer, started)

    def _others(self, read: Invalid | Batch, context: Context) -> bytes | Later:
        if not isinstance(read, Invalid):
            return self._batch(read, context)
        if read.first is not None and context.transport in STREAMS:
            return b"[" + self._invalid(Invalid(read.error, read.first)) + b"]"
        return self._invalid(read)

    async def _awaited(self, request: Request, answer: Awaitable[Answer], started: float) -> Body | None:
        try:
            return self.given(request, await answer, started)
        except asyncio.CancelledError:
            self.left(request, started)
            raise
        except Exception as error:  # noqa: BLE001  the last line: nothing of the cause may reach the caller
            return self.failed(request, error, started)

    def left(self, request: Request, started: float) -> None:
        """Count a call whose asker left before there was an answer."""
        self.figures.observe(request.method, GONE, _clock() - started)

    def given(self, request: Request, answer: Answer, started: float) -> Body | None:
        """Count an answered call, and return the body of its answer."""
        self.figures.observe(request.method, ANSWERED, _clock() - started)
        if request.id is not None:
            return envelope.body_of(answer, request.id)
        if isinstance(answer, LargeReply):
            bodies.close(answer)
        return None

    def failed(self, request: Request, error: Exception, started: float) -> bytes | None:
        """Count a call that failed, and return the body that says so."""
        told = error if isinstance(error, RpcError) else _logged(request, error)
        self.figures.observe(request.method, told.code, _clock() - started)
        return None if request.id is None else envelope.failure(request.id, told)

    def _invalid(self, call: Invalid) -> bytes:
        self.figures.invalid += 1
        return envelope.failure(call.id, call.error)

    def shelf(self) -> Shelf | None:
        """Return a place for the answers of one connection that wait for their reader, if there is a disk."""
        return None if self._disk is None else Shelf(self._disk)

    async def _batch(self, batch: Batch, context: Context) -> Body | None:
        held = in_memory = 0
        shelf = self.shelf()

        async def item(call: Request | Invalid) -> Body | None:
            nonlocal held, in_memory
            if isinstance(call, Invalid):
                return self._invalid(call)
            begun = self._one(call, context)
            body = await begun if asyncio.iscoroutine(begun) else begun
            if body is None:
                return None
            held += bodies.length_of(body)
            if held > self._most_bytes:
                held -= bodies.length_of(body)
                bodies.close(body)
                body = envelope.failure(call.id or envelope.NULL, self._too_large())
            if shelf is None or not isinstance(body, bytes) or len(body) < LEAST:
                return body
            if in_memory + len(body) <= _IN_MEMORY:
                in_memory += len(body)
                return body
            return shelf.put(body) or envelope.failure(call.id or envelope.NULL, _no_room())

        tasks: list[asyncio.Task[Body | None]] = []
        try:
            with one_message():
                async with asyncio.TaskGroup() as group:
                    tasks += [group.create_task(item(call)) for call in batch.calls]
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


def _no_room() -> LimitExceeded:
    said = "answers that their callers have not read yet take all the disk they may; ask again later"
    return LimitExceeded("waiting_responses", said)


def _as_it_is(context: Context) -> Context:
    return context


def _logged(request: Request, cause: Exception) -> InternalError:
    error_id = secrets.token_hex(8)
    logger.error("internal error %s in %.80r", error_id, request.method, exc_info=cause)
    return InternalError(error_id)
