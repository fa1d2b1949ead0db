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
import logging
import time
from collections.abc import Callable

from middleware.errors import RpcError
from middleware.passing import Hears, Sent
from middleware.presence import SharedPresence
from middleware.questions import Withdrawn
from middleware.waist import Answer, Context, Next, Presence, Request, with_presence

logger = logging.getLogger("l2proxy.chain")

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


class _Work:
    """One call in a task of its own; the task itself tells who waits, so that they need not wait for its end as well."""

    __slots__ = ("_answer", "_error", "_hearing", "done", "hearers", "key", "origin", "presence", "task")

    def __init__(self, key: str, origin: str) -> None:
        self.key = key
        self.origin = origin
        self.presence = SharedPresence()
        self.task: asyncio.Task[None] | None = None
        self.done: float | None = None
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._hearing: list[asyncio.Future[Answer]] = []
        self.hearers: list[_Hearer] = []

    def heard(self) -> asyncio.Future[Answer]:
        """Return a future of the answer, one for each asker: that an asker goes changes nothing."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._hearing.append(future)
        if self.done is not None:
            self.tell(self._answer, self._error)
        return future

    def ended(self, at: float, answer: Answer | None, error: BaseException | None) -> None:
        """Take what came of it."""
        self.done, self._answer, self._error = at, answer, error

    def forget(self) -> None:
        """Let go of what came of it."""
        self._answer = self._error = None

    def tell(self, answer: Answer | None, error: BaseException | None) -> None:
        """Tell who waits what came of it."""
        hearing, self._hearing = self._hearing, []
        for future in hearing:
            if future.done():
                continue  # its asker has gone
            if answer is not None:
                future.set_result(answer)
            elif isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.cancel()
        hearers, self.hearers = self.hearers, []
        for hearer in hearers:
            hearer.tell(answer, error)


class _Hearer:
    """An asker nobody awaits the answer for: `then` gets it."""

    __slots__ = ("_asker", "_link", "_presence", "_then", "_work")

    def __init__(self, link: AnswersLink, work: _Work, presence: Presence | None, then: Hears) -> None:
        self._link = link
        self._work = work
        self._presence = presence
        self._then = then
        self._asker = work.presence.join(presence)

    def leave(self) -> None:
        """Learn that nobody waits any more; the call goes on."""
        if self in self._work.hearers:
            self._work.hearers.remove(self)
            self._work.presence.leave(self._asker)
            self._then.left()

    def tell(self, answer: Answer | None, error: BaseException | None) -> None:
        """Hand on what came of the call."""
        heard = self._presence is None or self._presence.here
        try:
            if answer is not None:
                self._then.answered(answer)
            elif isinstance(error, Exception):
                self._then.failed(error)
            else:  # the daemon ends
                self._then.left()
        except Exception as failure:
            logger.exception("an answer could not be handed over")
            self._then.failed(failure)
        if heard:
            self._link.drop(self._work)
        self._work.presence.leave(self._asker)


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
        if self._kept:
            self._forget_old()
        work = self._adopted(key) or self._start(key, request, context, next)
        asker = work.presence.join(context.presence)
        try:
            return await work.heard()
        finally:
            if work.done is not None and (context.presence is None or context.presence.here):
                self.drop(work)
            work.presence.leave(asker)

    def set_out(self, request: Request, context: Context, next: Next, then: Hears) -> Sent | None:  # noqa: A002
        """Begin a call whose answer `then` gets; None where it is there already, and to be awaited."""
        key = _likeness(request, context)
        if self._kept:
            self._forget_old()
        work = self._adopted(key) or self._start(key, request, context, next)
        if work.done is not None:
            then.withdrawn()
            return None
        hearer = _Hearer(self, work, context.presence, then)
        work.hearers.append(hearer)
        return hearer

    async def close(self) -> None:
        """End every call that still runs, and wait for it."""
        works = [work for works in self._work.values() for work in works]
        tasks = [work.task for work in works if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for work in works:
            if work.done is None:  # it ended before it began
                self._ended(work, None, asyncio.CancelledError())
        self._work.clear()
        self._kept.clear()

    def _adopted(self, key: str) -> _Work | None:
        for work in self._work.get(key, ()):
            if not work.presence.here:
                return work
        return None

    def _start(self, key: str, request: Request, context: Context, next: Next) -> _Work:  # noqa: A002
        work = _Work(key, str(context.origin))
        self._work.setdefault(key, []).append(work)
        call = self._run(work, request, with_presence(context, work.presence), next)
        work.task = asyncio.get_running_loop().create_task(call)
        return work

    async def _run(self, work: _Work, request: Request, context: Context, next: Next) -> None:  # noqa: A002
        try:
            answer = await next(request, context)
        except Exception as error:  # noqa: BLE001 - it is the answer to who asked
            self._ended(work, None, error)
        except BaseException as error:
            self._ended(work, None, error)
            raise
        else:
            self._ended(work, answer, None)

    def _ended(self, work: _Work, answer: Answer | None, error: BaseException | None) -> None:
        """Keep the answer for who may come for it, unless the same request can simply run again."""
        work.ended(self._clock(), answer, error)
        kept = not isinstance(error, asyncio.CancelledError) and _worth_keeping(error)
        if kept:
            self._keep(work)
        work.tell(answer, error)
        if not kept:
            self.drop(work)

    def _keep(self, work: _Work) -> None:
        self._kept[work] = None
        if len(self._kept) <= MOST_KEPT_PER_ORIGIN:
            return
        of_origin = [kept for kept in self._kept if kept.origin == work.origin]
        if len(of_origin) > MOST_KEPT_PER_ORIGIN:
            self.drop(of_origin[0])

    def drop(self, work: _Work) -> None:
        """Forget a call whose answer was heard."""
        self._kept.pop(work, None)
        work.forget()
        works = self._work.get(work.key, [])
        if work in works:
            works.remove(work)
        if not works:
            self._work.pop(work.key, None)

    def _forget_old(self) -> None:
        until = self._clock() - KEPT
        for work in list(itertools.takewhile(lambda kept: (kept.done or 0.0) < until, self._kept)):
            self.drop(work)


def _worth_keeping(error: BaseException | None) -> bool:
    if error is None:
        return True
    return isinstance(error, RpcError) and not isinstance(error, Withdrawn) and error.code not in _REPEATABLE


def _likeness(request: Request, context: Context) -> str:
    """Return what identical requests share: byte for byte, a retry repeats what it sent."""
    parts = (str(context.origin).encode(), request.method.encode("utf-8", "surrogatepass"), request.params)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
