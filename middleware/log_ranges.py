"""Log ranges: an eth_getLogs that the node refuses as too large is asked again in parts, and the parts are joined.

The last of our links before the node. The node always sees the caller's own request first; only its refusal
(`log_refusals`) makes this link ask for parts. The ends are resolved once, the block hash at the upper end is compared
before and after: a hash commits to everything below, so parts of two chains are never joined. Entries pass as the raw bytes
the node wrote, in order, none twice. Whatever cannot be done within the bounds (a single block too large, a part that fails
twice, a chain that keeps changing) ends with the node's own error to the caller's own request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec

from middleware.call_params import BlockName
from middleware.errors import RpcError
from middleware.log_query import LogQuery
from middleware.log_refusals import Refusal, refusal
from middleware.log_splice import Splice, TooLarge
from middleware.waist import Answer, Context, LargeReply, Next, NodeReply, Request

logger = logging.getLogger("l2proxy.chain")

AT_ONCE = 4  # parts asked together
AHEAD = 8  # parts looked at together, so that few answers wait for an earlier one
MOST_ASKED = 1000  # questions for one caller's request
TRIES = 3  # beginnings while the chain changes
LONGEST = 120.0  # seconds for all parts


class _Reply(msgspec.Struct):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_reply = msgspec.json.Decoder(_Reply)


class Ask(Protocol):
    """The L1 chain, asked by the proxy itself."""

    def __call__(self, method: str, *params: Any) -> Awaitable[Any]:
        """Return the decoded result. Raise `RpcError`."""


class RangeFigures:
    """`splits`: requests answered in parts; `parts`: questions asked for them; `given_up`: refusals passed on."""

    __slots__ = ("given_up", "parts", "splits")

    def __init__(self) -> None:
        self.splits = self.parts = self.given_up = 0


class _GivenUp(Exception):
    """It cannot be done in parts; the caller gets the node's own error."""


@dataclass(slots=True)
class _Part:
    """Blocks `first` to `last`, both inclusive; what the node answered, once it did."""

    first: int
    last: int
    entries: bytes | None = None
    refused: Refusal | None = None

    @property
    def blocks(self) -> int:
        return self.last - self.first + 1


