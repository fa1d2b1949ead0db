"""The unix socket of a node (geth, anvil, the embedded L1): one connection that carries JSON values.

Opened by `Multiplexed`; bytes in and out, nothing else is decided here. Values go out ended by a newline, as geth's own clients do.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from proxy.upstream.arrival import Keeping
from proxy.upstream.failures import Silent, Unreachable
from proxy.upstream.frames import FrameSplitter, NotJson
from proxy.upstream.node_socket import Open, Receiver, Socket
from proxy.upstream.raw_socket import RawSocket


def opener(path: str, keeping: Keeping, connect_seconds: float = 10) -> Open:
    """Return a function that opens the unix socket at `path`; `keeping` bounds its answers."""

    async def open_socket(receiver: Receiver) -> Socket:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_seconds):
                _, socket = await loop.create_unix_connection(cast(Any, lambda: _UnixSocket(receiver, keeping)), path)
        except FileNotFoundError as error:
            raise Unreachable("there is no socket there; is the node running?") from error
        except TimeoutError as error:
            raise Silent(f"the socket did not take the connection within {connect_seconds:g} s") from error
        except OSError as error:
            raise Unreachable(
                f"the socket refused the connection ({error.strerror or type(error).__name__})"
            ) from error
        return cast(Socket, socket)

    return open_socket


class _UnixSocket(RawSocket):
    def __init__(self, receiver: Receiver, keeping: Keeping) -> None:
        super().__init__(receiver)
        self._splitter = FrameSplitter(keeping, receiver.begins)

    def data_received(self, data: bytes) -> None:
        received = self._receiver.received
        try:
            for value in self._splitter.feed(data):
                received(value)
        except NotJson as error:
            self._give_up(f"the L1 node's socket does not speak JSON-RPC: {error}")

    def _framed(self, frame: bytes) -> bytes:
        return frame + b"\n"

    def _let_go(self) -> None:
        self._splitter.close()
