"""The packets esbuild speaks in its `--service` mode: a length, an id with a direction, one value of seven kinds.

Written against the one version that `program` pins, which checks it: the first packet must name that version. What comes from
the process is counted and never believed. Source: esbuild 0.28.2, cmd/esbuild/stdio_protocol.go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO, Any

MAX_DEPTH = 16
_NULL, _BOOLEAN, _NUMBER, _TEXT, _BYTES, _LIST, _OBJECT = range(7)


class Malformed(Exception):
    """The process sent what the protocol does not know, or more than it may."""


def packet(number: int, value: Any, *, answer: bool) -> bytes:
    """Return a request or an answer as the process reads it."""
    whole = bytearray(struct.pack("<I", number << 1 | answer))
    _encode(value, whole)
    return struct.pack("<I", len(whole)) + bytes(whole)


def read_packet(pipe: IO[bytes], most: int) -> bytes:
    """Return the bytes of the next packet. Raises Malformed for more than `most`, EOFError at the end."""
    (length,) = struct.unpack("<I", _exactly(pipe, 4))
    if length > most:
        raise Malformed(f"it sends {length} bytes at once; the limit is {most}")
    return _exactly(pipe, length)


def parsed(data: bytes) -> tuple[int, bool, Any]:
    """Return a packet's number, whether it is an answer, and its value. Raises Malformed."""
    reader = _Reader(data)
    word = reader.number()
    value = reader.value(0)
    if not reader.ended:
        raise Malformed("something stands behind a packet's value")
    return word >> 1, bool(word & 1), value


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _encode(value: Any, whole: bytearray) -> None:
    if value is None:
        whole.append(_NULL)
    elif isinstance(value, bool):
        whole += bytes((_BOOLEAN, value))
    elif isinstance(value, int):
        whole.append(_NUMBER)
        whole += struct.pack("<I", value)
    elif isinstance(value, str | bytes):
        whole.append(_TEXT if isinstance(value, str) else _BYTES)
        _encode_bytes(value, whole)
    elif isinstance(value, dict):
        whole.append(_OBJECT)
        whole += struct.pack("<I", len(value))
        for name, part in value.items():
            _encode_bytes(name, whole)
            _encode(part, whole)
    else:
        whole.append(_LIST)
        whole += struct.pack("<I", len(value))
        for part in value:
            _encode(part, whole)


def _encode_bytes(value: str | bytes, whole: bytearray) -> None:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    whole += struct.pack("<I", len(data))
    whole += data


class _Reader:
    """Reads values out of one packet."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._readers: tuple[Callable[[int], Any], ...] = (  # by kind
            lambda _: None,
            lambda _: self._take(1) != b"\0",
            lambda _: self.number(),
            lambda _: self._text(),
            lambda _: self._take(self.number()),
            self._list,
            self._object,
        )

    @property
    def ended(self) -> bool:
        return self._at == len(self._data)

    def number(self) -> int:
        """Return 32 bits."""
        (found,) = struct.unpack("<I", self._take(4))
        return int(found)

    def value(self, depth: int) -> Any:
        """Return one value of any kind."""
        kind = self._take(1)[0]
        if kind > _OBJECT or depth > MAX_DEPTH:
            raise Malformed(f"a value of kind {kind} at depth {depth}")
        return self._readers[kind](depth)

    def _list(self, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(self._count())]

    def _object(self, depth: int) -> dict[str, Any]:
        return {self._text(): self.value(depth + 1) for _ in range(self._count())}

    def _count(self) -> int:
        count = self.number()
        if count > len(self._data) - self._at:
            raise Malformed("a list longer than its packet")
        return count

    def _text(self) -> str:
        return self._take(self.number()).decode("utf-8", "replace")

    def _take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise Malformed("a packet that ends in the middle")
        self._at += size
        return data
