"""Cuts the byte stream of a node's unix socket into JSON values.

Stands between the socket and the router of answers (`line`). geth and anvil end every value with a newline, but the protocol does not
promise it: values may touch, and may hold newlines as white space. So whole lines are tried first, which costs one search and the
decoding that is due anyway. What is no whole line is cut by counting brackets outside strings; while a node has shown that it ends
values with a newline, the pieces of a value are only kept until that comes. A line that is no value leads back to counting for good, a
brace at the end of what has arrived for one value, a large one too. No I/O here but the file of a large value (`arrival`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from middleware.waist import LargeReply
from proxy.upstream.arrival import LARGE, Arrival, Begins, Keeping, Lost, Oversize, as_it_is
from proxy.upstream.balance import Balance
from proxy.upstream.envelope import read
from proxy.upstream.incoming import Incoming

_BLANK: Final = b" \t\r\n"


class NotJson(Exception):
    """The stream is not JSON values; it cannot be read any further."""


class Frame:
    """One whole value and what routes it."""

    __slots__ = ("body", "incoming")

    def __init__(self, body: bytes, incoming: Incoming) -> None:
        self.body = body
        self.incoming = incoming


Value = Frame | LargeReply | Oversize | Lost
"""What a stream is cut into; the last two came and could not be kept."""


class FrameSplitter:
    """The stream of one connection: feed what arrives, take what is whole. `begins`: see `arrival`."""

    def __init__(self, keeping: Keeping, begins: Begins = as_it_is) -> None:
        self._keeping = keeping
        self._begins = begins
        self._arrival: Arrival | None = None  # of the value that has begun
        self._balance: Balance | None = None  # None: it is not counted yet
        self._lines = False
        self._lines_failed = False

    def feed(self, data: bytes) -> Iterator[Value]:
        """Yield the values that `data` completes. Raise `NotJson` when the stream is none."""
        if self._arrival is None and data[-1:] == b"\n" and len(data) <= self._keeping.limit:
            position = 0
            try:
                for line in data[:-1].split(b"\n"):
                    frame = Frame(line, read(line))
                    position += len(line) + 1
                    yield frame
            except msgspec.DecodeError:
                data = data[position:]
            else:
                self._lines = not self._lines_failed
                return
        while data:
            value, data = self._take(data)
            if value is not None:
                yield value

    def close(self) -> None:
        """Give back what was kept of a value that never ended."""
        if self._arrival is not None:
            self._arrival.abandon()
            self._arrival = None

    def _take(self, data: bytes) -> tuple[Value | None, bytes]:
        if self._arrival is None:
            data = data.lstrip(_BLANK)
            if not data:
                return None, b""
            if data[0] != 0x7B:
                raise NotJson("the stream holds something else than JSON objects")
            self._arrival = Arrival(self._keeping, self._begins, framed=True)
            self._balance = None if self._lines else Balance()
        if self._balance is None:
            return self._take_line(self._arrival, data)
        end = self._balance.end(data)
        if end < 0:
            self._arrival.add(data)
            return None, b""
        return self._ended(self._arrival, data, end)

    def _take_line(self, arrival: Arrival, data: bytes) -> tuple[Value | None, bytes]:
        end = data.find(b"\n")
        most = min(LARGE, self._keeping.limit)
        if end < 0 and data.rstrip(_BLANK)[-1:] != b"}" and arrival.size + len(data) <= most:
            arrival.add(data)
            return None, b""
        if end < 0 or arrival.size + end > most:
            return self._count_from_here(arrival, data)  # it may be whole all the same, or is large: counting tells
        line = b"".join((*arrival.chunks, data[:end])) if arrival.size else data[:end]
        try:
            frame = Frame(line, read(line))
        except msgspec.DecodeError:
            self._lines, self._lines_failed = False, True
            return self._count_from_here(arrival, data)
        self._arrival = None
        return frame, data[end + 1 :]

    def _count_from_here(self, arrival: Arrival, data: bytes) -> tuple[Value | None, bytes]:
        self._balance = Balance()
        self._arrival = Arrival(self._keeping, self._begins, framed=True)
        return None, b"".join((*arrival.chunks, data))

    def _ended(self, arrival: Arrival, data: bytes, end: int) -> tuple[Value, bytes]:
        arrival.add(data[:end])
        self._arrival = None
        rest = data[end:]
        self._lines = not self._lines_failed and rest[:1] == b"\n"
        value = arrival.finish()
        if not isinstance(value, bytes):
            return value, rest
        try:
            return Frame(value, read(value)), rest
        except msgspec.DecodeError as error:
            raise NotJson(f"the stream holds a value that is not JSON: {error}") from error
