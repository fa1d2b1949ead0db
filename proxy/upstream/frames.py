"""Cuts the byte stream of a node's unix socket into JSON values.

Stands between the socket and the router of answers (`ipc`). geth and anvil end every value with a newline, but the protocol does not
promise it: values may touch, and may hold newlines as white space. So a stream is first cut by counting brackets outside strings; once
the node has shown that it ends values with a newline, lines are cut, which costs one search. A line that is no whole value leads back
to counting for good, a brace at the end of what has arrived for one value. A value above the limit is thrown away while it comes and reported by its first bytes. No I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from proxy.upstream.envelope import Incoming, read

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')
_BLANK = b" \t\r\n"
_HEAD_BYTES = 128


class NotJson(Exception):
    """The stream is not JSON values; it cannot be read any further."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole value and what routes it."""

    body: bytes
    incoming: Incoming


@dataclass(frozen=True, slots=True)
class Oversize:
    """A value above the limit; only its first bytes were kept."""

    head: bytes


class FrameSplitter:
    """The stream of one connection: feed what arrives, take what is whole. `limit`: bytes of one value."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._lines = False
        self._lines_failed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[Frame | Oversize]:
        """Yield the values that `data` completes. Raise `NotJson` when the stream is none."""
        while data:
            if self._lines:
                frame, data = self._take_line(data)
            else:
                frame, data = self._take_value(data)
            if frame is not None:
                yield frame

    def _take_line(self, data: bytes) -> tuple[Frame | Oversize | None, bytes]:
        end = data.find(b"\n")
        if end < 0 and data.rstrip(_BLANK)[-1:] == b"}" and self._size <= self._limit:
            self._lines = False  # it may be whole all the same; counting tells, and goes on from here
            return None, self._collected() + data
        if end < 0:
            self._keep(data)
            return None, b""
        self._keep(data[:end])
        oversize = self._size > self._limit
        line, rest = self._collected(), data[end + 1 :]
        if oversize:
            return Oversize(line), rest
        if not line.strip():
            return None, rest
        try:
            return Frame(line, read(line)), rest
        except msgspec.DecodeError:
            self._lines, self._lines_failed = False, True
            return None, line + data[end:]

    def _take_value(self, data: bytes) -> tuple[Frame | Oversize | None, bytes]:
        if self._size == 0:
            data = data.lstrip(_BLANK)
            if not data:
                return None, b""
            if data[0] not in b"{[":
                raise NotJson("the stream holds something else than JSON objects")
        end = self._end_of_value(data)
        if end < 0:
            self._keep(data)
            return None, b""
        self._keep(data[:end])
        oversize = self._size > self._limit
        value, rest = self._collected(), data[end:]
        self._lines = not self._lines_failed and rest[:1] == b"\n"
        if oversize:
            return Oversize(value), rest
        try:
            return Frame(value, read(value)), rest
        except msgspec.DecodeError as error:
            raise NotJson(f"the stream holds a value that is not JSON: {error}") from error

    def _end_of_value(self, data: bytes) -> int:
        """Return where the present value ends in `data`, or -1; the state of the count is kept for the next piece."""
        position = 1 if self._escaped else 0
        self._escaped = False
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(data, position):
            position = match.end()
            byte = data[match.start()]
            if byte == 0x22:
                self._in_string = not self._in_string
            elif byte == 0x5C:
                self._escaped = position == len(data)
                position += 1
            elif byte in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return position
        return -1

    def _keep(self, piece: bytes) -> None:
        """Add `piece` to the present value; above the limit only the head stays in memory."""
        self._size += len(piece)
        if self._size <= self._limit:
            self._chunks.append(piece)
        elif self._chunks or piece:
            head = b"".join(self._chunks)[:_HEAD_BYTES]
            self._chunks = [(head + piece)[:_HEAD_BYTES]]

    def _collected(self) -> bytes:
        value = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._size = [], 0
        return value
