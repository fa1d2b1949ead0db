"""Both directions of the pipe to one plugin process: our requests and its answers, its requests and ours.

Stands between the process (bytes) and the host (methods). Every message is a request and gets one answer; `log` alone is a
notification. Late answers are dropped; an answer nobody waits for, a malformed line or an oversized one ends the channel,
for the two sides no longer agree (plugin.md). It must never block the loop, never hold more than a bounded queue, and
never trust an id, a type or a length.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from middleware.errors import InternalError, LimitExceeded, RpcError
from proxy.host import frames
from proxy.host.pacing import Pace, timed
from proxy.host.pipes import Incoming
from proxy.vigil import Vigil

log = logging.getLogger("l2proxy.host")

MAX_OPEN = 256  # requests of the plugin that run at once
MAX_HELD = 128 * 1024 * 1024  # bytes that these may hold here, once parsed
MAX_LATE = 4096  # answers we no longer wait for and still accept once
AT_ONCE = 64 * 1024  # bytes read at once, and bytes that may wait to be written before reading stops
MAX_UNREAD = 32 * 1024 * 1024  # bytes of answers a plugin may leave unread; beyond them a long answer is refused
AWAKE = 250e-6  # seconds the loop stays awake for an answer; a plugin takes longer to wake and to answer than a node
STALL = 30.0  # seconds a plugin may leave its standard input full
_NONE: Any = object()

Line = TypeVar("Line", bytes, bytearray)
Handler = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Any]]
Notified = Callable[[str, dict[str, Any]], None]


class ChannelEnded(Exception):
    """The process ended or broke the protocol while something was asked; the message says which."""


class AnsweredError(Exception):
    """The plugin answered with an error object: `code`, `message`, `data`, `spent`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")
        self.spent: bool = error.get("spent") is not False


class Time(Protocol):
    """How long an answer may be waited for (calls.py)."""

    def watch(self, answer: asyncio.Future[Any]) -> None:
        """Set an error on `answer` once the time is used up."""

    def over(self) -> None:
        """Hear that nobody waits any more."""


