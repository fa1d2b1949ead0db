"""Whether anyone still waits for an answer that several may wait for, one after the other or at once.

An asker that retries (viem does after 10 s) comes as a new request while the question of the first is open; the answers
link and the idempotency link let it join. Each inner call thus has one `SharedPresence` with an asker for every request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from middleware.waist import Presence


class Asker:
    """One who waits for the answer. `presence` None: until it leaves."""

    __slots__ = ("_hearing", "_left", "presence")

    def __init__(self, presence: Presence | None) -> None:
        self.presence = presence
        self._left = False
        self._hearing: list[asyncio.Future[None]] = []  # who wants to hear that it left: hardly ever anybody

    @property
    def here(self) -> bool:
        """Tell whether it waits."""
        return not self._left and (self.presence is None or self.presence.here)

    def leave(self) -> None:
        """Wait no longer."""
        self._left = True
        _tell(self._hearing)

    async def left(self) -> None:
        """Return once it left by itself."""
        if not self._left:
            await _told(self._hearing)

    async def gone(self) -> None:
        """Return once this asker left, by itself or with its connection."""
        if self.presence is None:
            await self.left()
            return
        waits = [asyncio.ensure_future(self.left()), asyncio.ensure_future(self.presence.gone())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


class SharedPresence:
    """A `Presence` that is here as long as one of its askers is."""

    __slots__ = ("_askers", "_hearing")

    def __init__(self) -> None:
        self._askers: list[Asker] = []
        self._hearing: list[asyncio.Future[None]] = []  # who wants to hear of the next asker

    @property
    def here(self) -> bool:
        """Tell whether anyone waits."""
        for asker in self._askers:  # noqa: SIM110 - asked in every call
            if asker.here:
                return True
        return False

    async def gone(self) -> None:
        """Return once nobody waits."""
        while asker := next((asker for asker in self._askers if asker.here), None):
            await asker.gone()

    async def back(self) -> None:
        """Return once somebody waits."""
        while not self.here:
            await _told(self._hearing)

    def join(self, presence: Presence | None) -> Asker:
        """Count one more asker until `leave`. `presence` None: it waits until then."""
        asker = Asker(presence)
        self._askers.append(asker)
        _tell(self._hearing)
        return asker

    def leave(self, asker: Asker) -> None:
        """Count an asker that joined no more."""
        self._askers.remove(asker)
        asker.leave()

    @contextlib.contextmanager
    def joined(self, presence: Presence | None) -> Iterator[None]:
        """Count one more asker inside the block."""
        asker = self.join(presence)
        try:
            yield
        finally:
            self.leave(asker)


async def _told(hearing: list[asyncio.Future[None]]) -> None:
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hearing.append(told)
    try:
        await told
    finally:
        if told in hearing:
            hearing.remove(told)


def _tell(hearing: list[asyncio.Future[None]]) -> None:
    while hearing:
        told = hearing.pop()
        if not told.done():
            told.set_result(None)
