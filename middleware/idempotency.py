"""Idempotency of `l2_invoke` (rpc.md, "Idempotency"): two links around everything that decides.

`IdempotencyLink` stands before budget and approval: under a key that is known it returns what is recorded, joins what runs,
and refuses other params. `RecordingLink` stands last, right before the plugin: what the plugin is about to be asked, and
what it costs, is on disk in one write before it is asked, and what comes of it afterwards (hardening.md 15). A refusal
before that is never recorded. Neither may ask a plugin twice unless its action is declared idempotent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from middleware.errors import InvalidParams, PluginTimeout, PluginUnavailable, RpcError
from middleware.invocation import METHOD, Actions, Invocation, never_asked, read_checked
from middleware.presence import SharedPresence
from middleware.questions import digest_of
from middleware.waist import Answer, Context, Next, Origin, Request, Result, result, with_presence

_SILENT = frozenset({-32011, -32012})


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known under a key. `digest` binds the params; `answer` None: asked, and nothing is known of the outcome."""

    digest: str
    answer: Result | RpcError | None


class Records(Protocol):
    """What is on disk about invocations."""

    def find(self, origin: Origin, key: str) -> Recorded | None:
        """Return what is recorded under a key of `origin`; None: nothing."""

    def check_room(self, origin: Origin) -> None:
        """Raise `LimitExceeded` if `origin` may have no further key."""

    def begin(self, origin: Origin, invocation: Invocation, digest: str) -> None:
        """Write that the plugin is asked now, with what it costs; on disk when this returns."""

    def finish(self, origin: Origin, invocation: Invocation, digest: str, answer: Result | RpcError) -> None:
        """Write the outcome."""

    def forget(self, origin: Origin, invocation: Invocation) -> None:
        """Undo `begin`: the plugin was not asked after all."""


@dataclass(eq=False)
class _Running:
    digest: str
    presence: SharedPresence
    outcome: asyncio.Future[Answer]


class IdempotencyLink:
    """Answers again what was answered, joins what runs."""

    def __init__(self, records: Records, actions: Actions) -> None:
        self._records, self._actions = records, actions
        self._running: dict[tuple[Origin, str], _Running] = {}

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for l2_invoke alone."""
        return method == METHOD

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Return the recorded answer, the running one's, or go on. Raises -32602, -32005, -32012."""
        invocation = read_checked(request)
        if invocation.key is None:
            return await next(request, context)
        digest = params_digest(invocation)
        slot = (context.origin, invocation.key)
        running = self._running.get(slot)
        if running is not None:
            _same(running.digest, digest, invocation.key)
            with running.presence.joined(context.presence):
                return await asyncio.shield(running.outcome)
        recorded = self._records.find(context.origin, invocation.key)
        if recorded is None:
            self._records.check_room(context.origin)
        else:
            _same(recorded.digest, digest, invocation.key)
            if not (_unknown(recorded.answer) and self._is_idempotent(invocation)):
                return _known(recorded.answer, invocation.plugin)
        return await self._run(slot, digest, request, context, next)

    def _is_idempotent(self, invocation: Invocation) -> bool:
        spec = self._actions.action_spec(invocation.plugin, invocation.action)
        return spec is not None and spec.idempotent

    async def _run(
        self,
        slot: tuple[Origin, str],
        digest: str,
        request: Request,
        context: Context,
        next: Next,  # noqa: A002
    ) -> Answer:
        running = _Running(digest, SharedPresence(), asyncio.get_running_loop().create_future())
        self._running[slot] = running
        try:
            with running.presence.joined(context.presence):
                answer = await next(request, with_presence(context, running.presence))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                running.outcome.cancel()
            else:
                running.outcome.set_exception(error)
                running.outcome.exception()  # seen: joiners, if any, raise it themselves
            raise
        else:
            running.outcome.set_result(answer)
            return answer
        finally:
            del self._running[slot]


class RecordingLink:
    """Writes down that the plugin is asked, and what came of it."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for l2_invoke alone."""
        return method == METHOD

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Ask the plugin between two writes. What ends in neither answer nor error stays recorded as unknown."""
        invocation = read_checked(request)
        digest = "" if invocation.key is None else params_digest(invocation)  # without a key nothing is kept under it
        self._records.begin(context.origin, invocation, digest)
        try:
            answer = await next(request, context)
        except RpcError as error:
            if never_asked(error):
                self._records.forget(context.origin, invocation)
            else:
                self._records.finish(context.origin, invocation, digest, error)
                if isinstance(error, PluginTimeout) and error.late is not None:
                    error.late.add_done_callback(partial(self._late, context.origin, invocation, digest))
            raise
        if not isinstance(answer, Result):
            raise TypeError("l2_invoke is answered by the proxy itself")
        self._records.finish(context.origin, invocation, digest, answer)
        return answer

    def _late(self, origin: Origin, invocation: Invocation, digest: str, late: asyncio.Future[Any]) -> None:
        """Write what the plugin answered after its caller had given up (hardening.md 15)."""
        if late.cancelled():
            return  # the daemon ends: unknown it stays
        answer = late.result()
        self._records.finish(origin, invocation, digest, answer if isinstance(answer, RpcError) else result(answer))


def params_digest(invocation: Invocation) -> str:
    """Return what must be equal under one idempotency key."""
    return digest_of([invocation.plugin, invocation.action, invocation.params])


def _unknown(answer: Result | RpcError | None) -> bool:
    """Tell whether the plugin was asked and what came of it is not known: a crash, of it or of us, or its silence."""
    if isinstance(answer, RpcError):
        return isinstance(answer.data, dict) and answer.data.get("outcome") == "unknown" and answer.code in _SILENT
    return answer is None


def _known(answer: Result | RpcError | None, plugin: str) -> Result:
    if answer is None:
        raise PluginUnavailable(plugin, "was asked under this key before, and what came of it is not known", "unknown")
    if isinstance(answer, RpcError):
        raise answer
    return answer


def _same(known: str, asked: str, key: str) -> None:
    if known != asked:
        raise InvalidParams("options.idempotencyKey", "a key of its own for other params", key)
