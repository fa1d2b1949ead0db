"""The plugin's process: takes the pipes, runs the loop, serves until the proxy closes or says stop.

The host's bootstrap imports this module before the sandbox locks, calls `claim()` (the loop's own descriptors and the
channel are made there), locks, loads the author's class and calls `run()`. Nothing after `claim()` opens a file, a socket
or a thread. A stray `print()` must never reach the channel: standard output becomes standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from .errors import ChannelClosed
from .frames import MAX_LINE
from .plugin import Plugin
from .session import Session


class Process:
    """The claimed channel and the loop that will serve it."""

    def __init__(self, reading: int, writing: int, loop: asyncio.AbstractEventLoop) -> None:
        self._reading = reading
        self._writing = writing
        self._loop = loop

    def run(self, plugin: type[Plugin]) -> int:
        """Serve one plugin object to the end; return the exit status: 0 after stop or a closed pipe, 1 after a broken one."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(plugin()))
        except ChannelClosed as error:
            print(f"the channel ended: {error}", file=sys.stderr)  # noqa: T201 - stderr is the plugin's log
            return 1
        finally:
            self._loop.close()
        return 0

    async def _serve(self, plugin: Plugin) -> None:
        reader = asyncio.StreamReader(limit=MAX_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        source, _ = await self._loop.connect_read_pipe(lambda: protocol, os.fdopen(self._reading, "rb", 0))
        sink, flow = await self._loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(self._writing, "wb", 0)
        )
        writer = asyncio.StreamWriter(sink, flow, None, self._loop)
        try:
            await Session(plugin, _lines(reader), writer).run()
            await writer.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise ChannelClosed("the proxy has gone") from None
        finally:
            source.close()
            writer.close()


def claim(reading: int = 0, writing: int = 1) -> Process:
    """Take the channel's descriptors away from sys.stdin and sys.stdout, and make the loop."""
    loop = asyncio.new_event_loop()
    channel_in, channel_out = os.dup(reading), os.dup(writing)
    ended, unused = os.pipe()
    os.close(unused)
    os.dup2(ended, 0)  # reading standard input gives end of file
    os.close(ended)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Process(channel_in, channel_out, loop)


def main(plugin: type[Plugin]) -> int:
    """Claim the channel and serve; return the exit status."""
    return claim().run(plugin)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise ChannelClosed("the proxy closed in the middle of a line") from None
            return
        except asyncio.LimitOverrunError:
            raise ChannelClosed(f"a line over {MAX_LINE} bytes") from None
        yield line
