"""When an answer has been handed to its connection: what must not be heard before it waits for that.

A door answers each message in a task of its own, and the calls of a batch in tasks below it, whose end is not yet the end of
the message. Who pushes (subscriptions) asks here for the right moment, so that nobody gets news under an id he does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_message: ContextVar[asyncio.Task[Any] | None] = ContextVar("l2proxy_message", default=None)


@contextmanager
def one_message() -> Iterator[None]:
    """Let all calls made inside the block count as one message, answered by the present task."""
    token = _message.set(asyncio.current_task())
    try:
        yield
    finally:
        _message.reset(token)


def after_answer(then: Callable[[], None]) -> None:
    """Call `then` once the message whose call is being answered now has its answer handed to the connection."""
    task = _message.get() or asyncio.current_task()
    if task is None:
        then()
    else:
        task.add_done_callback(lambda _: then())
