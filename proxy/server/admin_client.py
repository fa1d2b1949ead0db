"""The command line's way to a running daemon: one call over the admin socket.

The other end is a `SocketListener` with the admin handlers behind it. It must never be reachable from the dapp doors.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import RpcError

LONGEST_ANSWER = 256 * 1024 * 1024


async def call_admin_socket(path: Path, method: str, params: Any, seconds: float | None = None) -> Any:
    """Return the result of an admin method. Raise `RpcError` for its error, `ConnectionError` when no daemon answers.

    `seconds`: how long an answer may take, for what is always answered at once; a daemon that hangs takes calls and answers none.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _call(path, method, params)
    except TimeoutError as error:
        said = f"the daemon has not answered for {seconds:g} s: it hangs, is stopped, or this machine is overloaded"
        raise RpcError(-32603, said) from error


async def _call(path: Path, method: str, params: Any) -> Any:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER)
    except OSError as error:
        raise ConnectionRefusedError(f"no daemon answers on {path}") from error
    try:
        writer.write(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the daemon ended before it answered")
    answer = msgspec.json.decode(line)
    failure = answer.get("error")
    if failure is not None:
        raise RpcError(failure["code"], failure["message"], failure.get("data"))
    return answer["result"]
