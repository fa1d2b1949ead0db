"""The frames of a WebSocket as its client writes and reads them (RFC 6455, sections 5.2 to 5.5); bytes in, messages out.

Part of `ws`. Messages are read as bytes and not re-encoded; the parts of a large one go where `arrival` puts them as they come. No
extension is ever offered, so none may be used. No I/O here but the file of a large message.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from middleware.waist import LargeReply
from proxy.upstream.arrival import Arrival, Begins, Keeping, Lost, Oversize

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_CONTINUED, _BINARY = 0, 2
_LONGEST_CONTROL: Final = 125
_WHOLE_TEXT: Final = 0x80 | TEXT
_KEYS: Final = 4096


class NotWebSocket(Exception):
    """The stream does not keep to RFC 6455; it cannot be read any further."""


@dataclass(frozen=True, slots=True)
class Control:
    """A close, ping or pong frame."""

    opcode: int
    payload: bytes


class Masking:
    """Writes frames, each masked with four fresh random bytes (section 5.3)."""

    __slots__ = ("_keys", "_next")

    def __init__(self) -> None:
        self._keys = b""
        self._next = 0

    def frame(self, payload: bytes, opcode: int = TEXT) -> bytes:
        """Return `payload` as one final frame."""
        if self._next >= len(self._keys):
            self._keys, self._next = os.urandom(_KEYS), 0
        key = self._keys[self._next : self._next + 4]
        self._next += 4
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        return head + key + (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")


class MessageReader:
    """The stream of one connection: feed what arrives, take what is whole. `begins`: see `arrival`."""

    def __init__(self, keeping: Keeping, begins: Begins) -> None:
        self._keeping = keeping
        self._begins = begins
        self._rest = b""  # of a frame whose head is not whole, or of a control frame
        self._arrival: Arrival | None = None  # of the message that has begun
        self._missing = 0  # bytes of the present frame's payload that have not come
        self._final = False

    def close(self) -> None:
        """Give back what was kept of a message that never ended."""
        if self._arrival is not None:
            self._arrival.abandon()
            self._arrival = None

    def feed(self, data: bytes) -> Iterator[bytes | LargeReply | Oversize | Lost | Control]:
        """Yield the messages and control frames that `data` completes. Raise `NotWebSocket`."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        position, end = 0, len(data)
        while position < end:
            if data[position] == _WHOLE_TEXT and not self._missing and self._arrival is None and position + 4 <= end:
                size, start = data[position + 1], position + 2  # the usual frame, read in few steps
                if size == 126:
                    size, start = data[start] << 8 | data[start + 1], start + 2
                if data[position + 1] < 127 and start + size <= min(end, start + self._keeping.limit):
                    position = start + size
                    yield data[start:position]
                    continue
            position = yield from self._step(data, position, end)

    def _step(
        self, data: bytes, position: int, end: int
    ) -> Generator[bytes | LargeReply | Oversize | Lost | Control, None, int]:
        """Take one frame, or what has come of it; return where the next begins."""
        if self._missing:
            piece = data[position : position + self._missing]
            self._missing -= len(piece)
            yield from self._more(piece)
            return position + len(piece)
        head = _head(data, position, end)
        if head is None:
            self._rest = data[position:]
            return end
        opcode, final, start, size = head
        if opcode >= CLOSE:
            if start + size > end:
                self._rest = data[position:]
                return end
            yield Control(opcode, data[start : start + size])
            return start + size
        self._expect(opcode)
        if final and opcode != _CONTINUED and start + size <= end and size <= self._keeping.limit:
            yield data[start : start + size]
            return start + size
        if self._arrival is None:
            self._arrival = Arrival(self._keeping, self._begins)
        self._final, self._missing = final, size
        if size == 0:
            yield from self._more(b"")
        return start

    def _expect(self, opcode: int) -> None:
        if opcode not in (_CONTINUED, TEXT, _BINARY) or (opcode == _CONTINUED) is (self._arrival is None):
            raise NotWebSocket("a frame that stands where none of its kind may")

    def _more(self, piece: bytes) -> Iterator[bytes | LargeReply | Oversize | Lost]:
        assert self._arrival is not None  # noqa: S101
        self._arrival.add(piece)
        if self._final and not self._missing:
            arrival, self._arrival = self._arrival, None
            yield arrival.finish()


def _head(data: bytes, position: int, end: int) -> tuple[int, bool, int, int] | None:
    """Return opcode, whether the frame is final, where its payload starts and how long it is; None when the head is not whole."""
    if position + 2 > end:
        return None
    first, size = data[position], data[position + 1]
    if first & 0x70 or size & 0x80:
        raise NotWebSocket("a frame with an extension nobody asked for, or masked by the node")
    opcode, final, start = first & 0x0F, first >= 0x80, position + 2
    if opcode >= CLOSE and (size > _LONGEST_CONTROL or not final or opcode > PONG):
        raise NotWebSocket("a control frame of no known form")
    if size == 126:
        start += 2
        if start > end:
            return None
        (size,) = struct.unpack_from("!H", data, position + 2)
    elif size == 127:
        start += 8
        if start > end:
            return None
        (size,) = struct.unpack_from("!Q", data, position + 2)
    return opcode, final, start, size
