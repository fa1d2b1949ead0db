"""How a call passes to the node without being awaited: who sent it is called with the answer.

The quick way of `chain` for calls that every link lets through at once, beside the usual one, where each step awaits the
next. `Door` makes a `Then`, links that must hear of the answer put theirs around it (`Around`), the upstream takes it and
returns a `Sent`. Of `answered`, `failed` and `left` exactly one is called, once, and never before `send` has returned; only where handing
an answer over failed may `failed` follow `answered`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from middleware.waist import Answer, Context, LargeReply, NodeReply, Request


class Then(Protocol):
    """What happens when the call ends."""

    def answered(self, answer: NodeReply | LargeReply) -> None:
        """Take the node's answer, the caller's id in it."""

    def failed(self, error: Exception) -> None:
        """Learn what the call fails with."""

    def left(self) -> None:
        """Learn that whoever asked has gone."""

    def withdrawn(self) -> None:
        """Learn that the call was not sent after all; it will be awaited, and nothing else is heard of it here."""

    def speaking(self) -> AbstractContextManager[None]:
        """Let what is logged inside be known as this call's (`asking`)."""


class Hears(Then, Protocol):
    """A `Then` that takes answers of the proxy's own as well."""

    def answered(self, answer: Answer) -> None:
        """Take the answer."""


class Sent(Protocol):
    """A call that is with the node, or under way in a task of its own."""

    def leave(self) -> None:
        """Learn that nobody waits any more."""


Send: TypeAlias = Callable[[Request, Then], "Sent | None"]
"""Send a request to the node now; None: it has to wait, and to be awaited."""

Around: TypeAlias = Callable[[Request, Context, Then], "Then | None"]
"""Return what shall hear of the answer in place of the `Then` given (or that itself); None: this call has to be awaited."""


class Watch:
    """A `Then` around another one, for a link that must hear of the answer; this one passes everything on."""

    __slots__ = ("_then",)

    def __init__(self, then: Then) -> None:
        self._then = then

    def answered(self, answer: NodeReply | LargeReply) -> None:
        """Pass the answer on."""
        self._then.answered(answer)

    def failed(self, error: Exception) -> None:
        """Pass the error on."""
        self._then.failed(error)

    def left(self) -> None:
        """Pass on that nobody waits."""
        self._then.left()

    def withdrawn(self) -> None:
        """Pass on that nothing was sent."""
        self._then.withdrawn()

    def speaking(self) -> AbstractContextManager[None]:
        """Speak as the call inside."""
        return self._then.speaking()
