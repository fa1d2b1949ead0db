"""Both directions of the channel: our requests and their answers, the other side's requests and ours.

Stands between the pipe (bytes) and the runtime (methods). Every request is answered exactly once; requests run
concurrently, one task each. It must never wait for one request before it reads the next line, and never goes on after an
answer that belongs to no open request: the two sides no longer agree, so the channel ends (plugin.md).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from . import frames
from .errors import ChannelClosed, HostError

MAX_OPEN = 256  # requests of ours at once, the proxy's limit; more wait for their turn
MAX_UNANSWERED = (
    4 * 1024 * 1024
)  # bytes of them, below the proxy's limit; one longer than what is left waits for answers
MAX_WAITING = 4 * 1024 * 1024  # bytes unread by the proxy; beyond them nothing is said that has no answer
FAILED = {"code": -32603, "message": "the plugin failed; the reason is in its log"}

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Failure(Exception):
    """An error object on its way to the other side."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.error = error


class Lines(Protocol):
    """Where lines come from."""

    async def each(self, take: Callable[[bytes], None]) -> None:
        """Give `take` every line until the other side closes; raise what it raises."""


class Writer(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Queue `line`."""

    async def drain(self) -> None:
        """Wait until the queue is short again."""

    @property
    def waiting(self) -> int:
        """Return how many bytes are queued."""


class Peer:
    """One end of a channel. `handler` answers requests: it returns a JSON value or raises Failure."""

    def __init__(self, lines: Lines, writer: Writer, handler: Handler) -> None:
        self._lines = lines
        self._writer = writer
        self._handler = handler
        self._next_id = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._abandoned: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._places = asyncio.Semaphore(MAX_OPEN)
        self._turn = asyncio.Lock()
        self._unanswered = 0  # bytes
        self._answered = asyncio.Event()
        self._unsaid = 0  # what had no answer, and no room

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the other side. Raises HostError for its error object, ChannelClosed when it has gone."""
        if self._closed:
            raise ChannelClosed("the proxy has closed the channel")
        self._next_id += 1
        number = self._next_id
        async with self._places:
            return await self._ask(number, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})

    async def _ask(self, number: int, message: dict[str, Any]) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self._turn:  # one after the other: of all that wait, one line is in memory
            await (
                self._writer.drain()
            )  # before, not after: what many wait to say is not held in the pipe's buffer together
            line = frames.encode(message)
            while self._unanswered and self._unanswered + len(line) > MAX_UNANSWERED and not self._closed:
                self._answered.clear()
                await self._answered.wait()
            if self._closed:
                raise ChannelClosed("the proxy has closed the channel")
            self._open[number] = answer
            self._unanswered += len(line)
            self._writer.write(line)
        try:
            return await answer
        except asyncio.CancelledError:
            if number in self._open:
                self._abandoned.add(number)  # its answer will still come, and is then dropped
            raise
        finally:
            self._open.pop(number, None)
            self._unanswered -= len(line)
            self._answered.set()

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the other side something that has no answer; dropped, and counted, where much waits to be read already."""
        if self._closed:
            return
        line = frames.encode({"jsonrpc": "2.0", "method": method, "params": params})
        if self._writer.waiting > MAX_WAITING:
            self._unsaid += 1
            return
        if self._unsaid:
            said = {"level": "warning", "message": f"{self._unsaid} lines were not said: the proxy had much to read"}
            self._writer.write(frames.encode({"jsonrpc": "2.0", "method": "log", "params": said}))
            self._unsaid = 0
        self._writer.write(line)

    async def serve(self) -> None:
        """Read until the other side closes; then cancel what is running. Raises ChannelClosed on a broken protocol."""
        try:
            await self._lines.each(self._take)
        finally:
            self._closed = True
            self._answered.set()
            for answer in self._open.values():
                if not answer.done():
                    answer.set_exception(ChannelClosed("the proxy has closed the channel"))
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _take(self, line: bytes) -> None:
        message = frames.parse(line)
        if "method" not in message:
            self._settle(message)
            return
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _settle(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if type(number) is not int:
            raise ChannelClosed(f"an answer with the id {number!r}, which no request has")
        if number in self._abandoned:
            self._abandoned.discard(number)
            return
        answer = self._open.pop(number, None)
        if answer is None or answer.done():
            raise ChannelClosed(f"an answer with the id {number}, which no open request has")
        error = message.get("error")
        if error is None:
            answer.set_result(message.get("result"))
            return
        if not isinstance(error, dict) or type(error.get("code")) is not int:
            raise ChannelClosed(f"the answer {number} holds a malformed error")
        text = str(error.get("message", ""))
        answer.set_exception(HostError(error["code"], text, error.get("data"), error.get("spent")))

    async def _answer(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params", {})
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
        if not isinstance(method, str) or not isinstance(params, dict):
            reply["error"] = {"code": -32600, "message": "a request has a method name and params by name"}
        else:
            try:
                reply["result"] = await self._handler(method, params)
            except Failure as failure:
                reply["error"] = failure.error
        if "id" not in message or self._closed:
            return
        try:
            line = frames.encode(reply)
        except ValueError as error:
            print(f"the answer to {method} cannot be sent: {error}", file=sys.stderr)  # noqa: T201 - stderr is the plugin's log
            line = frames.encode({"jsonrpc": "2.0", "id": message["id"], "error": FAILED})
        await self._writer.drain()
        self._writer.write(line)
