"""The record of everything decided: append-only, hash-chained, synced before the decision takes effect.

Each entry is one JSON object whose `previous` is the SHA-256 of the entry before it, byte for byte as it lies on disk.
An edited or missing entry breaks the chain; a chain rewritten as a whole no longer leads to a head that was shown
(security.md 27). Whoever cannot append must not go on (security.md 14): `append` raises.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.storage import Space

_ENTRY = b"e"
_SHOWN = b"shown"
GENESIS = "0" * 64


class AuditBroken(Exception):
    """The log was edited; the message names the first entry that does not fit."""


@dataclass(frozen=True)
class Head:
    """The newest entry: its number (0: none yet) and its hash (64 hex digits)."""

    n: int
    hash: str

    def __str__(self) -> str:
        return f"{self.n}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what `str` writes; raise ValueError otherwise."""
        number, colon, digest = text.partition(":")
        if not colon or not number.isascii() or not number.isdigit() or len(digest) != 64:
            raise ValueError(f"{text!r} is no head: expected NUMBER:HASH as `l2proxy audit show --head` prints it")
        return cls(int(number), digest.lower())


class AuditLog:
    """The log of one data directory."""

    def __init__(self, space: Space, clock: Callable[[], float] = time.time) -> None:
        self._space, self._clock = space, clock
        self._head = Head(0, GENESIS)
        for key, value in space.scan(_ENTRY, limit=1, reverse=True):
            self._head = Head(int.from_bytes(key[1:], "big"), hashlib.sha256(value).hexdigest())

    @property
    def head(self) -> Head:
        """The newest entry."""
        return self._head

    def append(self, event: Mapping[str, Any]) -> None:
        """Write `event` (JSON types; `event["event"]` says what happened); on disk when this returns, else it raises."""
        n = self._head.n + 1
        entry = {"n": n, "time": int(self._clock()), "previous": self._head.hash, **event}
        value = json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode()
        self._space.write({_key(n): value})
        self._head = Head(n, hashlib.sha256(value).hexdigest())

    def entries(self, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
        """Return the newest `limit` entries (with a number below `before`), oldest first, each with its own `hash`."""
        end = None if before is None else _key(before)
        newest = list(self._space.scan(_ENTRY, end=end, limit=limit, reverse=True))
        return [_shown(value) for _, value in reversed(newest)]

    def show_head(self) -> Head:
        """Return the head and remember that the owner saw it: `verify` holds the log to it."""
        self._space.write({_SHOWN: str(self._head).encode()})
        return self._head

    def verify(self, head: Head | None = None) -> Head:
        """Check every entry and that the chain leads through `head` and the last head shown; return the newest.

        Raises `AuditBroken` naming the first entry that does not fit.
        """
        expected = {seen.n: seen.hash for seen in self._seen(head)}
        last = Head(0, GENESIS)
        for key, value in self._space.scan(_ENTRY):
            last = _checked(last, key, value)
            if expected.pop(last.n, last.hash) != last.hash:
                raise AuditBroken(f"entry {last.n} is not the one whose head was shown: the log up to it was rewritten")
        expected.pop(0, None)
        if expected:
            raise AuditBroken(
                f"the log ends at entry {last.n}, but entry {max(expected)} was shown: its end was cut off"
            )
        if last != self._head:
            raise AuditBroken(f"the log on disk ends at entry {last.n}, but this process wrote {self._head.n}")
        return last

    def _seen(self, head: Head | None) -> Iterator[Head]:
        shown = self._space.get(_SHOWN)
        if shown is not None:
            yield Head.parse(shown.decode())
        if head is not None:
            yield head


def _key(n: int) -> bytes:
    return _ENTRY + n.to_bytes(8, "big")


def _shown(value: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(value)
    return {**entry, "hash": hashlib.sha256(value).hexdigest()}


def _checked(last: Head, key: bytes, value: bytes) -> Head:
    number = last.n + 1
    try:
        entry = json.loads(value)
        fits = key == _key(number) and entry["n"] == number and entry["previous"] == last.hash
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise AuditBroken(
            f"entry {number} does not follow entry {last.n}: it or the one before it was edited or removed"
        )
    return Head(number, hashlib.sha256(value).hexdigest())
