"""The cache: answers of the node that hold, given again without asking it. Behind permission, before everything that asks.

Key: the partition of the asker (a web origin alone, everybody else together: hardening.md 3), the method and the raw params;
two spellings of one call are two entries. How long an answer holds say `cache_rules`; that it was asked and answered in one
epoch of the chain, `epoch`. What holds for ever is dropped when blocks go away, what holds for a head is dropped with the
head, when any answer shows a newer block, when a call passes that may change the chain, and after two seconds in any case:
so old is the oldest answer about the newest state even where the chain changes behind the proxy's back. On a node of a
developer nothing holds longer than that. Each caller gets the bytes the node would have written for its id.
It must never remember errors, nothing (null), or anything whose id or params a node might read in another way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from middleware.answer_id import divide
from middleware.cache_rules import RULES, TELLS_BLOCKS, Holds, holds, rewrites, sends
from middleware.cache_store import CacheStore, Kept, Key
from middleware.cache_switch import CacheSwitch
from middleware.epoch import Epoch
from middleware.methods import MethodClass, MethodTable
from middleware.passing import Then, Watch
from middleware.reply_members import ReplyMembers
from middleware.waist import Answer, Context, LargeReply, Next, NodeReply, OriginKind, Request

HELD: Final = 2.0  # seconds an answer about the newest state is given again at most
RENEWED: Final = 1.0  # seconds after which one of its askers gets a new one, so that not all have to ask at once
_SHORT_NUMBER: Final = 18  # digits that fit an integer of 64 bits whatever they are


_WEB: Final = OriginKind.WEB
_RULES: Final = RULES
_reply: Final = msgspec.json.Decoder(ReplyMembers)


def partition(context: Context) -> str:
    """Return whose answers an asker may share: those of its own web origin, or those of everybody who is no page."""
    origin = context.origin
    return origin.name if origin.kind is _WEB else ""


class Cache:
    """`odd` tells whether a request's id or params must travel as they are, alone; `most_bytes` bounds everything kept."""

    def __init__(
        self,
        epoch: Epoch,
        switch: CacheSwitch,
        table: MethodTable,
        odd: Callable[[Request], bool],
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epoch, self._switch, self._table, self._odd, self._clock = epoch, switch, table, odd, clock
        self._store = CacheStore(most_bytes)
        self._seen, self._history = epoch.number, epoch.history
        self.figures = self._store.figures

    def handles(self, method: str) -> bool:
        """Tell whether answers of `method` are remembered, tell of blocks, or a call of it may change the chain."""
        if rewrites(method):
            return self._table.classify(method) is MethodClass.PASS  # what is refused anyhow changes nothing
        return method in RULES or method in TELLS_BLOCKS or method == "eth_blockNumber" or sends(method)

    def get(self, request: Request, context: Context) -> bytes | None:
        """Return the whole body that answers `request`, None if nothing is remembered that still holds. Permission stands before."""
        now = self._clock()
        if not self._switch.on(now):
            return None
        epoch = self._epoch
        if epoch.number != self._seen:
            self._turn()
        raw_id = request.id
        key = (partition(context), request.method, request.params)
        kept = self._store.get(key)
        if kept is None or raw_id is None or not self._holds(kept, now, key):
            return None
        if not (raw_id.isdigit() and len(raw_id) <= _SHORT_NUMBER) and self._odd(Request(request.method, b"", raw_id)):
            return None
        if kept.renew is not None and now >= kept.renew:
            kept.renew = kept.until  # this one caller asks; the others are answered meanwhile
            return None
        self.figures.hits += 1
        return kept.head + raw_id + kept.tail

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Answer from memory, or ask and remember."""
        answer = self.decide(request, context)
        return await self.go_on(request, context, next) if answer is None else answer

    def decide(self, request: Request, context: Context) -> Answer | None:
        """Return what is remembered, without waiting for anybody (`chain.Gate`)."""
        body = self.get(request, context) if request.method in _RULES else None
        return None if body is None else NodeReply(body)

    async def go_on(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Ask and remember."""
        method = request.method
        if method not in RULES:
            return await self._watched(request, context, next)
        began = self._epoch.number
        answer = await next(request, context)
        self.learn(request, context, answer, began)
        return answer

    def around(self, request: Request, context: Context, then: Then) -> Then | None:
        """Hear of the answer to a call that is not awaited (`passing.Around`); what may change the chain is."""
        method = request.method
        if method not in RULES:
            return _Asked(self, request, context, 0, then) if method == "eth_blockNumber" else None
        if method not in TELLS_BLOCKS and not self._switch.on(self._clock()):
            return then
        return _Asked(self, request, context, self._epoch.number, then)

    def learn(self, request: Request, context: Context, answer: Answer, began: int) -> None:
        """Take note of an answer to a call that `began` in this epoch, and keep it if it holds."""
        method = request.method
        if not isinstance(answer, NodeReply):
            return
        if method == "eth_blockNumber":
            self._epoch.shows_height(answer.body)
            return
        if method in TELLS_BLOCKS and b"pending" not in request.params:
            self._epoch.shows_block(answer.body)
        if self._switch.on(self._clock()):
            self.figures.misses += 1
            if began == self._epoch.number and not self._odd(request):
                self._keep(request, context, answer.body)

    async def _watched(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Ask what is never remembered, and learn from it that the chain moved."""
        method = request.method
        if method == "eth_blockNumber":
            answer = await next(request, context)
            self.learn(request, context, answer, self._epoch.number)
            return answer
        self._may_change(method)
        try:
            answer = await next(request, context)
        finally:
            self._may_change(method)
        if method in TELLS_BLOCKS and isinstance(answer, NodeReply):
            self._epoch.shows_block(answer.body)
        return answer

    def _may_change(self, method: str) -> None:
        self._epoch.sends += 1
        if rewrites(method):
            self._epoch.rewrite()
        elif self._switch.throwaway:
            self._epoch.turn()  # a developer's node makes the block at once

    def _turn(self) -> None:
        epoch = self._epoch
        self._store.flush(everything=epoch.history != self._history)
        self._seen, self._history = epoch.number, epoch.history

    def _holds(self, kept: Kept, now: float, key: Key) -> bool:
        if kept.until is None:
            return True
        if now < kept.until and (kept.pin is None or kept.pin == self._pin(kept.pin[0])):
            return True
        self._store.drop(key)
        return False

    def _is_new(self, kept: Kept | None, now: float) -> bool:
        """Tell whether another who asked at the same time has brought this answer already."""
        if kept is None or self._epoch.number != self._seen:
            return False
        return kept.until is None or now < kept.until - (HELD - RENEWED)

    def _keep(self, request: Request, context: Context, body: bytes) -> None:
        """Remember an answer that was asked and given in this epoch, if it holds."""
        now = self._clock()
        key = (partition(context), request.method, request.params)
        if request.id is None or len(body) > self._store.largest or self._is_new(self._store.get(key), now):
            return
        try:
            reply = _reply.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if (
            isinstance(reply.result, msgspec.UnsetType)
            or reply.error is not msgspec.UNSET
            or bytes(reply.result) == b"null"
        ):
            return
        how_long = holds(request.method, request.params, reply.result, self._epoch.blocks)
        divided = divide(body, request.id)
        if how_long is None or divided is None:
            return
        if self._epoch.number != self._seen:
            self._turn()
        kept = Kept(*divided)
        if how_long is not Holds.EVER or self._switch.throwaway:
            kept.until, kept.renew, kept.pin = now + HELD, now + RENEWED, self._pin(how_long.value)
        self._store.put(key, kept)

    def _pin(self, tag: str) -> tuple[str, str] | None:
        """Return the block that "safe" or "finalized" names now."""
        blocks = self._epoch.blocks
        head = {"safe": blocks.safe, "finalized": blocks.finalized}.get(tag)
        return (tag, head.hash) if head is not None else None


class _Asked(Watch):
    """A call on its way without being awaited; `began`: the epoch it was asked in."""

    __slots__ = ("_began", "_cache", "_context", "_request")

    def __init__(self, cache: Cache, request: Request, context: Context, began: int, then: Then) -> None:
        self._then = then
        self._cache, self._request, self._context, self._began = cache, request, context, began

    def answered(self, answer: NodeReply | LargeReply) -> None:
        self._cache.learn(self._request, self._context, answer, self._began)
        self._then.answered(answer)
