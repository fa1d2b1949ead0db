"""The id of a large answer that stands at its end: read and replaced in the file, where nothing else can be moved.

Used by `line` and `solitary` for answers whose first bytes did not tell whose they are.
"""

from __future__ import annotations

import os

from middleware.waist import LargeReply
from proxy.upstream import envelope

_TAIL = 200


def number_at_end(reply: LargeReply) -> bytes | None:
    """Return the number `reply` ends with; None where its id stands elsewhere."""
    tail, span = _end(reply)
    return None if span is None else tail[span[0] : span[1]]


def placed_at_end(reply: LargeReply, raw_id: bytes) -> LargeReply:
    """Return `reply` with the number it ends with replaced by `raw_id`."""
    tail, span = _end(reply)
    if span is None:
        return reply
    descriptor, start = reply.file.fileno(), reply.length - len(tail) + span[0]
    end = raw_id + tail[span[1] :]
    os.ftruncate(descriptor, start)
    os.pwrite(descriptor, end, start)
    return LargeReply(reply.file, start + len(end))


def _end(reply: LargeReply) -> tuple[bytes, tuple[int, int] | None]:
    tail = os.pread(reply.file.fileno(), _TAIL, max(0, reply.length - _TAIL))
    return tail, envelope.number_at_end(tail)
