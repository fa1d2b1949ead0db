"""The socket of the embedded L1, and the way of every request to the node.

Bytes come in on the event loop and go to one worker thread, so a long call delays other calls but never the loop; each connection is
answered in the order it asked. Must never answer a peer of another user.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from proxy.upstream.embedded.dispatch import answer, failed
from proxy.upstream.embedded.errors import PARSE, NodeError
from proxy.upstream.embedded.json_stream import JsonStream, StreamError
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.unix_socket import peer

_CHUNK = 1 << 16

_log = logging.getLogger(__name__)


class Server:
    """Answers for one node on a unix socket, and through `ask` for whoever else has a door."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="node")
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def ask(self, raw: bytes) -> bytes | None:
        """Answer one JSON value, after all that was asked before."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, answer, self._node, raw)

    async def open_socket(self, listener: socket.socket) -> None:
        """Serve a bound unix socket."""
        self._listener = await asyncio.start_unix_server(self._accept, sock=listener)

    async def close(self) -> None:
        """Close the socket and its connections; what the worker runs is not waited for."""
        if self._listener is not None:
            self._listener.close()
        for task in self._connections:
            task.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        try:
            if peer(writer.get_extra_info("socket"))[1] == os.geteuid():
                await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError) as ending:
            _log.debug("connection ended: %r", ending)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = JsonStream()
        while chunk := await reader.read(_CHUNK):
            try:
                for raw in stream.feed(chunk):
                    await self._reply(writer, await self.ask(raw))
            except StreamError as error:
                await self._reply(writer, failed(b"null", NodeError(PARSE, f"parse error: {error}")))
                return

    async def _reply(self, writer: asyncio.StreamWriter, response: bytes | None) -> None:
        if response is not None:
            writer.write(response + b"\n")
            await writer.drain()
