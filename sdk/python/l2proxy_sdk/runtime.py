"""The plugin's process: takes the pipes, runs the loop, serves until the proxy closes or says stop.

The host's bootstrap imports this module before the sandbox locks, calls `claim()` (the loop's own descriptors and the
channel's wires are made there), locks, loads the author's class and calls `run()`. Nothing after `claim()` opens a file, a
socket or a thread, or asks about one. A stray `print()` must never reach the channel: standard output becomes standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys

from .errors import ChannelClosed
from .plugin import Plugin
from .session import Session
from .wire import Incoming, Outgoing

AT_ONCE = 64 * 1024  # bytes read at once: below what the C library takes from the system for itself


class Process:
    """The claimed channel and the loop that will serve it."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing, loop: asyncio.AbstractEventLoop) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
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
        try:
            await Session(plugin, self._incoming, self._outgoing).run()
            await self._outgoing.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise ChannelClosed("the proxy has gone") from None
        finally:
            self._outgoing.close()


def claim(reading: int = 0, writing: int = 1) -> Process:
    """Take the channel's descriptors away from sys.stdin and sys.stdout, and make the loop and the streams on them."""
    loop = asyncio.new_event_loop()
    incoming, outgoing = loop.run_until_complete(_wires(os.dup(reading), os.dup(writing)))
    ended, unused = os.pipe()
    os.close(unused)
    os.dup2(ended, 0)  # reading standard input gives end of file
    os.close(ended)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Process(incoming, outgoing, loop)


async def _wires(reading: int, writing: int) -> tuple[Incoming, Outgoing]:
    """Return the two pipes, open. Their making asks what kind of file they are, which the sandbox answers no more."""
    loop = asyncio.get_running_loop()
    outgoing = Outgoing()
    incoming = Incoming(outgoing)
    source, _ = await loop.connect_read_pipe(lambda: incoming, os.fdopen(reading, "rb", 0))
    source.max_size = AT_ONCE  # type: ignore[attr-defined] # more would be mapped and unmapped anew for each read
    await loop.connect_write_pipe(lambda: outgoing, os.fdopen(writing, "wb", 0))
    return incoming, outgoing


def main(plugin: type[Plugin]) -> int:
    """Claim the channel and serve; return the exit status."""
    return claim().run(plugin)
