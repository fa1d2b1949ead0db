"""The body of an answer: bytes in memory, or something too large for that, given part by part and closed by its sender.

What `Door` hands to the three doors. Whoever takes a `Large` sends its parts in order while the reader takes them, and
closes it whatever happens: it holds a file. Nothing here may put the parts together in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeAlias

PART: Final = 256 * 1024  # bytes of a part
logger = logging.getLogger("l2proxy.door")


class Large(Protocol):
    """A body that is given part by part (`LargeReply` of the waist, or a batch with one in it)."""

    @property
    def length(self) -> int:
        """How many bytes there are in all."""

    def parts(self, size: int = PART) -> Iterator[bytes]:
        """Give the body in order, at most `size` bytes at a time."""

    def close(self) -> None:
        """Give back what holds it."""


Body: TypeAlias = bytes | Large


class Joined:
    """The answers of a batch, in the order given, when one of them is large."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._bodies = bodies
        self.length = sum(map(length_of, bodies)) + len(bodies) + 1  # brackets and commas

    def parts(self, size: int = PART) -> Iterator[bytes]:
        """Give the whole array, at most `size` bytes at a time."""
        before = b"["
        for body in self._bodies:
            yield before
            yield from parts_of(body, size)
            before = b","
        yield b"]"

    def close(self) -> None:
        """Close every large answer."""
        for body in self._bodies:
            close(body)


def length_of(body: Body) -> int:
    """Return the length of a body in bytes."""
    return len(body) if isinstance(body, bytes) else body.length


def parts_of(body: Body, size: int = PART) -> Iterator[bytes]:
    """Give a body in order, at most `size` bytes at a time."""
    if not isinstance(body, bytes):
        yield from body.parts(size)
        return
    for at in range(0, len(body), size):
        yield body[at : at + size]


def close(body: Body | None) -> None:
    """Give back what holds a large body; a body in memory needs nothing."""
    if body is None or isinstance(body, bytes):
        return
    try:
        body.close()
    except OSError:
        logger.exception("the file of a large answer could not be closed")


def joined(bodies: Sequence[Body]) -> Body:
    """Return the body of a batch's answers."""
    small = [body for body in bodies if isinstance(body, bytes)]
    return b"[" + b",".join(small) + b"]" if len(small) == len(bodies) else Joined(bodies)
