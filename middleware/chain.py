"""The chain: ordered links, compiled once into one callable per method, and the terminal that answers.

A door hands every call to the chain; so does a link that needs another method (`context.dispatch`), which then passes that
method's whole chain, permission included. A configured link (from `[[middleware]]`) stands outside permission and is not
trusted with it: it may change params, never the method, the id or who asks (hardening.md 4). The chain must never remember
anything under a name that has no row in the method table: names are hostile input.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from middleware.methods import MethodTable
from middleware.passing import Around, Hears, Send, Sent, Then
from middleware.waist import Answer, Context, LargeReply, Middleware, Next, NodeReply, Request, Result

logger = logging.getLogger("l2proxy.chain")

Terminal: TypeAlias = Callable[[Request, Context], Awaitable[Answer]]
Decide: TypeAlias = Callable[[Request, Context], "Answer | None"]
Quick: TypeAlias = Callable[[Request, Context, Hears], "Sent | None"]
"""Send a call to the node, or on its way, without waiting; None: it has to be awaited."""
SetOut: TypeAlias = Callable[[Request, Context, Next, Hears], "Sent | None"]
"""What a link has that runs calls in tasks of their own (`set_out`): nobody else needs a task to wait for them."""
MOST_DISPATCHES: Final = 16  # a link that dispatches to itself is a mistake, not a reason to exhaust the stack


class Link(Protocol):
    """One step of the chain."""

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say about `method`; asked when the method's chain is compiled."""

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Return an answer, call `next`, or raise an `RpcError`."""


class Gate(Protocol):
    """A link that often knows its answer at once, without waiting for anybody.

    A link with `decide` is asked by it alone, before anything is awaited. If it has `go_on` as well, that is called in place
    of the link itself where `decide` had nothing to say (a cache: to keep the answer that comes). A link with `around` as well
    (`passing.Around`) lets calls pass that are not awaited.
    """

    def decide(self, request: Request, context: Context) -> Answer | None:
        """Return an answer, raise an `RpcError`, or return None: the call goes on."""


class ChangedCall(Exception):
    """A configured link changed what it may not change; the caller gets -32603, the log this sentence."""


class Chain:
    """Every call's way: configured links (first outermost), then our links in order, then the terminal."""

    def __init__(
        self,
        links: Sequence[Link],
        terminal: Terminal,
        configured: Sequence[Link] = (),
        table: MethodTable | None = None,
    ) -> None:
        self._links = tuple(links)
        self._configured = tuple(configured)
        self._terminal = terminal
        self._table = table or MethodTable()
        self._ways: dict[str, Way] = {}

    async def __call__(self, request: Request, context: Context) -> Answer:
        """Answer one call of `context.origin`."""
        answer = self.begin(request, context)
        return answer if isinstance(answer, (NodeReply, Result, LargeReply)) else await answer

    def begin(self, request: Request, context: Context) -> Answer | Awaitable[Answer]:
        """Return the answer of one call, or what is to be awaited for it; raise what stops it at once."""
        context = self.bound(context)
        found = self.enter(request, context)
        return found.rest(request, context) if isinstance(found, Way) else found

    def enter(self, request: Request, context: Context) -> Answer | Way:
        """Return the answer of one call, or the way it has to go; `context` is bound. Raise what stops it at once."""
        way = self._ways.get(request.method) or self._way(request.method)
        for decide in way.gates:
            answer = decide(request, context)
            if answer is not None:
                return answer
        return way

    def bound(self, context: Context) -> Context:
        """Return `context` with `dispatch` entering this chain; a context already bound to it comes back as it is."""
        dispatch = context.dispatch
        if isinstance(dispatch, _Dispatch) and dispatch.chain is self:
            return context
        return replace(context, dispatch=_Dispatch(self, context, 0))

    def _way(self, method: str) -> Way:
        way = self._ways.get(method)
        if way is None:
            way = self._compile(method)
            if self._table.is_known(method):
                self._ways[method] = way
        return way

    def _compile(self, method: str) -> Way:
        links = [link for link in self._links if link.handles(method)]
        configured = [link for link in self._configured if link.handles(method)]
        gates: list[Decide] = []
        rest: Sequence[Middleware] = links
        if not configured:
            gates, rest = _gates(links)
        call = inner = self._terminal
        for link in reversed(rest):
            inner, call = call, _before(link, call)
        for link in reversed(configured):
            call = _before_guarded(link, call)
        if configured:
            return Way(gates, call, None)
        set_out: SetOut | None = getattr(rest[0], "set_out", None) if rest else None
        if set_out is not None:
            return Way(gates, call, _setting_out(set_out, inner))
        return Way(gates, call, self._quick(method, links[len(links) - len(rest) :]))

    def _quick(self, method: str, links: Sequence[Link]) -> Quick | None:
        """Return how calls of `method` pass `links` to the node without being awaited, if all have a way for that."""
        sending: Callable[[str], Send | None] | None = getattr(self._terminal, "sending", None)
        send = None if sending is None else sending(method)
        arounds: list[Around | None] = [getattr(link, "around", None) for link in links]
        if send is None or None in arounds:
            return None
        return _quick([around for around in arounds if around is not None], send)


