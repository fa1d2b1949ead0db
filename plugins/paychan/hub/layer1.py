"""The hub's way to an L1 node: plain JSON-RPC over HTTP or a unix socket.

One request at a time on a socket; a broken connection is made anew at the next request. Never retries by itself: whoever
asks knows whether asking twice does harm.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

import aiohttp

TIMEOUT = 30.0  # seconds for one answer


class NodeError(Exception):
    """The node answered with an error, or did not answer. `code` is None where it did not."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Node(Protocol):
    """An L1 node."""

    async def request(self, method: str, *params: Any) -> Any:
        """Return the result. Raises NodeError."""

    async def close(self) -> None:
        """Let go of connections."""


def connect(where: str) -> Node:
    """Return the node at an http(s) URL or a socket path."""
    if where.startswith(("http://", "https://")):
        return HttpNode(where)
    return SocketNode(Path(where))


class HttpNode:
    """JSON-RPC over HTTP POST."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def request(self, method: str, *params: Any) -> Any:
        """Ask the node."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        try:
            async with self._session.post(self._url, json=body) as response:
                return _result(method, await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NodeError(f"{method}: the node does not answer ({error or type(error).__name__})") from None

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()


class SocketNode:
    """JSON-RPC over a unix socket: a stream of JSON values either way, as geth and anvil serve it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._text = ""
        self._next_id = 0

    async def request(self, method: str, *params: Any) -> Any:
        """Ask the node."""
        async with self._turn:
            self._next_id += 1
            body = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": list(params)}
            try:
                async with asyncio.timeout(TIMEOUT):
                    return _result(method, await self._exchange(body))
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                await self.close()
                raise NodeError(f"{method}: the node does not answer ({error or type(error).__name__})") from None
            except asyncio.CancelledError:
                await self.close()  # its answer would be taken for the next one's
                raise

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        self._text = ""

    async def _exchange(self, body: dict[str, Any]) -> Any:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(json.dumps(body).encode() + b"\n")
        await writer.drain()
        while True:
            answer = await self._next_value(reader)
            if isinstance(answer, dict) and answer.get("id") == body["id"]:
                return answer

    async def _next_value(self, reader: asyncio.StreamReader) -> Any:
        decoder = json.JSONDecoder()
        pending = b""
        while True:
            self._text = self._text.lstrip()
            try:
                value, end = decoder.raw_decode(self._text)
            except json.JSONDecodeError:
                chunk = await reader.read(1 << 16)
                if not chunk:
                    raise EOFError("it closed the socket") from None
                pending += chunk
                try:
                    self._text += pending.decode()
                    pending = b""
                except UnicodeDecodeError:
                    continue  # a character is still incomplete
            else:
                self._text = self._text[end:]
                return value


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise NodeError(f"{method}: the node answered {type(answer).__name__}, not an object")
    error = answer.get("error")
    if error is not None:
        raise NodeError(f"{method}: {error.get('message')}", error.get("code"))
    return answer.get("result")
