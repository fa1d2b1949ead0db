"""The record of everything decided: append-only, hash-chained, synced before the decision takes effect.

Each entry is one JSON object whose `previous` is the SHA-256 of the entry before it, byte for byte as it lies on disk.
An edited or missing entry breaks the chain; a chain rewritten as a whole no longer leads to a head that was shown
(security.md 27). Whoever cannot append must not go on (security.md 14): `append` raises. What allows nothing to be spent is
`noted`: written before it takes effect as well, so that no end of this process loses it, and synced a moment later (docs/decisions 0008).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.storage import Space

log = logging.getLogger("l2proxy.audit")

NOTED = 0.05  # seconds after which what was only noted is synced

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
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[None], bool]] = []  # True: to be synced
        self._writer: asyncio.Task[None] | None = None
        self._noted: dict[bytes, bytes] = {}  # written and not synced; to be written again with the next sync
        self._sync_due = False
        self._timer: asyncio.TimerHandle | None = None
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
        await self._queued(event, synced=True)

    async def noted(self, event: Mapping[str, Any]) -> None:
        """As `appended`, for what spends nothing: with the system when this returns, on disk `NOTED` seconds later."""
        if self._is_writing() or self._writing.locked():  # the loop would stand still for as long as the disk takes
            await self._queued(event, synced=False)
        else:
            self._note([event])

    async def close(self) -> None:
        """Sync what was noted, and write nothing later."""
        if self._timer is not None:
            self._timer.cancel()
            self._sync()
        if self._writer is not None:
            await asyncio.wait([self._writer])

    def _queued(self, event: Mapping[str, Any], *, synced: bool) -> asyncio.Future[None]:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, written, synced))
        self._begin_writing()
        return written

    def _begin_writing(self) -> None:
        if not self._is_writing():
            self._writer = asyncio.get_running_loop().create_task(self._write_waiting(), name="the audit log")

    def _is_writing(self) -> bool:
        return self._writer is not None and not self._writer.done()

    def _note(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._write(events, synced=False)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTED, self._sync)

    def _sync(self) -> None:
        """Sync what was noted beside the loop."""
        self._timer = None
        if self._noted:
            self._sync_due = True
            self._begin_writing()

    async def _write_waiting(self) -> None:
        while self._waiting or self._sync_due:
            taken, self._waiting = self._waiting, []
            events = [event for event, _, _ in taken]
            synced = self._sync_due or any(synced for _, _, synced in taken)
            self._sync_due = False
            error: BaseException | None = None
            try:
                if synced or self._writing.locked():
                    await asyncio.to_thread(self._write, events)
                else:
                    self._note(events)
            except (Exception, asyncio.CancelledError) as failure:  # it is the answer to each of them
                error = failure
                if not taken:
                    log.exception("the audit log could not be synced; the next entry tries it again")
            for _, written, _ in taken:
                if written.done():
                    continue  # who asked has gone; it was decided all the same
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise error

    def _write(self, events: Sequence[Mapping[str, Any]], *, synced: bool = True) -> None:
        """Write entries together, each chained to the one before; from any thread. Synced, what was noted is on disk too."""
        with self._writing:
            head, values = self._head, dict[bytes, bytes]()
            for event in events:
                n = head.n + 1
                value = _encoded({"n": n, "time": int(self._clock()), "previous": head.hash, **event})
                values[_key(n)] = value
                head = Head(n, hashlib.sha256(value).hexdigest())
            # Noted entries are written again with the sync: LevelDB syncs its present file alone, and they may be in the one before.
            self._space.write({**self._noted, **values} if synced else values, synced=synced)
            if synced:
                self._noted.clear()
            else:
                self._noted.update(values)
            self._head = head

    def entries(self, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
        """Return the newest `limit` entries (with a number below `before`), oldest first, each with its own `hash`."""
        end = None if before is None else _key(before)
        newest = list(self._space.scan(_ENTRY, end=end, limit=limit, reverse=True))
        return [_shown(value) for _, value in reversed(newest)]

    def show_head(self) -> Head:
        """Return the head and remember that the owner saw it: `verify` holds the log to it."""
        with self._writing:  # a head is shown once it is on disk and no earlier
            self._space.write({**self._noted, _SHOWN: str(self._head).encode()})
            self._noted.clear()
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


def _encoded(entry: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(entry)
    except (UnicodeEncodeError, OverflowError):  # half a surrogate pair, or an integer of more than 64 bits
        return json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode()


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
