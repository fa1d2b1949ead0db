"""Answers the methods of the proxy's own: decodes params, lets jsonrpcserver find and call the handler, encodes the result.

Stands at the end of the dapp chain, and alone behind the admin socket with a table of its own. The one module that knows
jsonrpcserver. That library tells callers exception texts and Python signatures, so nothing of either may ever reach it:
handlers get params as one value, and every exception is taken out before the library sees it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from middleware.errors import InvalidParams, MethodNotFound, shorten
from middleware.waist import Answer, Context, Handler, Request, Result

with warnings.catch_warnings():  # it imports pkg_resources, which is deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import Error, Success
    from jsonrpcserver.async_dispatcher import dispatch_to_response_pure


@dataclass(slots=True)
class _Invocation:
    """What travels through the library as its context, and what it must not see of the outcome."""

    params: Any
    context: Context
    result: Result | Request | None = None
    failure: Exception | None = None


Answering: TypeAlias = Callable[[Request, Context], Awaitable[Result]]
"""Answers a method whose params a link has read already."""


class Dispatcher:
    """A closed table of handlers by method name. `read`: those of them that take the request as a link has read it.

    A handler may return another call (a `Request`): that enters the whole chain, and its answer is the answer, as it comes.
    """

    def __init__(self, handlers: Mapping[str, Handler], read: Mapping[str, Answering] | None = None) -> None:
        self._methods = {name: _adapted(handler) for name, handler in handlers.items()}
        self._read = {name: answering for name, answering in (read or {}).items() if name in self._methods}

    def __contains__(self, method: object) -> bool:
        return method in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    async def __call__(self, request: Request, context: Context) -> Answer:
        """Return the handler's result. Raise its `RpcError`, -32601 for a name not in the table, -32602 for params too deep."""
        if request.method not in self._methods:
            raise MethodNotFound(shorten(request.method))
        if (answering := self._read.get(request.method)) is not None:
            return await answering(request, context)
        invocation = _Invocation(decode_params(request.params), context)
        response = await dispatch_to_response_pure(
            deserializer=_envelope,
            validator=_checked,
            methods=self._methods,
            context=invocation,
            post_process=_unread,
            request=request.method,
        )
        if invocation.failure is not None:
            raise invocation.failure
        if invocation.result is None:
            raise RuntimeError(f"jsonrpcserver did not call {request.method}: {response!r}")
        if isinstance(invocation.result, Request):
            return await context.dispatch(Request(invocation.result.method, invocation.result.params, request.id))
        return invocation.result


def decode_params(raw: bytes) -> Any:
    """Return raw params as list, dict or None. Raise -32602 when they cannot be decoded (too deep, a number too large)."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except RecursionError as error:
        raise InvalidParams("params", "values nested less deeply", "a value nested too deeply") from error
    except msgspec.DecodeError as error:
        raise InvalidParams("params", "JSON values in range", str(error)) from error


def _adapted(handler: Handler) -> Any:
    async def method(invocation: _Invocation) -> Any:
        try:
            value = await handler(invocation.params, invocation.context)
            invocation.result = value if isinstance(value, Request) else Result(msgspec.json.encode(value))
        except Exception as failure:  # noqa: BLE001  raised again outside of the library, which would publish its text
            invocation.failure = failure
            return Error(-32603, "")
        return Success()

    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]  # the library asks for it at each call
    return method


def _envelope(method: str) -> dict[str, Any]:
    """Return what the library reads a method's name from; the params travel beside it, see `_Invocation`."""
    return {"jsonrpc": "2.0", "method": method, "id": 0}


def _checked(request: Any) -> Any:
    """Accept: the door has checked the envelope."""
    return request


def _unread(response: Any) -> Any:
    """Return the library's response as it is: the outcome stands in the `_Invocation`."""
    return response
