"""The hub of a test: a port, and a fake one whose messages the test reads and writes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Deliver = Callable[[dict[str, Any]], None]


class HubPort(Protocol):
    """A connection to a hub. `deliver` takes `{event: "open" | "message" | "close", …}` and queues it for the plugin."""

    async def connect(self, deliver: Deliver) -> None:
        """Begin; deliver "open" when connected."""

    async def send(self, message: Any) -> None:
        """Send a message of the plugin, str or bytes. Raises ConnectionError while away."""

    async def close(self) -> None:
        """End the connection without telling the plugin."""


class FakeHub:
    """Keeps what the plugin sent; `answer`, if given, is asked for a reply to each message.

    `respond(request)` answers the requests to an HTTP hub, `{method, path, headers, body?}`, with `{status?, headers?, body?}`.
    """

    def __init__(
        self,
        answer: Callable[[Any], Awaitable[Any]] | None = None,
        *,
        respond: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None,
        online: bool = True,
    ) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self._respond = respond
        self._answer = answer
        self._online = online
        self._deliver: Deliver | None = None

    async def connect(self, deliver: Deliver) -> None:
        """Open at once where online."""
        self._deliver = deliver
        if self._online:
            deliver({"event": "open"})

    async def send(self, message: Any) -> None:
        """Keep the message, and deliver the reply."""
        if not self._online:
            raise ConnectionError("the hub is away")
        self.sent.put_nowait(message)
        reply = await self._answer(message) if self._answer else None
        if reply is not None:
            self.deliver(reply)

    async def request(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of the plugin to an HTTP hub."""
        if not self._online or self._respond is None:
            raise ConnectionError("the hub is away" if not self._online else "this hub has no `respond`")
        return await self._respond(asked)

    def deliver(self, message: str | bytes) -> None:
        """Send the plugin a message."""
        shown = {"text": message} if isinstance(message, str) else {"base64": base64.b64encode(message).decode()}
        self._event({"event": "message", **shown})

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
