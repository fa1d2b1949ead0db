"""The order of one plugin's reads and writes: a thread of its own, and one synced batch for the writes that wait together.

Everything a plugin asks for that must be on disk before it is answered passes here: its store, and beside it what it publishes, its
watches, timers and accounts. While one batch is being synced, what arrives waits and goes to the disk with the next: the price of a sync
is shared by all who wait for one. A read is answered after the writes before it. What was begun is finished, also when nobody waits for it
any more: a database is never closed under a write. A disk that takes its time holds up this plugin alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from proxy.storage import StorageError
from proxy.vigil import Vigil

log = logging.getLogger("l2proxy.host")

Answer = TypeVar("Answer")
Writes = Mapping[bytes, bytes | None]
Commit = Callable[[list[Any]], list[Any]]
"""Writes a group as one batch; returns for each its answer, or the exception that is its answer."""

MOST = 256  # turns taken at once
AWAKE = (
    400e-6  # seconds the loop stays awake for a disk that is quick: to be woken costs a third of what such a disk takes
)


class _Turn(NamedTuple):
    """One that waits. `what` is written by `commit` (None: the store's own), or called if `reads`; `then` is called on the loop."""

    what: Any
    reads: bool
    commit: Commit | None
    then: Callable[[Any], object] | None
    answer: asyncio.Future[Any]


class Turns:
    """The turns of one store, whose writes `commit` writes."""

    def __init__(self, commit: Commit, name: str) -> None:
        self._commit = commit
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: deque[_Turn] = deque()
        self._taken = False  # the thread has some
        self._closed = False
        self._vigil = Vigil(moment=AWAKE)
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(
        self, what: Any, commit: Commit | None = None, *, then: Callable[[Any], object] | None = None
    ) -> Any:
        """Return the answer of `commit` to `what` once it is on disk; raise what it says of it.

        Without `commit` it is the store's: `Writes` of the plugin or a `Batch` of the database's other spaces. Of what waits together the
        store is written first: what others are shown is never ahead of what the plugin kept. `then(answer)` is called once it is on
        disk, in the order of the turns and before this returns, also when nobody waits for it any more.
        """
        return await self._turn(what, False, commit, then)

    async def read(self, work: Callable[[], Answer]) -> Answer:
        """Return what `work` returns once everything before it is written."""
        answer: Answer = await self._turn(work, True, None, None)
        return answer

    async def close(self) -> None:
        """Return once nothing runs or waits any more."""
        while self._taken:
            await self._idle.wait()
        self._closed = True
        self._thread.shutdown(wait=False)

    def _turn(
        self, what: Any, reads: bool, commit: Commit | None, then: Callable[[Any], object] | None
    ) -> asyncio.Future[Any]:
        if self._closed:
            raise StorageError(f"the {self._name} is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Turn(what, reads, commit, then, answer))
        if not self._taken:
            self._taken = True
            self._idle.clear()
            loop.call_soon(self._take, loop)  # with those that ask in this turn of the loop
        return answer

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what waits to the thread; it calls `_done`. No task and no future between: one wake-up each way."""
        taken = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        self._thread.submit(self._work, taken, loop)
        self._vigil.expect()

    def _work(self, taken: list[_Turn], loop: asyncio.AbstractEventLoop) -> None:
        results = self._do(taken)
        loop.call_soon_threadsafe(self._done, taken, results, loop)

    def _done(
        self, taken: list[_Turn], results: list[tuple[Any, Exception | None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._vigil.came()
        for turn, (value, failure) in zip(taken, results, strict=True):
            error = failure if failure is not None or turn.then is None else _called(turn.then, value)
            if turn.answer.done():
                continue  # its asker has gone
            if error is None:
                turn.answer.set_result(value)
            else:
                turn.answer.set_exception(error)
        if self._waiting:
            self._take(loop)
        else:
            self._taken = False
            self._idle.set()

    def _do(self, turns: list[_Turn]) -> list[tuple[Any, Exception | None]]:
        results: list[tuple[Any, Exception | None]] = [(None, None)] * len(turns)
        group: list[int] = []
        for place, turn in enumerate(turns):
            if turn.reads:
                self._write(turns, group, results)
                group = []
                results[place] = _read(turn.what)
            else:
                group.append(place)
        self._write(turns, group, results)
        return results

    def _write(self, turns: list[_Turn], group: list[int], results: list[tuple[Any, Exception | None]]) -> None:
        """Write a stretch of turns without a read between them; those of one `commit` as one batch."""
        by_commit: dict[Commit, list[int]] = {self._commit: []}
        for place in group:
            by_commit.setdefault(turns[place].commit or self._commit, []).append(place)
        for commit, places in by_commit.items():
            if places:
                rows = _written(commit, [turns[place].what for place in places])
                for place, row in zip(places, rows, strict=True):
                    results[place] = row


def _written(commit: Commit, group: list[Any]) -> list[tuple[Any, Exception | None]]:
    try:
        return [(None, row) if isinstance(row, Exception) else (row, None) for row in commit(group)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to each of them
        return [(None, error) for _ in group]


def _read(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - it is the asker's answer
        return None, error


def _called(then: Callable[[Any], object], value: Any) -> Exception | None:
    try:
        then(value)
    except Exception as error:
        log.exception("what follows a write failed")
        return error
    return None
