"""A stream of JSON values without a delimiter, as geth speaks over IPC: bytes in, whole values out. No I/O.

Between a unix socket and its conversation. A value ends where its brackets close; newlines between values are space. Each
byte is looked at once, whatever the size of the pieces it comes in, and no more than `limit` bytes are held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from middleware.errors import LimitExceeded, ParseError

_SPACE = b" \t\r\n"
_MARK = re.compile(rb'["\[\]{}]')
_IN_STRING = re.compile(rb'["\\]')
_OPENING = b"[{"
_one_value = msgspec.json.Decoder(msgspec.Raw)


class ValueSplitter:
    """Cuts a byte stream into JSON objects and arrays. `limit`: most bytes of one value."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the piece before ended with a backslash inside of a string

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Give the values that `piece` completes, which ends before the next piece.

        Raise -32700 for what is neither object nor array, -32005 for a value over the limit, once all before it were given.
        The stream cannot be read any further then.
        """
        if not self._parts and _is_one_value(piece) and len(piece) <= self._limit:
            yield piece
            return
        start = at = 0
        while at < len(piece):
            if not self._parts and self._depth == 0:
                start = at = _after_space(piece, at)
                if at == len(piece):
                    return
                if piece[at] not in _OPENING:
                    raise ParseError("a request is a JSON object or array")
            at = self._scan(piece, at)
            if self._depth == 0:
                value = b"".join((*self._parts, piece[start:at]))
                self._check(len(value))
                self._parts, self._size, start = [], 0, at
                yield value
        if start < len(piece):
            self._parts.append(piece[start:])
            self._size += len(piece) - start
            self._check(self._size)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise LimitExceeded("body", f"a request exceeds {self._limit} bytes ([limits] body)")

    def _scan(self, piece: bytes, at: int) -> int:
        """Follow strings and brackets from `at`; return the place after the closing bracket, or the end of the piece."""
        while at < len(piece):
            if self._in_string:
                at = self._string(piece, at)
                continue
            mark = _MARK.search(piece, at)
            if mark is None:
                return len(piece)
            at = mark.end()
            byte = mark[0]
            if byte == b'"':
                self._in_string = True
            elif byte in b"[{":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return at
        return at

    def _string(self, piece: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        mark = _IN_STRING.search(piece, at)
        if mark is None:
            return len(piece)
        if mark[0] == b'"':
            self._in_string = False
        else:
            self._escaped = True
        return mark.end()


def _after_space(piece: bytes, at: int) -> int:
    while at < len(piece) and piece[at] in _SPACE:
        at += 1
    return at


def _is_one_value(piece: bytes) -> bool:
    """Tell whether `piece` is exactly one object or array, as it mostly is."""
    if piece[:1] not in (b"{", b"["):
        return False
    try:
        _one_value.decode(piece)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
