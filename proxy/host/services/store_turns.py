"""The order of one plugin's reads and writes: a thread of its own, and one synced batch for the writes that wait together.

While one batch is being synced, what arrives waits and goes to the disk with the next: the price of a sync is shared by all who
wait for one. A read is answered after the writes before it. What was begun is finished, also when nobody waits for it any more: a
database is never closed under a write. A disk that takes its time holds up this plugin alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from proxy.vigil import Vigil

Answer = TypeVar("Answer")
Writes = Mapping[bytes, bytes | None]
Commit = Callable[[list[Writes]], list[Exception | None]]
_Turn = tuple[Writes | Callable[[], Any], asyncio.Future[Any]]

MOST = 256  # turns taken at once
AWAKE = (
    400e-6  # seconds the loop stays awake for a disk that is quick: to be woken costs a third of what such a disk takes
)


class Turns:
    """The turns of one store. `commit` writes batches as one and returns for each why it was not written."""

    def __init__(self, commit: Commit, name: str) -> None:
        self._commit = commit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: deque[_Turn] = deque()
        self._taken = False  # the thread has some
        self._vigil = Vigil(moment=AWAKE)
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(self, writes: Writes) -> None:
        """Return once `writes` (None: a deletion) are on disk; raise what `commit` says of them."""
        await self._turn(writes)

    async def read(self, work: Callable[[], Answer]) -> Answer:
        """Return what `work` returns once everything before it is written."""
        answer: Answer = await self._turn(work)
        return answer

    async def close(self) -> None:
        """Return once nothing runs or waits any more."""
        await self._idle.wait()
        self._thread.shutdown(wait=False)

    def _turn(self, what: Writes | Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((what, answer))
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
        results = self._do([what for what, _ in taken])
        loop.call_soon_threadsafe(self._done, taken, results, loop)

    def _done(
        self, taken: list[_Turn], results: list[tuple[Any, Exception | None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._vigil.came()
        for (_, answer), (value, error) in zip(taken, results, strict=True):
            if answer.done():
                continue  # its asker has gone
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        if self._waiting:
            self._take(loop)
        else:
            self._taken = False
            self._idle.set()

    def _do(self, turns: list[Writes | Callable[[], Any]]) -> list[tuple[Any, Exception | None]]:
        results: list[tuple[Any, Exception | None]] = []
        group: list[Writes] = []
        for turn in turns:
            if callable(turn):
                results += self._written(group)
                group = []
                results.append(_read(turn))
            else:
                group.append(turn)
        return results + self._written(group)

    def _written(self, group: list[Writes]) -> list[tuple[Any, Exception | None]]:
        if not group:
            return []
        try:
            return [(None, error) for error in self._commit(group)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to each of them
            return [(None, error) for _ in group]


def _read(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - it is the asker's answer
        return None, error
