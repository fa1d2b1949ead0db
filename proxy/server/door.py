"""The transport-independent core of every door: the bytes of one message in, the bytes of its answer out.

HTTP, WebSocket and the unix sockets establish who asks (a `Context`) and hand each body to `Door.answer`; the door parses it,
enters the chain once per call and assembles the answers. Every call gets exactly one answer, a notification none. Whatever
goes wrong inside leaves as an opaque id; the cause is in the log under it (rpc.md, "Errors").
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from middleware.delivery import one_message
from middleware.errors import InternalError, LimitExceeded, RpcError
from middleware.waist import Answer, Context, Request
from proxy.server import envelope
from proxy.server.envelope import Batch, Invalid

logger = logging.getLogger("l2proxy.door")

Answering: TypeAlias = Callable[[Request, Context], Awaitable[Answer]]
"""The chain, or whatever else answers one call."""


class Door:
    """Answers message bodies. `batch`: most calls in one body; `response`: most bytes of one batch's answers."""

    def __init__(self, answering: Answering, *, batch: int = 100, response: int = 256 * 1024 * 1024) -> None:
        self._answering = answering
        self._most_items = batch
        self._most_bytes = response

    async def answer(self, body: bytes, context: Context) -> bytes | None:
        """Return the body that answers `body`, or None when it holds notifications only."""
        read = envelope.parse(body, self._most_items)
        if isinstance(read, Request):
            return await self._one(read, context)
        if isinstance(read, Invalid):
            return envelope.failure(read.id, read.error)
        return await self._batch(read, context)

    async def _one(self, request: Request, context: Context) -> bytes | None:
        try:
            answer = await self._answering(request, context)
        except RpcError as error:
            return None if request.id is None else envelope.failure(request.id, error)
        except Exception as cause:  # noqa: BLE001  the last line: nothing of the cause may reach the caller
            opaque = _logged(request, cause)
            return None if request.id is None else envelope.failure(request.id, opaque)
        return None if request.id is None else envelope.body_of(answer, request.id)

    async def _batch(self, batch: Batch, context: Context) -> bytes | None:
        held = 0

        async def item(call: Request | Invalid) -> bytes | None:
            nonlocal held
            if isinstance(call, Invalid):
                return envelope.failure(call.id, call.error)
            body = await self._one(call, context)
            if body is None:
                return None
            held += len(body)
            if held > self._most_bytes:
                held -= len(body)
                body = envelope.failure(call.id or envelope.NULL, self._too_large())
            return body

        with one_message():
            async with asyncio.TaskGroup() as tasks:
                items = [tasks.create_task(item(call)) for call in batch]
        bodies = [body for body in (task.result() for task in items) if body is not None]
        return envelope.joined(bodies) if bodies else None

    def _too_large(self) -> LimitExceeded:
        message = (
            f"the answers of this batch exceed {self._most_bytes} bytes ([limits] response); ask in smaller batches"
        )
        return LimitExceeded("response", message)


def _logged(request: Request, cause: Exception) -> InternalError:
    error_id = secrets.token_hex(8)
    logger.error("internal error %s in %.80r", error_id, request.method, exc_info=cause)
    return InternalError(error_id)
