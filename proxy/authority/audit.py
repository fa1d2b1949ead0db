"""The record of everything decided: append-only, hash-chained, synced before the decision takes effect.

Each entry is one JSON object whose `previous` is the SHA-256 of the entry before it, byte for byte as it lies on disk.
An edited or missing entry breaks the chain; a chain rewritten as a whole no longer leads to a head that was shown
(security.md 27). Whoever cannot append must not go on (security.md 14): `append` raises.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self._writing = threading.Lock()
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._head = Head(0, GENESIS)
        for key, value in space.scan(_ENTRY, limit=1, reverse=True):
            self._head = Head(int.from_bytes(key[1:], "big"), hashlib.sha256(value).hexdigest())

    @property
    def head(self) -> Head:
        """The newest entry."""
        return self._head

    def append(self, event: Mapping[str, Any]) -> None:
        """Write `event` (JSON types; `event["event"]` says what happened); on disk when this returns, else it raises."""
        self._write([event])

    async def appended(self, event: Mapping[str, Any]) -> None:
        """As `append`, without holding up the loop: what is decided while the disk is busy shares the next sync."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_waiting(), name="the audit log")
        await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            error: BaseException | None = None
            try:
                await asyncio.to_thread(self._write, [event for event, _ in taken])
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - it is the answer to each of them
                error = failure
            for _, written in taken:
                if written.done():
                    continue  # who asked has gone; it was decided all the same
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise error

    def _write(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write entries together, each chained to the one before; from any thread."""
        with self._writing:
            head, values = self._head, dict[bytes, bytes]()
            for event in events:
                n = head.n + 1
                entry = {"n": n, "time": int(self._clock()), "previous": head.hash, **event}
                value = json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode()
                values[_key(n)] = value
                head = Head(n, hashlib.sha256(value).hexdigest())
            self._space.write(values)
            self._head = head

    def entries(self, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
        """Return the newest `limit` entries (with a number below `before`), oldest first, each with its own `hash`."""
        end = None if before is None else _key(before)
        newest = list(self._space.scan(_ENTRY, end=end, limit=limit, reverse=True))
        return [_shown(value) for _, value in reversed(newest)]

    def show_head(self) -> Head:
        """Return the head and remember that the owner saw it: `verify` holds the log to it."""
        with self._writing:  # a head is shown once it is on disk and no earlier
            self._space.write({_SHOWN: str(self._head).encode()})
            return self._head

    def verify(self, head: Head | None = None) -> Head:
        """Check every entry and that the chain leads through `head` and the last head shown; return the newest.

        Raises `AuditBroken` naming the first entry that does not fit.
        """
        expected = {seen.n: seen.hash for seen in self._seen(head)}
        last = Head(0, GENESIS)
        with self._writing:  # else what is on disk and what this process believes may be one entry apart
            for key, value in self._space.scan(_ENTRY):
                last = _checked(last, key, value)
                if expected.pop(last.n, last.hash) != last.hash:
                    raise AuditBroken(
                        f"entry {last.n} is not the one whose head was shown: the log up to it was rewritten"
                    )
            written = self._head
        expected.pop(0, None)
        if expected:
            raise AuditBroken(
                f"the log ends at entry {last.n}, but entry {max(expected)} was shown: its end was cut off"
            )
        if last != written:
            raise AuditBroken(f"the log on disk ends at entry {last.n}, but this process wrote {written.n}")
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
