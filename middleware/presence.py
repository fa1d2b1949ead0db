"""Whether anyone still waits for an answer that several may wait for, one after the other or at once.

An asker that retries (viem does after 10 s) comes as a new request while the question of the first is open; the answers
link and the idempotency link let it join. Each inner call thus has one `SharedPresence` with an asker for every request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from middleware.waist import Presence


class _Asker:
    def __init__(self, presence: Presence | None) -> None:
        self.presence = presence
        self.left = asyncio.Event()

    @property
    def here(self) -> bool:
        return not self.left.is_set() and (self.presence is None or self.presence.here)

    async def gone(self) -> None:
        """Return once this asker left, by itself or with its connection."""
        if self.presence is None:
            await self.left.wait()
            return
        waits = [asyncio.ensure_future(self.left.wait()), asyncio.ensure_future(self.presence.gone())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


class SharedPresence:
    """A `Presence` that is here as long as one of its askers is."""

    def __init__(self) -> None:
        self._askers: set[_Asker] = set()
        self._joined = asyncio.Event()

    @property
    def here(self) -> bool:
        """Tell whether anyone waits."""
        return any(asker.here for asker in self._askers)

    async def gone(self) -> None:
        """Return once nobody waits."""
        while asker := next((asker for asker in self._askers if asker.here), None):
            await asker.gone()

    async def back(self) -> None:
        """Return once somebody waits."""
        while not self.here:
            self._joined.clear()
            await self._joined.wait()

    @contextlib.contextmanager
    def joined(self, presence: Presence | None) -> Iterator[None]:
        """Count one more asker inside the block. `presence` None: it waits until the block ends."""
        asker = _Asker(presence)
        self._askers.add(asker)
        self._joined.set()
        try:
            yield
        finally:
            asker.left.set()
            self._askers.discard(asker)