class LogRanges:
    """`ask` is L1.call; `file` makes an unlinked file for an answer too large for memory; `most_bytes`: of one answer."""

    def __init__(self, ask: Ask, file: Callable[[], BinaryIO], most_bytes: int) -> None:
        self._ask, self._file, self._most_bytes = ask, file, most_bytes
        self.figures = RangeFigures()

    def handles(self, method: str) -> bool:
        """Tell whether `method` is eth_getLogs."""
        return method == "eth_getLogs"

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Pass the request on; if the node refuses its range, ask in parts."""
        answer = await next(request, context)
        refused = refusal(answer.body) if isinstance(answer, NodeReply) else None
        query = LogQuery.read(request.params) if refused is not None else None
        if refused is None or query is None or request.id is None:
            return answer

        async def part(first: int, last: int) -> Answer:
            self.figures.parts += 1
            return await next(Request(request.method, query.params(first, last), b"1"), context)

        try:
            async with asyncio.timeout(LONGEST):
                whole = await self._in_parts(query, refused, part, request.id)
        except (_GivenUp, TooLarge, TimeoutError):
            self.figures.given_up += 1
            return answer
        except OSError as error:
            logger.warning("the parts of an eth_getLogs could not be joined on disk: %s", error)
            self.figures.given_up += 1
            return answer
        self.figures.splits += 1
        return whole

    async def _in_parts(
        self, query: LogQuery, refused: Refusal, part: Callable[[int, int], Awaitable[Answer]], raw_id: bytes
    ) -> Answer:
        for _ in range(TRIES):
            first, last, block_hash = await self._resolved(query)
            splice = Splice(raw_id, self._file, self._most_bytes)
            try:
                await _Run(part, splice).all(_Part(first, last), refused)
                if await self._hash_at(last) == block_hash:
                    return splice.answer()
            except BaseException:
                splice.close()
                raise
            splice.close()
        raise _GivenUp

    async def _resolved(self, query: LogQuery) -> tuple[int, int, str]:
        """Return the ends as numbers, never above the newest block, and the hash of the upper end."""
        upper = await self._block(query.last) or await self._block("latest")
        lower = (query.first, "") if isinstance(query.first, int) else await self._block(query.first)
        if upper is None or lower is None or lower[0] >= upper[0]:
            raise _GivenUp
        return lower[0], *upper

    async def _hash_at(self, number: int) -> str | None:
        block = await self._block(number)
        return block[1] if block is not None else None

    async def _block(self, named: BlockName) -> tuple[int, str] | None:
        """Return number and hash of a block; None if there is none."""
        try:
            block = await self._ask("eth_getBlockByNumber", hex(named) if isinstance(named, int) else named, False)
            return (int(block["number"], 16), str(block["hash"])) if block is not None else None
        except (RpcError, KeyError, TypeError, ValueError) as error:
            raise _GivenUp from error


class _Run:
    """One attempt at all parts."""

    def __init__(self, part: Callable[[int, int], Awaitable[Answer]], splice: Splice) -> None:
        self._part, self._splice = part, splice
        self._left = MOST_ASKED
        self._most_blocks = 0  # of one part

    async def all(self, whole: _Part, refused: Refusal) -> None:
        """Ask for every part in order and hand its entries to the splice."""
        self._most_blocks = whole.blocks
        waiting = deque(self._cut(whole, refused))
        while waiting:
            if (entries := waiting[0].entries) is not None:
                waiting.popleft()
                self._splice.add(entries)
                continue
            row = self._row(waiting)
            asked = [part for part in row if part.entries is None][:AT_ONCE]
            self._left -= len(asked)
            if self._left < 0:
                raise _GivenUp
            await _all(self._fill(part) for part in asked)
            for part in reversed(row):
                waiting.extendleft(reversed(self._cut(part, part.refused) if part.refused is not None else [part]))

    def _row(self, waiting: deque[_Part]) -> list[_Part]:
        """Take the next parts from the left, none larger than the node answers."""
        row: list[_Part] = []
        while waiting and len(row) < AHEAD:
            part = waiting.popleft()
            if part.entries is None and part.blocks > self._most_blocks:
                waiting.appendleft(_Part(part.first + self._most_blocks, part.last))
                part = _Part(part.first, part.first + self._most_blocks - 1)
            row.append(part)
        return row

    def _cut(self, part: _Part, refused: Refusal) -> list[_Part]:
        """Return two parts of a refused one, and learn how large a part may be. Raise when it is one block."""
        if part.blocks == 1:
            raise _GivenUp
        named = refused.blocks is not None and refused.blocks < part.blocks
        size = refused.blocks if named and refused.blocks else part.blocks // 2
        if not refused.amount:
            self._most_blocks = min(self._most_blocks, size)
            if part.blocks > self._most_blocks * self._left:
                raise _GivenUp
        return [_Part(part.first, part.first + size - 1), _Part(part.first + size, part.last)]

    async def _fill(self, part: _Part) -> None:
        """Ask for one part, a second time if that fails."""
        for _ in range(2):
            try:
                answer = await self._part(part.first, part.last)
            except RpcError:
                continue
            reply = answer.read() if isinstance(answer, LargeReply) else answer
            if not isinstance(reply, NodeReply):
                break
            part.entries = _entries(reply.body)
            part.refused = refusal(reply.body) if part.entries is None else None
            if part.entries is not None or part.refused is not None:
                return
        raise _GivenUp


async def _all(asking: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; if one gives up, end the others and give up."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _entries(body: bytes) -> bytes | None:
    """Return what stands between the brackets of the result; None where the result is no array."""
    try:
        reply = _reply.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if isinstance(reply.result, msgspec.UnsetType) or reply.error is not msgspec.UNSET:
        return None
    raw = bytes(reply.result).strip()
    return raw[1:-1].strip() if raw.startswith(b"[") else None
