"""Whether the asker is still there to hear an answer: the end of one HTTP request or of one connection.

Doors make one per request (HTTP) or per connection (WebSocket, unix socket) and put it into the `Context`; a question to
the owner asks it. An asker that has left never comes back under the same presence.
"""

from __future__ import annotations

import asyncio


class Attendance:
    """A `Presence` that ends once."""

    __slots__ = ("_here", "_left")

    def __init__(self) -> None:
        self._here = True
        self._left: asyncio.Event | None = None

    @property
    def here(self) -> bool:
        """Tell whether the asker can still be answered."""
        return self._here

    def leave(self) -> None:
        """Say that the asker has gone."""
        self._here = False
        if self._left is not None:
            self._left.set()

    async def gone(self) -> None:
        """Return once the asker has gone."""
        if not self._here:
            return
        if self._left is None:
            self._left = asyncio.Event()
        await self._left.wait()

    async def back(self) -> None:
        """Return at once while the asker is there; never, once it has gone."""
        if not self._here:
            await asyncio.get_running_loop().create_future()
