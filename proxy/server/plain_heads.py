"""Request heads the fast lane reads by itself, and what they claim: bytes in, a `PlainHead` or None out.

Plain is `POST` in HTTP/1.1 with one Host, one Content-Type and one Content-Length, names and values of printable ASCII, and
nothing that changes how the body or the connection is to be read. Everything else (None) is for the slow lane, which
answers it, refuses it, or knows better; so what stands here never has to write an error. Who asks is judged by `identity`,
the same for both lanes. The same bytes always mean the same: a few heads are remembered, but none that holds a token.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.server.identity import Claim, Identity, NoTokens, Turned, check_content, claim, identify

LONGEST: Final = 8190  # bytes of a plain head; the slow lane takes as much for each line
MOST_LINES: Final = 64
MOST_REMEMBERED: Final = 512

_FIRST: Final = re.compile(rb"POST (/[\x21-\x7e]*) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_NOT_PLAIN: Final = frozenset(
    {"transfer-encoding", "content-encoding", "expect", "upgrade", "te", "trailer", "http2-settings"}
)
_JUDGED: Final = frozenset({"host", "origin", "authorization", "content-type", "content-length", "connection"})


class PlainHead:
    """A head that may be served. `identity` is None where a token has to be verified, each time anew."""

    __slots__ = ("claimed", "identity", "length")

    def __init__(self, claimed: Claim, length: int) -> None:
        self.claimed = claimed
        self.length = length
        self.identity: Identity | None = None
        if claimed.token is None:
            self.identity = identify(claimed.page, None, NoTokens())


class PlainHeads:
    """Reads heads for one listener. `names`: its Host names; `most_bytes`: of a body."""

    def __init__(self, names: frozenset[str], most_bytes: int) -> None:
        self._names = names
        self._most_bytes = most_bytes
        self._remembered: dict[bytes, PlainHead] = {}

    def read(self, head: bytes) -> PlainHead | None:
        """Return what `head` (with its empty line) says; None: it is not plain, or not to be served."""
        known = self._remembered.get(head)
        if known is not None:
            return known
        plain = self._read(head)
        if plain is not None and plain.identity is not None:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[head] = plain
        return plain

    def _read(self, head: bytes) -> PlainHead | None:
        if len(head) > LONGEST:
            return None
        first, *lines = head[:-4].split(b"\r\n")
        start = _FIRST.fullmatch(first)
        fields = None if start is None or len(lines) > MOST_LINES else _fields(lines)
        if start is None or fields is None:
            return None
        length = fields.get("content-length", [])
        if len(length) != 1 or not _LENGTH.fullmatch(length[0]) or int(length[0]) > self._most_bytes:
            return None
        if [value.lower() for value in fields.get("connection", ())] not in ([], ["keep-alive"]):
            return None
        try:
            hosts, origins, authorizations = (fields.get(name, ()) for name in ("host", "origin", "authorization"))
            claimed = claim(hosts, origins, start[1].decode("ascii"), authorizations, self._names)
            check_content(fields.get("content-type", ()), ())
        except Turned:
            return None
        return PlainHead(claimed, int(length[0]))


def _fields(lines: list[bytes]) -> dict[str, list[str]] | None:
    """Return the values of the fields that are judged, by lower-case name; None if a line is not plain."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].decode("ascii").lower()
        if name in _NOT_PLAIN:
            return None
        if name in _JUDGED:
            fields.setdefault(name, []).append(match[2].decode("ascii").rstrip(" "))
    return fields


def may_become_plain(start: bytes) -> bool:
    """Tell whether the beginning of a head can still turn out plain; otherwise nobody should wait for its end here."""
    opening = b"POST /"
    fits = start.startswith(opening) if len(start) >= len(opening) else opening.startswith(start)
    if not fits or len(start) > LONGEST or start.count(b"\n") != start.count(b"\r\n"):
        return False
    first, ended, _ = start.partition(b"\r\n")
    return not ended or _FIRST.fullmatch(first) is not None
