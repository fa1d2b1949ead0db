"""The end of the chain: a method of ours is dispatched here, a passed method goes to the L1 node, the rest is refused.

Stands behind every link. It decides by the method table alone, so that a method without a row reaches neither a handler nor
the node (security.md 7). What goes upstream is the `Request`: the envelope around it is written anew by the upstream
(hardening.md 1), never the caller's bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from typing import Protocol

from middleware.errors import MethodNotFound, RpcError, Unsupported, shorten
from middleware.methods import OWN_NAMESPACES, MethodClass, MethodTable, may_pass
from middleware.passing import Send
from middleware.waist import Answer, Context, LargeReply, NodeReply, Request


class Node(Protocol):
    """The L1 node, as the upstream shows it."""

    async def forward(self, request: Request) -> NodeReply | LargeReply:
        """Return the node's answer, the caller's id in it. Raise `Disconnected` without an upstream."""


class Forward:
    """The terminal of the dapp chain. `own`: the methods `dispatch` answers."""

    def __init__(
        self,
        table: MethodTable,
        node: Node,
        own: Container[str],
        dispatch: Callable[[Request, Context], Awaitable[Answer]],
    ) -> None:
        self._table = table
        self._node = node
        self._own = own
        self._dispatch = dispatch

    def sending(self, method: str) -> Send | None:
        """Return how calls of `method` are sent to the node without being awaited; None for what is not passed to it."""
        passed = self._table.classify(method) is MethodClass.PASS
        return getattr(self._node, "send", None) if passed else None

    async def __call__(self, request: Request, context: Context) -> Answer:
        """Answer a call that every link let through. Raise 4200 or -32601 for what is not served."""
        kind = self._table.classify(request.method)
        if kind is MethodClass.PASS:
            return await self._node.forward(request)
        if kind in (MethodClass.BLOCKED, MethodClass.UNKNOWN) or request.method not in self._own:
            raise refusal(request.method)
        return await self._dispatch(request, context)


def refusal(method: str) -> RpcError:
    """Return the error for a method that is not served: -32601 in our namespaces, else 4200."""
    shown = shorten(method)
    if method.startswith(OWN_NAMESPACES):
        return MethodNotFound(shown)
    if may_pass(method):
        return Unsupported(
            shown, "not served; what else may go to the L1 node stands under [methods] allow in the config"
        )
    return Unsupported(shown, "not served, and never sent to the L1 node: it signs, keeps keys or runs the node itself")
