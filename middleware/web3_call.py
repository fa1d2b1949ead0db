"""One call on its way through a web3.py middleware: decoded copies in, and the raw bytes back where nothing changed.

Between web3_adapter.py, which knows web3.py, and the rest of the chain. Params and responses are compared in wire form with
what they were, so that a middleware that has nothing to say leaves no trace in the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import msgspec

from middleware import wire
from middleware.bridge import Bridge
from middleware.errors import InvalidParams, RpcError
from middleware.nesting import deeper_than
from middleware.waist import Answer, Context, LargeReply, Next, NodeReply, Request, Result

MOST_LEVELS = 2500  # of a response; a call of a trace has two. From Python 3.12 on its JSON parser gives up earlier


class TooDeep(RecursionError):
    """A response nests deeper than code that recurses over it may be trusted with: libraries raise Python's own limit."""


@dataclass
class Call:
    """One call on its way through a web3.py middleware, with what it was before."""

    request: Request
    context: Context
    next: Next
    bridge: Bridge | None = None
    seen: bytes = b""  # the last response of the chain, as it was before the middleware had it
    before: Any = None
    outcome: Answer | RpcError | None = None

    def params(self) -> Any:
        """Return the decoded params. Raise -32602 for values that cannot be decoded, or that a node may read otherwise."""
        try:
            return wire.decode_strictly(self.request.params) if self.request.params else []
        except wire.Ambiguous as error:  # what is judged here must be what the node reads (hardening.md 1)
            raise InvalidParams("params", "objects with each member once", "a member that stands twice") from error
        except (ValueError, RecursionError) as error:
            raise InvalidParams("params", "values nested less deeply", "a value nested too deeply") from error

    async def make_request(self, method: Any, params: Any) -> Any:
        """Go on with the chain; return the response object a web3.py middleware expects."""
        if str(method) != self.request.method:
            return await self.dispatch(str(method), params)
        before = self.params()
        after = wire.plain(params, before, quantities=True)
        changed = wire.encode(after) != wire.encode(before)
        request = msgspec.structs.replace(self.request, params=wire.encode(after)) if changed else self.request
        try:
            answer = self.outcome = _in_memory(await self.next(request, self.context))
        except RpcError as error:
            self.outcome = error
            return self._shown({"error": error.to_json()})
        return self._shown(_response_of(answer))

    async def dispatch(self, method: str, params: Any) -> Any:
        """Call another method through its whole chain."""
        token = nested.set(True)
        try:
            request = Request(method, wire.encode(wire.plain(params, quantities=True)), b"1")
            return {"jsonrpc": "2.0", "id": 1} | _response_of(_in_memory(await self.context.dispatch(request)))
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": 1, "error": error.to_json()}
        finally:
            nested.reset(token)

    def answer(self, response: Any) -> Answer:
        """Return what the middleware made of the response: the bytes as they came if it left them alone."""
        if not isinstance(response, Mapping) or not ("result" in response or "error" in response):
            raise TypeError(f"a web3.py middleware gave no response object for {self.request.method}")
        part = "error" if response.get("error") is not None else "result"
        old = self.before if isinstance(self.before, dict) else {}
        value = wire.plain(response.get(part), old.get(part, wire.ABSENT))
        if self.outcome is not None and wire.encode({part: value}) == self.seen:
            if isinstance(self.outcome, RpcError):
                raise self.outcome
            return self.outcome
        if part == "error":
            raise RpcError(int(value["code"]), str(value["message"]), value.get("data"))
        return Result(wire.encode(value))

    def _shown(self, response: dict[str, Any]) -> dict[str, Any]:
        self.seen = wire.encode(response)
        self.before = wire.decode(self.seen)
        return {"jsonrpc": "2.0", "id": _id_of(self.request), **response}


def _in_memory(answer: Answer) -> Result | NodeReply:
    return answer.read() if isinstance(answer, LargeReply) else answer


def _response_of(answer: Result | NodeReply) -> dict[str, Any]:
    """Return the result or error member of an answer, decoded. Raise `TooDeep`."""
    raw = answer.json if isinstance(answer, Result) else answer.body
    if deeper_than(MOST_LEVELS, raw):
        raise TooDeep
    body = wire.decode(raw)
    if isinstance(answer, Result):
        return {"result": body}
    return {"error": body["error"]} if body.get("error") is not None else {"result": body.get("result")}


def _id_of(request: Request) -> Any:
    return None if request.id is None else wire.decode(request.id)


current: ContextVar[Call] = ContextVar("l2proxy_web3_call")
nested: ContextVar[bool] = ContextVar("l2proxy_web3_nested", default=False)
