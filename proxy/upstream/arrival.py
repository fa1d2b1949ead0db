"""One answer of a node on its way in: in memory while it is small, in an unlinked file beyond, thrown away above the limit.

Filled by the sockets (`ipc`, `ws`) and by `http`. What begins is shown to its owner once, when it goes to the file: the id it carries is put
back there, because nothing can be moved in a file afterwards. Memory stays flat whatever a node sends. An answer in a file is checked to
be one balanced JSON object, no deeper: nobody decodes a hundred megabytes to pass them on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, cast

from middleware.errors import LimitExceeded
from middleware.waist import LargeReply
from proxy.upstream.balance import Balance
from proxy.upstream.room import Room

# What is larger is never held in memory as a whole (bytes).
LARGE: Final = 4 * 1024 * 1024
# First bytes of an answer that are kept to tell whose it is.
_HEAD: Final = 128

Begins: TypeAlias = Callable[[bytes], "bytes | None"]
"""Shown the first bytes of a large answer; returns what to write in their place, None when nobody wants it."""


@dataclass(frozen=True, slots=True)
class Oversize:
    """An answer above the limit; only its first bytes were kept. `crowded`: what others keep took its room."""

    head: bytes
    crowded: bool = False

    def refusal(self) -> LimitExceeded:
        """Return what its caller is told."""
        if self.crowded:
            said = "large answers that their callers have not read yet take all the disk they may; ask again later"
            return LimitExceeded("waiting_responses", said)
        return LimitExceeded("response", "the L1 node's answer is larger than [limits] response; ask for less at once")


@dataclass(frozen=True, slots=True)
class Lost:
    """A large answer that could not be kept, or that nobody wants; `trouble` says why it could not."""

    head: bytes
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What may be kept of an answer: `limit` bytes at most, large ones in `folder` (None: where the system keeps such).

    `room` is what all of them share; None: there is no end to it.
    """

    limit: int
    folder: Path | None = None
    room: Room | None = None

    def file(self) -> BinaryIO:
        """Return a new unlinked file for an answer. Raise `OSError`."""
        # Without a buffer: what was written is in the file for whoever reads by offset.
        opened = cast(BinaryIO, tempfile.TemporaryFile(dir=self.folder, prefix="answer-", buffering=0))  # noqa: SIM115
        if self.room is not None:
            self.room.opened(opened)
        return opened

    def has(self, more: int) -> bool:
        """Take `more` bytes for one of the files; tell whether there was room for them."""
        return self.room is None or self.room.has(more)


def as_it_is(first: bytes) -> bytes:
    """Want every large answer, byte for byte."""
    return first


class Arrival:
    """One answer as it comes. `framed`: whoever adds the pieces counts its brackets already."""

    __slots__ = ("_balance", "_begins", "_chunks", "_ended", "_file", "_head", "_keeping", "_lost", "_written", "size")

    def __init__(self, keeping: Keeping, begins: Begins, *, framed: bool = False) -> None:
        self.size = 0
        self._keeping = keeping
        self._begins = begins
        self._balance = None if framed else Balance()
        self._ended = framed
        self._chunks: list[bytes] = []
        self._head = b""
        self._file: BinaryIO | None = None
        self._written = 0
        self._lost: Oversize | Lost | None = None

    @property
    def in_memory(self) -> bool:
        """Tell whether all that came is still there to be looked at."""
        return self._file is None and self._lost is None

    @property
    def lost(self) -> bool:
        """Tell whether the answer cannot be kept any more."""
        return self._lost is not None

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        if self._lost is not None:
            return
        if self.size > self._keeping.limit:
            self._lose(Oversize(self._head or b"".join([*self._chunks, piece])[:_HEAD]))
        elif self._file is not None:
            self._write(piece, piece)
        else:
            self._chunks.append(piece)
            if self.size > LARGE:
                self._spill()

    @property
    def chunks(self) -> list[bytes]:
        """What came, in pieces, while all of it is in memory."""
        return self._chunks

    def finish(self) -> bytes | LargeReply | Oversize | Lost:
        """Return the whole answer; nothing may be added after it."""
        if self._file is not None and not self._ended:
            self._lose(Lost(self._head, "it is not JSON-RPC"))
        if self._file is not None:
            return LargeReply(self._file, self._written)
        return self._collected() if self._lost is None else self._lost

    def abandon(self) -> None:
        """Give back what was kept of an answer that broke off."""
        self._lose(Lost(self._head))

    def _collected(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _spill(self) -> None:
        first = self._collected()
        self._chunks.clear()
        self._head = first[:_HEAD]
        placed = self._begins(first)
        if placed is None:
            self._lose(Lost(self._head))
            return
        try:
            self._file = self._keeping.file()
        except OSError as error:
            self._lose(Lost(self._head, f"it could not be kept on disk ({error.strerror})"))
            return
        self._write(first, placed)

    def _write(self, came: bytes, written: bytes) -> None:
        assert self._file is not None  # noqa: S101
        if self._balance is not None and not self._belongs(self._balance, came):
            self._lose(Lost(self._head, "it is not JSON-RPC"))
            return
        if not self._keeping.has(len(written)):
            self._lose(Oversize(self._head, crowded=True))
            return
        rest = memoryview(written)
        try:
            while rest:
                taken = self._file.write(rest)
                rest = rest[taken:]
        except OSError as error:
            self._lose(Lost(self._head, f"it could not be kept on disk ({error.strerror})"))
        else:
            self._written += len(written)

    def _belongs(self, balance: Balance, piece: bytes) -> bool:
        """Tell whether `piece` may stand next in one JSON object; blanks alone may follow its end."""
        if self._ended:
            return not piece.strip()
        if self._written == 0:
            blanks = len(piece) - len(piece.lstrip())
            if piece[blanks : blanks + 1] != b"{":
                return False
            piece = piece[blanks:]
        end = balance.end(piece)
        self._ended = end >= 0
        return end < 0 or not piece[end:].strip()

    def _lose(self, lost: Oversize | Lost) -> None:
        self._lost = lost
        self._chunks.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
