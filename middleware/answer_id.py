"""Where the caller's id stands in a node's answer, so that one answer can be given to many, each with an id of its own.

Used by the cache and by in-flight sharing. Every other byte stays as the node wrote it (rpc.md, "Equal"). Only the two
places nodes put it are known, first and last; an answer that has it elsewhere is not divided, and so never shared.
"""

from __future__ import annotations

import re

_HEAD = b'{"jsonrpc":"2.0","id":'
_FIRST = re.compile(
    rb'[ \t\r\n]*+\{[ \t\r\n]*+(?:"jsonrpc"[ \t\r\n]*+:[ \t\r\n]*+"2\.0"[ \t\r\n]*+,[ \t\r\n]*+)?"id"[ \t\r\n]*+:[ \t\r\n]*+'
)
_BEFORE_LAST = re.compile(rb',[ \t\r\n]*+"id"[ \t\r\n]*+:[ \t\r\n]*+\Z')
_NEAR_END = 64  # bytes between a last id and the end that are looked at, beside the id


def divide(body: bytes, raw_id: bytes) -> tuple[bytes, bytes] | None:
    """Return what stands before and after `raw_id` at the top level of an answer; None where that is not plain to see."""
    start = len(_HEAD) if body.startswith(_HEAD) else (match.end() if (match := _FIRST.match(body)) else -1)
    end = start + len(raw_id)
    if start > 0 and body.startswith(raw_id, start) and body[end : end + 1] in (b",", b"}", b" ", b"\t", b"\r", b"\n"):
        return body[:start], body[end:]
    return _divide_at_end(body, raw_id)


def _divide_at_end(body: bytes, raw_id: bytes) -> tuple[bytes, bytes] | None:
    # The last brace of an answer closes its top level, so a member right before it stands there.
    stripped = body.rstrip()
    inner = stripped[:-1].rstrip() if stripped.endswith(b"}") else b""
    start = len(inner) - len(raw_id)
    if start <= 0 or not inner.endswith(raw_id):
        return None
    if _BEFORE_LAST.search(body, max(0, start - _NEAR_END), start) is None:
        return None
    return body[:start], body[start + len(raw_id) :]
