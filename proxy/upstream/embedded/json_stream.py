"""Cutting a byte stream into JSON values, as geth's and anvil's IPC speak: values one after another, with or without newlines.

Bytes in, values out, no I/O. Only the outermost brackets are looked at; whether a value is sound JSON is for `dispatch`.
Must never keep more than MAX_BYTES of an unfinished value, whatever comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_BYTES = 16 * 1024 * 1024
"""Longest value taken, in bytes."""

MAX_DEPTH = 512
"""Deepest nesting taken; decoders recurse."""

_STRUCTURE = re.compile(rb'["\[\]{}]')
_IN_STRING = re.compile(rb'["\\]')
_SPACE = re.compile(rb"[ \t\r\n]*")


class StreamError(Exception):
    """The stream cannot be cut any further; it must be closed."""


class JsonStream:
    """Collects chunks and yields each object or array once it is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._restart()

    def _restart(self) -> None:
        self._position = 0
        self._depth = 0
        self._in_string = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Add a chunk and yield the values it completes. Raises StreamError where no object or array begins."""
        self._buffer += chunk
        while self._starts() and (end := self._end()) is not None:
            value = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._restart()
            yield value
        if len(self._buffer) > MAX_BYTES:
            raise StreamError(f"a message is longer than {MAX_BYTES} bytes")

    def _starts(self) -> bool:
        """Drop white space before a value and tell whether one has begun."""
        if self._position == 0:
            space = _SPACE.match(self._buffer)
            del self._buffer[: space.end() if space else 0]
            if self._buffer and self._buffer[0] not in b"{[":
                raise StreamError("expected a JSON-RPC object or a batch")
        return bool(self._buffer)

    def _end(self) -> int | None:
        """Scan on from where the last chunk ended and return the end of the value, if it is there."""
        while found := (_IN_STRING if self._in_string else _STRUCTURE).search(self._buffer, self._position):
            mark = self._buffer[found.start()]
            if mark == ord("\\"):
                if found.end() == len(self._buffer):
                    self._position = found.start()
                    return None
                self._position = found.end() + 1
                continue
            self._position = found.end()
            if mark == ord('"'):
                self._in_string = not self._in_string
            elif self._nest(1 if mark in b"{[" else -1):
                return self._position
        self._position = len(self._buffer)
        return None

    def _nest(self, step: int) -> bool:
        """Follow a bracket and tell whether it closes the value."""
        self._depth += step
        if self._depth > MAX_DEPTH:
            raise StreamError(f"a message is nested deeper than {MAX_DEPTH}")
        return self._depth == 0
