"""Existing middlewares in our chain: a web3.py middleware class or builder, or a link of the owner's own, by dotted path.

`configured_links` turns the `[[middleware]]` entries into links at start; they stand outermost, outside permission, and see
only methods that may pass to the node. A web3.py middleware works on decoded copies: what it leaves unchanged goes on as
the raw bytes it came as, what it changed goes on in wire form. Another method than the one asked goes through
`context.dispatch`, that is through its whole chain (hardening.md 4). The one module that knows web3.py.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from middleware.bridge import Bridge
from middleware.chain import Link
from middleware.errors import Disconnected, LimitExceeded, RpcError, shorten
from middleware.loading import BadEntry, load
from middleware.methods import may_pass
from middleware.waist import Answer, Context, Next, Request
from middleware.web3_call import Call, TooDeep, current, nested
from middleware.web3_methods import handled_by, why_idle

if TYPE_CHECKING:
    from web3.middleware import Web3Middleware

logger = logging.getLogger("l2proxy.chain")

MOST_THREADS = 64  # calls at once in one synchronous middleware; calls it makes itself do not count
ASYNC_HOOKS = ("async_request_processor", "async_response_processor", "async_wrap_make_request")
SYNC_HOOKS = ("request_processor", "response_processor", "wrap_make_request")


class Entry(Protocol):
    """One `[[middleware]]` entry of the config."""

    @property
    def use(self) -> str:
        """`module:name`."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Keyword arguments."""


def configured_links(entries: Sequence[Entry]) -> list[Link]:
    """Return one link per entry, in order. Raise `BadEntry` in one sentence for one that cannot be used."""
    return [_link(entry.use, dict(entry.args)) for entry in entries]


def _link(use: str, args: dict[str, Any]) -> Link:
    found = load(use)
    if inspect.iscoroutinefunction(found):
        if args:
            raise BadEntry(use, "it is a function (request, context, next) and takes no args")
        return _Function(found)
    if inspect.isclass(found) and hasattr(found, "handles"):
        made = _made(use, lambda: found(**args))
    elif hasattr(found, "handles"):
        made = found
    else:
        made = _web3_middleware(use, found, args)
    if not callable(made) or not hasattr(made, "handles"):
        raise BadEntry(
            use, "it is neither a web3.py middleware nor a link with handles(method) and (request, context, next)"
        )
    link: Link = made
    return link


