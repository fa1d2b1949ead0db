"""How much disk all large answers together may take while they wait for their callers.

Asked by every answer that grows in a file (`arrival`). What is written is added up; what callers took, or gave up, shows when the sum
is over and the files still open are counted anew. It must never let slow callers fill the disk that the stores need.
"""

from __future__ import annotations

import os
import weakref
from typing import BinaryIO


class Room:
    """`most` bytes on disk for all answers kept with it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._at_most = 0  # bytes in the files still open, or more
        self._files: weakref.WeakSet[BinaryIO] = weakref.WeakSet()

    def opened(self, file: BinaryIO) -> None:
        """Learn of a file that will be written to."""
        self._files.add(file)

    def has(self, more: int) -> bool:
        """Take `more` bytes for one of the files; tell whether there was room for them."""
        if self._at_most + more > self.most:
            self._at_most = sum(os.fstat(file.fileno()).st_size for file in self._files if not file.closed)
            if self._at_most + more > self.most:
                return False
        self._at_most += more
        return True
