"""One call through a real library: `Client.request(method, params)`, errors of the server as `RpcError`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from web3 import AsyncHTTPProvider, AsyncWeb3, PersistentConnectionProvider, WebSocketProvider
from web3.exceptions import Web3RPCError

from middleware.errors import RpcError

HERE = Path(__file__).parent
LIBRARIES = ("web3.py-http", "web3.py-ws", "ethers-http", "ethers-ws", "viem-http", "viem-ws")


class Web3Client:
    """web3.py; its request manager is what every module of it calls."""

    def __init__(self, w3: AsyncWeb3) -> None:
        persistent = isinstance(w3.provider, PersistentConnectionProvider)
        self._send = w3.manager.socket_request if persistent else w3.manager.coro_request

    async def request(self, method: str, params: Any) -> Any:
        try:
            return await self._send(method, params)
        except Web3RPCError as error:
            cause = error.rpc_response["error"]
            raise RpcError(cause["code"], cause["message"], cause.get("data")) from error


class NodeClient:
    """ethers or viem in a node process, driven by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def request(self, method: str, params: Any) -> Any:
        call = next(self._ids)
        self._waiting[call] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": call, "method": method, "params": params}).encode() + b"\n")
        await self._process.stdin.drain()
        try:
            return await self._waiting[call]
        finally:
            del self._waiting[call]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.get(answer.get("id"))
            if waiting is None:
                continue
            if error := answer.get("error"):
                waiting.set_exception(RpcError(error["code"], error["message"], error.get("data")))
            else:
                waiting.set_result(answer["result"])
        for waiting in self._waiting.values():
            waiting.set_exception(ConnectionError("the node process ended"))

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader


@contextlib.asynccontextmanager
async def client(library: str, url: str) -> AsyncIterator[Any]:
    """Open `library` (one of LIBRARIES) on `url` (http://…; the ws flavours go to ws://…)."""
    name, transport = library.rsplit("-", 1)
    if transport == "ws":
        url = "ws" + url.removeprefix("http")
    if name == "web3.py":
        if transport == "ws":
            async with AsyncWeb3(WebSocketProvider(url, request_timeout=60)) as w3:
                yield Web3Client(w3)
        else:
            w3 = AsyncWeb3(AsyncHTTPProvider(url))
            yield Web3Client(w3)
            await w3.provider.disconnect()
        return
    process = await asyncio.create_subprocess_exec(
        "node", HERE / f"{name}.mjs", url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(100):
            assert json.loads(await process.stdout.readline()) == {"ready": True}
        node = NodeClient(process)
        yield node
        await node.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
