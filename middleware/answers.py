"""The answers link: what the owner is asked goes on when the asker's connection is lost, and nothing is paid twice.

Calls that may end in a question run in a task of their own. A request identical in origin, method and params to one whose
asker has gone adopts it; an answer nobody could be given is kept 120 s for the identical request (rpc.md, "While a question
is open"; hardening.md 14). As long as the asker is there, an identical request is a request of its own: two payments of the
same amount are two payments. Stands behind permission, so that what was revoked is not answered from memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from middleware.errors import RpcError
from middleware.presence import SharedPresence
from middleware.questions import Withdrawn
from middleware.waist import Answer, Context, Next, Request, with_presence

KEPT = 120.0  # seconds an answer waits for the one it is for
MOST_KEPT_PER_ORIGIN = 1000
METHODS = frozenset(
    {
        *("eth_requestAccounts", "eth_sendTransaction", "personal_sign", "eth_signTypedData_v4"),
        *("wallet_requestPermissions", "l2_invoke", "l2_addPlugin"),
    }
)
_REPEATABLE = frozenset({4100, 4200, 4900, 4902, -32002, -32005, -32602})
"""Errors before which nothing was done: the identical request simply runs again."""


@dataclass(eq=False)
class _Work:
    """One call in a task of its own."""

    key: str
    origin: str
    presence: SharedPresence
    task: asyncio.Future[Answer] = field(repr=False)
    done: float | None = None


class AnswersLink:
    """Runs questions' calls apart from their askers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._work: dict[str, list[_Work]] = {}
        self._kept: dict[_Work, None] = {}  # ended and not delivered, oldest first

    def handles(self, method: str) -> bool:
        """Tell whether a call of `method` may end in a question to the owner."""
        return method in METHODS

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Return the answer of this call, or of the identical one whose asker has gone."""
        key = _likeness(request, context)
        self._forget_old()
        work = self._adopted(key) or self._start(key, request, context, next)
        with work.presence.joined(context.presence):
            try:
                return await asyncio.shield(work.task)
            finally:
                if work.task.done() and (context.presence is None or context.presence.here):
                    self._drop(work)

    async def close(self) -> None:
        """End every call that still runs, and wait for it."""
        tasks = [work.task for works in self._work.values() for work in works]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._work.clear()
        self._kept.clear()

    def _adopted(self, key: str) -> _Work | None:
        return next((work for work in self._work.get(key, ()) if not work.presence.here), None)

    def _start(self, key: str, request: Request, context: Context, next: Next) -> _Work:  # noqa: A002
        presence = SharedPresence()
        call = next(request, with_presence(context, presence))
        work = _Work(key, str(context.origin), presence, asyncio.ensure_future(call))
        self._work.setdefault(key, []).append(work)
        work.task.add_done_callback(lambda _: self._ended(work))
        return work

    def _ended(self, work: _Work) -> None:
        """Keep the answer for who may come for it, unless the same request can simply run again."""
        work.done = self._clock()
        if work.task.cancelled() or not _worth_keeping(work.task.exception()):
            self._drop(work)
            return
        self._kept[work] = None
        of_origin = [kept for kept in self._kept if kept.origin == work.origin]
        if len(of_origin) > MOST_KEPT_PER_ORIGIN:
            self._drop(of_origin[0])

    def _drop(self, work: _Work) -> None:
        self._kept.pop(work, None)
        works = self._work.get(work.key, [])
        if work in works:
            works.remove(work)
        if not works:
            self._work.pop(work.key, None)

    def _forget_old(self) -> None:
        until = self._clock() - KEPT
        for work in list(itertools.takewhile(lambda kept: (kept.done or 0.0) < until, self._kept)):
            self._drop(work)


def _worth_keeping(error: BaseException | None) -> bool:
    if error is None:
        return True
    return isinstance(error, RpcError) and not isinstance(error, Withdrawn) and error.code not in _REPEATABLE


def _likeness(request: Request, context: Context) -> str:
    """Return what identical requests share: byte for byte, a retry repeats what it sent."""
    parts = (str(context.origin).encode(), request.method.encode("utf-8", "surrogatepass"), request.params)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
