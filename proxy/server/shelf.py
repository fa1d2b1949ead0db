"""Answers that wait for their reader, on disk: in memory they would be what a batch, or a reader who never reads, may cost.

Used by `Door` for the answers of a batch and by `Outbox` for those of a connection; one answer alone is small enough, or in
a file of its own already (`LargeReply`). The files are unlinked, grow no further than they must, and end with the last of
their answers. Nothing here may wait, and nothing may be kept that nobody closes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from proxy.server.bodies import PART, Large

LEAST: Final = 32 * 1024  # bytes of an answer worth the trouble
_GROWS: Final = 32 * 1024 * 1024  # bytes of a file after which the next answer begins another one

logger = logging.getLogger("l2proxy.door")


class Disk(Protocol):
    """Where unlinked files may be made, and how much may lie there."""

    def file(self) -> BinaryIO:
        """Return a new file without a buffer. Raise `OSError`."""

    def has(self, more: int) -> bool:
        """Take `more` bytes for one of the files; tell whether there was room for them."""


class Shelf:
    """The waiting answers of one batch or one connection."""

    __slots__ = ("_board", "_disk")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._board: _Board | None = None

    def put(self, body: bytes) -> Large | None:
        """Return what gives `body` from disk; None: there is no room for it, or the disk does not take it."""
        if not self._disk.has(len(body)):
            return None
        try:
            board = self._board
            if board is None or board.file.closed or board.end > _GROWS:
                board = self._board = _Board(self._disk.file())
            return board.add(body)
        except OSError:
            logger.exception("an answer could not be kept on disk")
            return None


class _Board:
    """One file, as long as an answer waits in it."""

    __slots__ = ("count", "end", "file")

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.end = self.count = 0

    def add(self, body: bytes) -> Large:
        at, rest = self.end, memoryview(body)
        self.count += 1
        try:
            while rest:
                written = os.pwrite(self.file.fileno(), rest, self.end)
                self.end += written
                rest = rest[written:]
        except BaseException:
            self.give_back()
            raise
        return _Stretch(self, at, len(body))

    def give_back(self) -> None:
        self.count -= 1
        if not self.count:
            self.file.close()


class _Stretch:
    """One answer in the file."""

    __slots__ = ("_at", "_board", "_closed", "length")

    def __init__(self, board: _Board, at: int, length: int) -> None:
        self._board, self._at, self._closed = board, at, False
        self.length = length

    def parts(self, size: int = PART) -> Iterator[bytes]:
        for at in range(0, self.length, size):
            yield os.pread(self._board.file.fileno(), min(size, self.length - at), self._at + at)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._board.give_back()
