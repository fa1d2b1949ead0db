"""Ending an embedded L1 by its pid, without ever hitting a process that merely got the same number.

Used by `launch`. A pid file can be stale and its number reused: a process counts as the node of a socket only while its command line
names that socket. Signals go through a pidfd, which stays with one process.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

_SECONDS_TO_END = 5.0


def stale_pid(socket: Path) -> int | None:
    """Return the pid of a process that is the node of a socket although it no longer answers there; None if there is none."""
    try:
        pid = int(socket.with_suffix(".pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_node_of(pid, socket) else None


def _is_node_of(pid: int, socket: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"proxy.upstream.embedded" in words and os.fsencode(socket) in words


async def end(pid: int, socket: Path) -> None:
    """End the node of a socket and wait until its process is gone: SIGTERM, and SIGKILL if that does not help."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not _is_node_of(pid, socket):
            return
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not await _gone(process, _SECONDS_TO_END):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            await _gone(process, _SECONDS_TO_END)
    except ProcessLookupError:
        return
    finally:
        os.close(process)


async def _gone(process: int, seconds: float) -> bool:
    """Wait until a process has ended; its pidfd becomes readable then."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(process)
    return True
