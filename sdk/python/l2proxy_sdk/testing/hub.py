"""The hub of a test: a port, and a fake one whose messages the test reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Deliver = Callable[[dict[str, Any]], None]


class HubPort(Protocol):
    """A connection to a hub. `deliver` takes `{event: "open" | "message" | "close", …}` and queues it for the plugin."""

    async def connect(self, deliver: Deliver) -> None:
        """Begin; deliver "open" when connected."""

    async def send(self, message: str) -> None:
        """Send a message of the plugin. Raises ConnectionError while away."""

    async def close(self) -> None:
        """End the connection without telling the plugin."""


class FakeHub:
    """Keeps what the plugin sent; `answer`, if given, is asked for a reply to each message."""

    def __init__(self, answer: Callable[[str], Awaitable[str | None]] | None = None, *, online: bool = True) -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self._answer = answer
        self._online = online
        self._deliver: Deliver | None = None

    async def connect(self, deliver: Deliver) -> None:
        """Open at once where online."""
        self._deliver = deliver
        if self._online:
            deliver({"event": "open"})

    async def send(self, message: str) -> None:
        """Keep the message, and deliver the reply."""
        if not self._online:
            raise ConnectionError("the hub is away")
        self.sent.put_nowait(message)
        reply = await self._answer(message) if self._answer else None
        if reply is not None:
            self.deliver(reply)

    def deliver(self, text: str) -> None:
        """Send the plugin a message."""
        self._event({"event": "message", "text": text})

    def go_online(self) -> None:
        """Connect again."""
        self._online = True
        self._event({"event": "open"})

    def go_away(self) -> None:
        """Break the connection."""
        self._online = False
        self._event({"event": "close", "code": 1006, "reason": "gone"})

    async def close(self) -> None:
        """Deliver nothing any more."""
        self._deliver = None

    def _event(self, event: dict[str, Any]) -> None:
        if self._deliver is None:
            raise RuntimeError("the host is not started")
        self._deliver(event)
