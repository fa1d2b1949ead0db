"""A dapp in twenty lines: JSON-RPC over HTTP POST and WebSocket, as any web3 library does it."""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType
from typing import Any, Protocol

import aiohttp
import msgspec

from middleware.errors import RpcError


class Client(Protocol):
    """What the journey needs of a web3 library: one call. An error of the server is an `RpcError`."""

    async def request(self, method: str, params: Any) -> Any:
        """Return the result of one call."""


class HttpClient:
    """Calls over HTTP POST, as a page of `origin` or with a token in the URL."""

    def __init__(self, session: aiohttp.ClientSession, url: str, origin: str | None = None) -> None:
        self._session = session
        self._url = url
        self._headers = {"Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
        self._ids = itertools.count(1)

    async def request(self, method: str, params: Any) -> Any:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params})
        async with self._session.post(self._url, data=body, headers=self._headers) as response:
            return _result(msgspec.json.decode(await response.read()))


class WsClient:
    """Calls and subscriptions over one WebSocket."""

    def __init__(self, session: aiohttp.ClientSession, url: str, origin: str | None = None) -> None:
        self._session = session
        self._url = url
        self._headers = {"Origin": origin} if origin else {}
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.pushed: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> WsClient:
        self._socket = await self._session.ws_connect(self._url, headers=self._headers, max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._reader

    async def request(self, method: str, params: Any) -> Any:
        call = next(self._ids)
        self._waiting[call] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(
            msgspec.json.encode({"jsonrpc": "2.0", "id": call, "method": method, "params": params}).decode()
        )
        try:
            return await self._waiting[call]
        finally:
            del self._waiting[call]

    async def _read(self) -> None:
        async for message in self._socket:
            answer = msgspec.json.decode(message.data)
            if "id" not in answer:
                self.pushed.put_nowait(answer["params"]["result"])
                continue
            waiting = self._waiting.get(answer["id"])
            if waiting is None or waiting.done():
                continue
            try:
                waiting.set_result(_result(answer))
            except RpcError as error:
                waiting.set_exception(error)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the WebSocket closed"))


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        error = answer["error"]
        raise RpcError(error["code"], error["message"], error.get("data"))
    return answer["result"]
