"""Which call is being answered here: a number for the log, kept where every line written on its behalf finds it.

A door says `begin(context)` once per call before it enters the chain; everything the call awaits, and every task it starts,
sees the same. Where most calls are answered at once it says `enter` instead, then `over` or, for a call that goes on, `follow`: until
then nothing else can run, and a variable of the tasks is not needed. Happens on every call, so the text is made only when a
line is written (proxy/app/logs.py). Holds the kind of the asker, never who it is: an origin or a token's name stays out of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

from middleware.waist import Context

Mark: TypeAlias = tuple[int, Context]
"""Which call it is."""

_asking: Final[ContextVar[Mark | None]] = ContextVar("l2proxy_asking", default=None)


class _Entered:
    """The call that is being answered at once, if one is, and the number of the last one."""

    __slots__ = ("context", "number")

    def __init__(self) -> None:
        self.number = 0
        self.context: Context | None = None


_entered: Final = _Entered()


def enter(context: Context) -> None:
    """Number the call that begins here; `context` is its own. Nothing is awaited before `over` or `follow`."""
    _entered.number += 1
    _entered.context = context


def over() -> None:
    """End a call that was answered at once."""
    _entered.context = None


def follow(context: Context) -> Mark:
    """Go on with the call that entered, wherever it goes from here."""
    mark = (_entered.number, context)
    _entered.context = None
    _asking.set(mark)
    return mark


def begin(context: Context) -> Mark:
    """Number the call that begins here; `context` is its own."""
    enter(context)
    return follow(context)


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
    found = _asking.get() if _entered.context is None else (_entered.number, _entered.context)
    if found is None:
        return {}
    number, context = found
    return {"request": f"r{number}", "origin": context.origin.kind.value, "transport": context.transport}
