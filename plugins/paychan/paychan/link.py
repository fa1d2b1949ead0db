"""Requests to the hub over its one message stream: `{id, method, params}` out, `{id, result | error}` back.

It must never be awaited from the hook that delivers hub messages: the answer would wait behind the question.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

ANSWER_SECONDS = 25.0


class HubAway(Exception):
    """The hub is not connected, or did not answer in time: whether it got the message is not known."""


class HubRefused(Exception):
    """The hub answered with an error; `code` is its word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Link:
    """Pairs questions with answers."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self._send = send
        # Not from zero: an answer to an earlier process of this plugin must never be taken for one to this process.
        self._next_id = secrets.randbits(48)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self.connected = False

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the hub. Raises HubAway, HubRefused."""
        if not self.connected:
            raise HubAway("the hub is not connected")
        number = self._number()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(_message(number, method, params))
                return await answer
        except TimeoutError:
            raise HubAway(f"the hub did not answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            self._open.pop(number, None)

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        """Ask without waiting for the answer."""
        await self._send(_message(self._number(), method, params))

    def receive(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """Take a message of the hub; return `(method, params)` where it is a push. Raises ValueError for nonsense."""
        message = json.loads(text)
        if not isinstance(message, dict):
            raise ValueError("not an object")  # noqa: TRY004 - nonsense of the hub, not a mistake of ours
        if "method" in message:
            return str(message["method"]), dict(message.get("params") or {})
        waiting = self._open.pop(message.get("id", -1), None)
        if waiting is None or waiting.done():
            return None  # too late, or told without waiting
        error = message.get("error")
        if error is None:
            waiting.set_result(message.get("result"))
        else:
            waiting.set_exception(HubRefused(str(error.get("code")), str(error.get("message"))))
        return None

    def closed(self) -> None:
        """The connection is gone: nothing open will be answered."""
        self.connected = False
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(HubAway("the hub went away before it answered"))

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id


def _message(number: int, method: str, params: dict[str, Any]) -> str:
    return json.dumps({"id": number, "method": method, "params": params}, separators=(",", ":"))
