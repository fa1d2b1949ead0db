"""What the tests of configured links name by dotted path: middlewares as users write them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from web3.middleware import Web3Middleware
from web3.middleware.base import Web3MiddlewareBuilder

from middleware.waist import Answer, Context, Next, Request, result


class SyncTag(Web3Middleware):
    """Synchronous processors: adds a member to every block."""

    def response_processor(self, method: Any, response: Any) -> Any:
        if isinstance(response.get("result"), dict):
            response["result"]["tag"] = threading.current_thread().name
        return response


class AsyncLatest(Web3Middleware):
    """Asynchronous processor: replaces a block tag."""

    async def async_request_processor(self, method: Any, params: Any) -> Any:
        return method, ["latest" if param == "newest" else param for param in params]


class SyncWrap(Web3Middleware):
    """The whole synchronous flavour: asks twice, and another method once."""

    def wrap_make_request(self, make_request: Any) -> Any:
        def middleware(method: Any, params: Any) -> Any:
            if method != "eth_call":
                return make_request(method, params)
            make_request(method, params)
            chain = make_request("eth_chainId", [])
            response = make_request(method, params)
            return {**response, "result": [chain["result"], response["result"]]}

        return middleware


class SyncW3(Web3Middleware):
    """Uses the w3 it was given, as web3.py's own stale check does."""

    def request_processor(self, method: Any, params: Any) -> Any:
        if method == "eth_call":
            params = [{"gas": self._w3.eth.chain_id}, *params]
        return method, params


class AsyncW3(Web3Middleware):
    """The same, asynchronous."""

    async def async_request_processor(self, method: Any, params: Any) -> Any:
        if method == "eth_call":
            w3: Any = self._w3
            params = [{"gas": await w3.eth.chain_id}, *params]
        return method, params


class ChangesMethod(Web3Middleware):
    """Turns every call into another one."""

    async def async_request_processor(self, method: Any, params: Any) -> Any:
        return ("eth_sendTransaction" if method == "eth_call" else method), params


class Declared(Web3Middleware):
    """Says which methods it acts on."""

    methods = ("eth_call",)


class Breaks(Web3Middleware):
    """Fails, as a broken middleware does."""

    async def async_response_processor(self, method: Any, response: Any) -> Any:
        raise ValueError("the secret is abandon")


class ForgivesErrors(Web3Middleware):
    """Turns an error into a result."""

    async def async_response_processor(self, method: Any, response: Any) -> Any:
        return {**response, "result": "0x", "error": None} if "error" in response else response


class Builder(Web3MiddlewareBuilder):
    """A builder with an argument, as web3.py's stale check."""

    added: str

    @staticmethod
    def build(added: str, w3: Any) -> Builder:  # type: ignore[override]  # as web3.py's own do
        made = Builder(w3)
        made.added = added
        return made

    async def async_response_processor(self, method: Any, response: Any) -> Any:
        return {**response, "result": f"{response['result']}{self.added}"}


class OwnLink:
    """A link of our own."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def handles(self, method: str) -> bool:
        return method == "eth_call"

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        await asyncio.sleep(0)
        return result(self._answer)


async def own_function(request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
    """A plain function as a link."""
    return result("from a function")


NOT_A_LINK = 7


class NotALink:
    """Neither."""
