"""Which call is being answered here: a number for the log, kept where every line written on its behalf finds it.

A door says `begin(context)` once per call before it enters the chain; everything the call awaits, and every task it starts,
sees the same. Costs a counter and one assignment, because it happens on every call; the text is made only when a line is
written (proxy/app/logs.py). Holds the kind of the asker, never who it is: an origin or a token's name stays out of the log.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from middleware.waist import Context

_numbers = itertools.count(1)
_asking: ContextVar[tuple[int, Context] | None] = ContextVar("l2proxy_asking", default=None)


Mark: TypeAlias = tuple[int, Context]
"""Which call it is."""


def begin(context: Context) -> Mark:
    """Number the call that begins here; `context` is its own."""
    mark = (next(_numbers), context)
    _asking.set(mark)
    return mark


@contextmanager
def again(mark: Mark) -> Iterator[None]:
    """Go on with a call that began elsewhere: what is logged, and every task started, inside is its own."""
    token = _asking.set(mark)
    try:
        yield
    finally:
        _asking.reset(token)


def asking() -> dict[str, str]:
    """Return `{request, origin, transport}` of the call being answered: number, kind of asker, way it came; {} outside."""
    found = _asking.get()
    if found is None:
        return {}
    number, context = found
    return {"request": f"r{number}", "origin": context.origin.kind.value, "transport": context.transport}