def _made(use: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        raise BadEntry(use, f"it cannot be made with these args: {type(error).__name__}: {error}") from error


class _Function:
    """A plain function `(request, context, next)` as a link of every method that may pass."""

    def __init__(self, function: Callable[[Request, Context, Next], Awaitable[Answer]]) -> None:
        self._function = function

    def handles(self, method: str) -> bool:
        """Tell whether `method` may pass to the node."""
        return may_pass(method)

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Run the function."""
        return await self._function(request, context, next)


def _web3_middleware(use: str, found: Any, args: dict[str, Any]) -> Any:
    """Return the link around what a class, a builder class or a builder makes. Raise `BadEntry`."""
    from web3 import AsyncWeb3, Web3
    from web3.middleware import Web3Middleware
    from web3.middleware.base import Web3MiddlewareBuilder

    is_class = inspect.isclass(found)
    if not callable(found) or (is_class and not issubclass(found, Web3Middleware)):
        return found
    is_builder = is_class and issubclass(found, Web3MiddlewareBuilder)
    make = found.build if is_builder else found
    asynchronous = _overrides(found, ASYNC_HOOKS, Web3Middleware) if is_class else True
    made = _made(use, lambda: _called(make, AsyncWeb3(_async_provider()) if asynchronous else Web3(_provider()), args))
    if not isinstance(made, Web3Middleware):
        raise BadEntry(use, f"called with w3 and its args it gives {type(made).__name__}, not a web3.py middleware")
    if asynchronous and not _overrides(type(made), ASYNC_HOOKS, Web3Middleware):
        asynchronous = False
        made = _made(use, lambda: _called(make, Web3(_provider()), args))
    if (why := why_idle(made)) is not None:
        logger.warning("[[middleware]] %s never acts behind this proxy: %s", use, why)
    return Web3Link(made, asynchronous=asynchronous, use=use)


def _called(make: Callable[..., Any], w3: Any, args: dict[str, Any]) -> Any:
    """Call a class or builder; builders name their last parameter `w3`, whatever stands before it."""
    try:
        named = "w3" in inspect.signature(make).parameters
    except (TypeError, ValueError):
        named = False
    return make(w3=w3, **args) if named else make(w3, **args)


def _overrides(kind: type, hooks: Sequence[str], base: type) -> bool:
    return any(getattr(kind, hook) is not getattr(base, hook) for hook in hooks)


class Web3Link:
    """One web3.py middleware as a link. `use`: its name in the config."""

    def __init__(self, middleware: Web3Middleware, *, asynchronous: bool, use: str = "") -> None:
        self._middleware = middleware
        self._asynchronous = asynchronous
        self._use = use
        self._acts_on = handled_by(middleware)
        self._turns = asyncio.Semaphore(MOST_THREADS)

    def handles(self, method: str) -> bool:
        """Tell whether the middleware may have something to say about `method`."""
        return may_pass(method) and self._acts_on(method)

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Run the middleware around `next`. Raise -32005 for an answer nested too deeply to be shown to it."""
        call = Call(request, context, next)
        params = call.params()
        token = current.set(call)
        try:
            response = await (self._async(call, params) if self._asynchronous else self._sync(call, params))
            return call.answer(response)
        except RecursionError as error:
            if call.outcome is None and not isinstance(error, TooDeep):
                raise
            raise self._too_deep(request.method) from error
        except Exception as error:
            refusal = _refusal(error, asked=call.outcome is None)
            if refusal is None:
                raise
            raise refusal from error
        finally:
            current.reset(token)

    def _too_deep(self, method: str) -> LimitExceeded:
        return LimitExceeded(
            "nesting",
            f"the node's answer to {shorten(method)} is nested too deeply to be shown to the middleware {self._use}; "
            "a class attribute `methods` keeps a middleware to the methods it acts on",
        )

    async def _async(self, call: Call, params: Any) -> Any:
        wrapped: Any = await self._middleware.async_wrap_make_request(call.make_request)
        return await wrapped(call.request.method, params)

    async def _sync(self, call: Call, params: Any) -> Any:
        if nested.get():  # made by a call that holds a turn: it may not wait for one
            return await self._in_thread(call, params)
        async with self._turns:
            return await self._in_thread(call, params)

    async def _in_thread(self, call: Call, params: Any) -> Any:
        call.bridge = bridge = Bridge()

        def make_request(method: Any, params: Any) -> Any:
            return bridge.wait(call.make_request(method, params))

        return await bridge.run(lambda: self._middleware.wrap_make_request(make_request)(_endpoint(call), params))


def _refusal(error: Exception, *, asked: bool) -> RpcError | None:
    """Return what the caller hears where a middleware of web3.py refuses on purpose; None for a failure of ours.

    `asked`: the node was not asked yet, so the refusal is about the call.
    """
    from web3.exceptions import StaleBlockchain, Web3ValidationError

    if isinstance(error, StaleBlockchain):
        return Disconnected(f"the L1 node is behind: {shorten(str(error), 300)}")
    if isinstance(error, Web3ValidationError) and asked:
        said = shorten(str(error), 300)
        return RpcError(-32602, said, {"param": "params", "expected": "what [[middleware]] lets pass", "got": said})
    return None


def _endpoint(call: Call) -> Any:
    return call.request.method


def _async_provider() -> Any:
    """Return the provider behind the `w3` of an asynchronous middleware: the chain itself."""
    from web3.providers import AsyncBaseProvider

    class Dispatching(AsyncBaseProvider):
        async def make_request(self, method: Any, params: Any) -> Any:
            return await current.get().dispatch(str(method), params)

    return Dispatching()


def _provider() -> Any:
    """Return the provider behind the `w3` of a synchronous middleware: the chain itself, waited for in its thread."""
    from web3.providers import BaseProvider

    class Dispatching(BaseProvider):
        def make_request(self, method: Any, params: Any) -> Any:
            call = current.get()
            if call.bridge is None:
                raise RuntimeError("w3 can be used during a call only")
            return call.bridge.wait(call.dispatch(str(method), params))

    return Dispatching()


__all__ = ["BadEntry", "Web3Link", "configured_links"]