class Channel:
    """One end of the pipe. `handle` answers the plugin's requests (JSON value or RpcError), `notified` takes `log`."""

    def __init__(self, reader: Incoming, writer: asyncio.StreamWriter, handle: Handler, notified: Notified) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._notified = notified
        self._pace = Pace()
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._written: list[bytes] = []
        self._late: OrderedDict[int, None] = OrderedDict()
        self._open: dict[int | str, asyncio.Task[None]] = {}
        self._held = 0  # bytes, about, of the requests that are open
        self._lines: deque[bytes] = deque()  # read, and not taken yet
        self._begun = bytearray()  # a line that is not all there
        self._resting: asyncio.Task[None] | None = None
        self._said_all = False
        self._vigil = Vigil(moment=AWAKE)
        self._over: asyncio.Future[str] = self._loop.create_future()
        self.ended: str | None = None

    async def request(self, method: str, params: dict[str, Any], time: Time | None = None) -> Any:
        """Ask the plugin; raises AnsweredError, ChannelEnded, LimitExceeded, and what `time` sets when it is used up.

        Without `time` the caller sets the deadline by cancelling.
        """
        if self.ended is not None:
            raise ChannelEnded(self.ended)
        self._next_id += 1
        number = self._next_id
        try:
            line = frames.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        except frames.BadFrame as error:
            raise LimitExceeded("plugin_line", f"the plugin cannot be asked: {error}") from None
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[number] = answer
        if time is not None:
            time.watch(answer)
        try:
            self._write(line)
            return await answer
        finally:
            if time is not None:
                time.over()
            if self._waiting.pop(number, None) is not None and self.ended is None:
                self._late[number] = None
                if len(self._late) > MAX_LATE:
                    self._late.popitem(last=False)

    async def serve(self) -> str:
        """Read until the process closes its end or breaks the protocol; return why it ended."""
        try:
            try:
                await self._reader.hand_over(self._received, self._closed)
                reason = await self._over
            except OSError:
                reason = "ended"
            self.end(reason)
        finally:
            running = list(self._open.values())
            if self._resting is not None:
                running.append(self._resting)
                self._resting.cancel()
            self.end("was stopped")
            await asyncio.gather(*running, return_exceptions=True)
        return reason

    def end(self, reason: str) -> None:
        """Fail what is being waited for and cancel what runs for the plugin."""
        if self.ended is not None:
            return
        self.ended = reason
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelEnded(reason))
                answer.exception()  # the asker may have gone; its absence is no error
        self._waiting.clear()
        for task in self._open.values():
            task.cancel()
        self._lines.clear()
        self._begun.clear()
        self._writer.close()
        self._reader.resume()  # else its end would not be heard

    def _received(self, chunk: bytes) -> None:
        """Take what was read; lines wait while it is not the plugin's turn, and then nothing more is read."""
        if self.ended is not None:
            return
        *ends, rest = chunk.split(b"\n")
        if ends and self._begun:
            ends[0] = bytes(self._begun + ends[0])
            self._begun.clear()
        if rest:
            self._begun += rest
        self._lines.extend(ends)
        self._vigil.came()
        if self._resting is None:
            self._work()

    def _closed(self) -> None:
        self._said_all = True
        if self._resting is None or self.ended is not None:
            self._work()

    def _work(self) -> None:
        """Take the lines that wait, until it is others' turn or nothing more comes."""
        try:
            while self._lines and self.ended is None:
                if self._is_unread() or self._pace.is_due:
                    self._rest()
                    return
                began = time.perf_counter()
                line = _bounded(self._lines.popleft())
                self._take(frames.parse(line), frames.weight(line))
                self._pace.spend(time.perf_counter() - began)
            _bounded(self._begun)
        except (frames.BadFrame, _Broken) as error:
            self._over_because(f"broke the protocol: {error}")
        if self._said_all:
            self._over_because("ended in the middle of a line" if self._begun else "ended")

    def _over_because(self, reason: str) -> None:
        self.end(reason)
        if not self._over.done():
            self._over.set_result(reason)

    def _is_unread(self) -> bool:
        return int(self._writer.transport.get_write_buffer_size()) > AT_ONCE

    def _rest(self) -> None:
        self._reader.pause()
        self._resting = self._loop.create_task(self._rested())

    async def _rested(self) -> None:
        """Go on once the plugin has read what was written, and others had their turn."""
        try:
            if self._is_unread():
                await self._drain()
            if self._pace.is_due:
                await self._pace.give_way()
        except _Broken as error:
            self._over_because(f"broke the protocol: {error}")
        except OSError:
            self._over_because("ended")
        self._resting = None
        self._reader.resume()
        self._work()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(STALL):
                await self._writer.drain()
        except TimeoutError:
            raise _Broken(f"does not read its standard input for {STALL:g} s") from None

    def _take(self, message: dict[str, Any], weight: int) -> None:
        if "method" not in message:
            self._settle(message)
            return
        method, params = message["method"], message.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict) or "result" in message or "error" in message:
            raise _Broken("a request that is not one")
        if "id" not in message:
            if method != "log":
                raise _Broken("a notification other than log")
            self._notified(method, params)
            return
        number = message["id"]
        if not isinstance(number, int | str) or isinstance(number, bool) or len(str(number)) > 64:
            raise _Broken("a request whose id is neither a short string nor an integer")
        if number in self._open:
            raise _Broken("a request with the id of one that is still open")
        if len(self._open) >= MAX_OPEN:
            refusal = LimitExceeded("plugin_requests", f"{MAX_OPEN} requests of the plugin are open already")
            self._reply(number, {"error": refusal.to_json()})
            return
        if self._open and self._held + weight > MAX_HELD:
            refusal = LimitExceeded("plugin_requests", "the requests of the plugin that are open already hold too much")
            self._reply(number, {"error": refusal.to_json()})
            return
        task = self._loop.create_task(self._answer(number, method, params))
        self._open[number] = task
        self._held += weight
        task.add_done_callback(lambda _: self._answered(number, weight))

    def _answered(self, number: int | str, weight: int) -> None:
        self._open.pop(number, None)
        self._held -= weight

    def _settle(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if type(number) is not int or ("result" in message) == ("error" in message):
            raise _Broken("an answer that is not one")
        if number in self._late:
            del self._late[number]
            return
        if number not in self._waiting:
            raise _Broken("an answer to a request that is not open")
        error = message.get("error", _NONE)
        if error is not _NONE and not _is_error(error):
            raise _Broken("an answer with a malformed error")
        answer = self._waiting.pop(number)
        if answer.done():
            return
        if error is _NONE:
            answer.set_result(message["result"])
        else:
            answer.set_exception(AnsweredError(error))

    async def _answer(self, number: int | str, method: str, params: dict[str, Any]) -> None:
        try:
            reply = {"result": await timed(self._handle(method, params), self._pace.spend)}
        except RpcError as error:
            reply = {"error": error.to_json()}
        except Exception:
            error_id = f"{time.time_ns():x}"
            log.exception("host method %r failed (error %s)", method, error_id)
            reply = {"error": InternalError(error_id).to_json()}
        self._reply(number, reply)

    def _reply(self, number: int | str, reply: dict[str, Any]) -> None:
        if self.ended is not None:
            return
        try:
            line = frames.encode({"jsonrpc": "2.0", "id": number, **reply})
        except frames.BadFrame:
            refusal = LimitExceeded("plugin_line", f"the answer is longer than a line of {frames.MAX_LINE} bytes")
            line = frames.encode({"jsonrpc": "2.0", "id": number, "error": refusal.to_json()})
        if len(line) > AT_ONCE and self._unread() + len(line) > MAX_UNREAD:
            refusal = LimitExceeded("plugin_unread", f"{MAX_UNREAD} bytes of answers wait to be read; read them first")
            line = frames.encode({"jsonrpc": "2.0", "id": number, "error": refusal.to_json()})
        if len(self._open) == 1 and not self._written:  # nothing else is to be said in this turn
            self._written.append(line)
            self._flush()
        else:
            self._write(line)

    def _unread(self) -> int:
        return int(self._writer.transport.get_write_buffer_size()) + sum(map(len, self._written))

    def _write(self, line: bytes) -> None:
        """Write `line` with all others of this turn of the loop: one call of the system for all of them."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(line)

    def _flush(self) -> None:
        lines, self._written = self._written, []
        if self.ended is None and not self._writer.transport.is_closing():  # killed: the end is heard in another turn
            self._writer.transport.write(b"".join(lines))
            if self._waiting:
                self._vigil.expect(len(self._waiting))


class _Broken(Exception):
    """The plugin broke the protocol."""


def _bounded(line: Line) -> Line:
    """Return a line, or the beginning of one, that is not too long."""
    if len(line) >= frames.MAX_LINE:
        raise _Broken(f"a line over {frames.MAX_LINE} bytes")
    return line


def _is_error(error: Any) -> bool:
    return isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str)
