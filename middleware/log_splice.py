"""One answer made of the entries of many: raw bytes joined in order, in memory while small, in an unlinked file when not.

Used by `log_ranges`. Written as nodes write: `{"jsonrpc":"2.0","id":…,"result":[…]}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from middleware.waist import Answer, LargeReply, NodeReply

IN_MEMORY = 4 * 1024 * 1024  # bytes; the same as for an answer of the node itself


class TooLarge(Exception):
    """The joined answer would be larger than an answer may be."""


class Splice:
    """`file` makes an unlinked file; `most_bytes`: of the whole answer."""

    def __init__(self, raw_id: bytes, file: Callable[[], BinaryIO], most_bytes: int) -> None:
        self._pieces = [b'{"jsonrpc":"2.0","id":' + raw_id + b',"result":[']
        self._length = len(self._pieces[0])
        self._make_file, self._most_bytes = file, most_bytes
        self._file: BinaryIO | None = None
        self._empty = True

    def add(self, entries: bytes) -> None:
        """Join more entries, the text between two brackets. Raise `TooLarge`."""
        if not entries:
            return
        if not self._empty:
            self._put(b",")
        self._empty = False
        self._put(entries)

    def answer(self) -> Answer:
        """Return the whole answer; whoever gets a `LargeReply` closes it."""
        self._put(b"]}")
        if self._file is None:
            return NodeReply(b"".join(self._pieces))
        self._to_file(self._file)
        self._file.flush()
        return LargeReply(self._file, self._length)

    def close(self) -> None:
        """Give up what was joined."""
        self._pieces.clear()
        if self._file is not None:
            self._file.close()

    def _put(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length > self._most_bytes:
            raise TooLarge
        self._pieces.append(piece)
        if self._length > IN_MEMORY:
            if self._file is None:
                self._file = self._make_file()
            self._to_file(self._file)

    def _to_file(self, file: BinaryIO) -> None:
        file.writelines(self._pieces)
        self._pieces.clear()