class Way:
    """A method's way: what may decide at once, then the rest, which is awaited, or sent without waiting (`quick`)."""

    __slots__ = ("gates", "quick", "rest")

    def __init__(self, gates: Sequence[Decide], rest: Terminal, quick: Quick | None) -> None:
        self.gates = tuple(gates)
        self.rest = rest
        self.quick = quick


def _setting_out(set_out: SetOut, inner: Terminal) -> Quick:
    def quick(request: Request, context: Context, then: Hears) -> Sent | None:
        return set_out(request, context, inner, then)

    return quick


def _quick(arounds: Sequence[Around], send: Send) -> Quick:
    def quick(request: Request, context: Context, then: Hears) -> Sent | None:
        heard: Then = then
        for around in arounds:
            outer = around(request, context, heard)
            if outer is None:
                heard.withdrawn()
                return None
            heard = outer
        sent = send(request, heard)
        if sent is None:
            heard.withdrawn()
        return sent

    return quick


def _gates(links: Sequence[Link]) -> tuple[list[Decide], Sequence[Middleware]]:
    """Split off the leading links that may decide at once; the first that must hear of the answer is the last of them."""
    gates: list[Decide] = []
    for number, link in enumerate(links):
        decide: Decide | None = getattr(link, "decide", None)
        if decide is None:
            return gates, list(links[number:])
        gates.append(decide)
        go_on: Middleware | None = getattr(link, "go_on", None)
        if go_on is not None:
            return gates, [go_on, *links[number + 1 :]]
    return gates, []


@dataclass(frozen=True, slots=True)
class _Dispatch:
    """`Context.dispatch` of one call: enters the chain as the same origin, a bounded number of times deep."""

    chain: Chain
    context: Context
    depth: int

    async def __call__(self, request: Request) -> Answer:
        if self.depth >= MOST_DISPATCHES:
            raise RecursionError(f"links dispatched {MOST_DISPATCHES} calls deep, the last of {request.method[:80]!r}")
        deeper = replace(self.context, dispatch=_Dispatch(self.chain, self.context, self.depth + 1))
        return await self.chain(request, deeper)


def _before(link: Middleware, inner: Terminal) -> Terminal:
    def call(request: Request, context: Context) -> Awaitable[Answer]:
        return link(request, context, inner)

    return call


def _before_guarded(link: Link, inner: Terminal) -> Terminal:
    async def call(request: Request, context: Context) -> Answer:
        async def guarded(changed: Request, changed_context: Context) -> Answer:
            if changed.method != request.method or changed.id != request.id or changed_context is not context:
                raise ChangedCall(
                    f"the configured link {type(link).__name__} changed the method, the id or the context of "
                    f"{request.method[:80]!r}; it may change params only (another method: context.dispatch)"
                )
            return await inner(changed, context)

        return await link(request, context, guarded)

    return call
