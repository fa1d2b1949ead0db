"""Room on the disk that is kept for what must be written even when the disk is full (hardening.md 22).

A few files of zeros, made while there is room. Where a write of an answer to a dispute fails, one of them is given up and the
write is tried again; others may take some of that room, so it is given up bit by bit. Nothing is ever stored in the files.
"""

from __future__ import annotations

import os
from pathlib import Path

PIECES = 6
SIZE = 4 * 1024 * 1024  # bytes of a piece; all of them hold 1,000 operations with their audit records, and then some


class Reserve:
    """The pieces in `folder`, which is made when it is needed first."""

    def __init__(self, folder: Path, pieces: int = PIECES, size: int = SIZE) -> None:
        self._pieces = [folder / str(number) for number in range(pieces)]
        self._folder, self._size = folder, size

    def keep(self) -> bool:
        """Make the pieces that are missing, as long as as much again stays free. Return whether all are there."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for piece in self._pieces:
                if not self._is_whole(piece):
                    self._make(piece)
        except OSError:
            return False
        return True

    def give(self) -> bool:
        """Give up one piece. Return False where none is left."""
        for piece in self._pieces:
            try:
                piece.unlink()
            except OSError:
                continue
            return True
        return False

    def _is_whole(self, piece: Path) -> bool:
        return piece.is_file() and piece.stat().st_size == self._size

    def _make(self, piece: Path) -> None:
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < 2 * self._size * len(self._pieces):
            raise OSError("too little room to keep any")
        descriptor = os.open(piece, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        finally:
            os.close(descriptor)
