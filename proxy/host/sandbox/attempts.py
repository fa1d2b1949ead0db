"""The last try of the door: what no locked process may do, tried by our own code right after the lock, in every process.

Costs microseconds. If anything succeeds the process is not sandboxed, whatever the layers said.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from proxy.host.sandbox import kernel

_READ_WRITE_EXECUTE, _PRIVATE_ANONYMOUS = 7, 0x22


def succeeding() -> list[str]:
    """Return which attempts got through; empty when the lock holds."""
    return [name for name, attempt in ATTEMPTS.items() if _succeeds(attempt)]


def _open() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _executable_memory() -> None:
    page = kernel.call("mmap", 0, 4096, _READ_WRITE_EXECUTE, _PRIVATE_ANONYMOUS, -1, 0)
    kernel.call("munmap", page, 4096)


ATTEMPTS: dict[str, Callable[[], None]] = {
    "opening a file": _open,
    "making a socket": _socket,
    "starting a process": _fork,
    "executable memory": _executable_memory,
}


def _succeeds(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno != errno.EPERM  # refused by something other than the filter: the filter does not hold
    return True
