"""Finds the end of one JSON value in a stream by counting brackets outside strings, piece by piece.

Used where a value arrives in pieces: by `frames` for the unix socket, by `arrival` for what is too large for memory. A piece that cannot
hold the end costs a few passes in C, never a step of Python per byte: a hundred megabytes must not hold up everybody else.
It does not say whether the value is JSON, only where it would end. No I/O here.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, islice
from typing import Final

_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_INSIDE: Final = re.compile(rb'["\\]')
_NO_MARKS: Final = bytes(sorted({*range(256)} - {*b'"[]{}'}))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")

# Below this many bytes going from token to token is as cheap as anything.
_SMALL: Final = 4096
# So much is looked at as a whole.
_WINDOW: Final = 256 * 1024


class Balance:
    """How many brackets of the present value are open; fresh for each value, which begins with a bracket."""

    __slots__ = ("_depth", "_escaped", "_in_string")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the piece before ended with a backslash that escapes

    def end(self, piece: bytes) -> int:
        """Return where the value ends in `piece` (behind its last bracket), or -1 when it goes on in the next."""
        for start in range(0, len(piece), _WINDOW):
            window = piece[start : start + _WINDOW]
            if len(window) > _SMALL and self._passes(window):
                continue
            if (end := self._walk(window)) >= 0:
                return start + end
        return -1

    def _walk(self, piece: bytes) -> int:
        position = 1 if self._escaped else 0
        self._escaped = False
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(piece, position):
            position = match.end()
            byte = piece[match.start()]
            if byte == 0x22:
                self._in_string = not self._in_string
            elif byte == 0x5C:
                self._escaped = position == len(piece)
                position += 1
            elif byte in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    return position
        return -1

    def _passes(self, piece: bytes) -> bool:
        """Take `piece` as a whole if the value does not end in it; else leave all as it is and return False."""
        text, escaped = (piece[1:] if self._escaped else piece), False
        if b"\\" in text:  # escapes, in their order: after these a quote begins or ends a string
            text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
            escaped = text.endswith(b"\\")
        # Two quotes with nothing between them change nothing, wherever they stand; what remains is little.
        parts = text.translate(None, _NO_MARKS).replace(b'""', b"").split(b'"')
        steps = array("b", b"".join(parts[int(self._in_string) :: 2]).translate(_STEPS))
        if steps and min(islice(accumulate(steps, initial=self._depth), 1, None)) <= 0:
            return False
        self._depth += sum(steps)
        self._in_string ^= len(parts) % 2 == 0
        self._escaped = escaped
        return True
