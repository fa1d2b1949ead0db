"""Reads one HTTP/1.1 response to a POST as it comes (RFC 9112, sections 4 to 7): status, framing, body; bytes in, an answer out.

Part of `http`. The body goes where `arrival` puts it. Anything ambiguous ends the connection: two lengths, an unknown coding, a body in
an encoding nobody asked for. No I/O here but the file of a large body.
"""

from __future__ import annotations

import re
from typing import Final

from middleware.waist import LargeReply
from proxy.upstream.arrival import LARGE, Arrival, Keeping, Lost, Oversize, as_it_is

_LONGEST_HEAD: Final = 64 * 1024
_LONGEST_CHUNK_LINE: Final = 4096
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n")
_CODING: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*\r\n")
_ENCODING: Final = re.compile(rb"\r\ncontent-encoding:[ \t]*([^\r\n]*?)[ \t]*\r\n")
_CONNECTION: Final = re.compile(rb"\r\nconnection:[ \t]*([^\r\n]*)\r\n")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
_WITHOUT_BODY: Final = (204, 304)

Body = bytes | LargeReply | Oversize | Lost


class NotHttp(Exception):
    """The response does not keep to HTTP; nothing more can be read from its connection."""


class ResponseReader:
    """One response. Feed what comes until it is whole; then `status`, `body` and `keep_alive` are known."""

    __slots__ = (
        "_arrival",
        "_chunked",
        "_head",
        "_keeping",
        "_missing",
        "_rest",
        "body",
        "keep_alive",
        "status",
        "trailing",
    )

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._head = b""
        self._arrival: Arrival | None = None
        self._missing = (
            -1
        )  # bytes of the body, or of the present chunk; -1: until the connection ends, or a chunk's line
        self._chunked = False
        self._rest = b""  # of a chunk's line that is not whole
        self.status = 0
        self.keep_alive = True
        self.trailing = False  # more came than one response
        self.body: Body = b""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; return whether the response is whole. Raise `NotHttp`."""
        if self._arrival is None:
            data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            while end >= 0 and data.startswith(b"HTTP/1.1 1"):  # an interim response
                data = data[end + 4 :]
                end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _LONGEST_HEAD or (len(data) >= 5 and data[:5] != b"HTTP/"):
                    raise NotHttp("it does not speak HTTP")
                self._head = data
                return False
            self._read_head(data[: end + 2])
            data = data[end + 4 :]
            if 0 <= self._missing == len(data) <= min(LARGE, self._keeping.limit) and not self._chunked:
                self.body = data
                return True
            self._arrival = Arrival(self._keeping, as_it_is)
            if not self._chunked and self._missing > self._keeping.limit:
                self.body, self.keep_alive = Oversize(b""), False
                return True
        return self._feed_chunks(self._arrival, data) if self._chunked else self._feed_body(self._arrival, data)

    def feed_eof(self) -> bool:
        """Learn that the connection has ended; return whether that makes the response whole."""
        if self._arrival is None or self._chunked or self._missing >= 0:
            return False
        self.body = self._arrival.finish()
        return True

    def abandon(self) -> None:
        """Give back what was kept of a response that broke off."""
        if self._arrival is not None:
            self._arrival.abandon()

    def _read_head(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise NotHttp("it does not speak HTTP")
        self.status = int(status[2])
        fields = head.lower()
        if b"\r\ncontent-encoding:" in fields and set(_ENCODING.findall(fields)) - {b"identity"}:
            raise NotHttp("its answer is compressed, which nobody asked for")
        self.keep_alive = status[1] == b"1"
        if b"\r\nconnection:" in fields and (connection := _CONNECTION.search(fields)):
            self.keep_alive = b"close" not in connection[1] and (self.keep_alive or b"keep-alive" in connection[1])
        coded = b"\r\ntransfer-encoding" in fields
        lengths = fields.count(b"\r\ncontent-length")
        if self.status in _WITHOUT_BODY:
            self._missing = 0
        elif coded:
            coding = _CODING.search(fields)
            if lengths or coding is None or coding[1] != b"chunked" or fields.count(b"\r\ntransfer-encoding") > 1:
                raise NotHttp("its answer is framed in a way that can be read twice")
            self._chunked = True
        elif lengths:
            length = _LENGTH.search(fields)
            if lengths > 1 or length is None:
                raise NotHttp("its answer is framed in a way that can be read twice")
            self._missing = int(length[1])
        else:
            self.keep_alive = False

    def _feed_body(self, arrival: Arrival, data: bytes) -> bool:
        if self._missing < 0:
            arrival.add(data)
            return self._oversized(arrival)
        if len(data) > self._missing:
            data, self.trailing = data[: self._missing], True
        self._missing -= len(data)
        if data:
            arrival.add(data)
        if self._missing:
            return self._oversized(arrival)
        self.body = arrival.finish()
        return True

    def _feed_chunks(self, arrival: Arrival, data: bytes) -> bool:
        data = self._rest + data if self._rest else data
        self._rest = b""
        position = 0
        while position < len(data):
            if self._missing > 0:
                piece = data[position : position + self._missing]
                position += len(piece)
                self._missing -= len(piece)
                arrival.add(piece)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._rest = data[position:]
                if len(self._rest) > _LONGEST_CHUNK_LINE:
                    raise NotHttp("its answer is framed in no known way")
                return self._oversized(arrival)
            line, position = data[position:end], end + 2
            if self._missing == 0:  # the line end behind a chunk
                if line:
                    raise NotHttp("its answer is framed in no known way")
                self._missing = -1
            elif self._missing == -1:
                self._begin_chunk(line)
            elif not line:  # behind the last chunk and its trailers
                self.trailing = position < len(data)
                self.body = arrival.finish()
                return True
        return self._oversized(arrival)

    def _begin_chunk(self, line: bytes) -> None:
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise NotHttp("its answer is framed in no known way")
        self._missing = int(size[1], 16) or -2  # -2: trailers until a blank line

    def _oversized(self, arrival: Arrival) -> bool:
        """End the response early once it is above the limit: nobody reads the rest of it."""
        if not arrival.lost:
            return False
        self.body, self.keep_alive = arrival.finish(), False
        return True
