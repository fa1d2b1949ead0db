"""Bad tokens are answered late and one after another, so that guessing one gains nothing from asking in parallel.

Behind `identity`, before the 401 is written. Good tokens never wait here (security.md 5).
"""

from __future__ import annotations

import asyncio

DELAY_SECONDS = 0.1
MOST_WAITING = 64


class Attempts:
    """The one queue of all failed attempts of a listener."""

    def __init__(self, delay: float = DELAY_SECONDS) -> None:
        self._delay = delay
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def wait(self) -> bool:
        """Return when the failure may be told; False at once when too many wait already: it is not to be told at all."""
        if self._waiting >= MOST_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(self._delay)
        finally:
            self._waiting -= 1
        return True
