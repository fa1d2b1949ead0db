"""The host's end of the tripwires: hears which forbidden call a plugin made, so that it can be named when it is ended.

The call itself waits in the kernel until the host answers, and the host never answers: it ends the process. Should the host be
gone, the kernel answers ENOSYS. Source: seccomp_unotify(2), `include/uapi/linux/seccomp.h`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable

from proxy.host.sandbox.syscalls import architecture

_RECEIVE, _SIZE = 0xC0502100, 80  # SECCOMP_IOCTL_NOTIF_RECV, sizeof(struct seccomp_notif)
_NUMBER_AT = 16


class Tripwires:
    """Listens for one process. `touched(name)` is called once, with the name of the system call, and must end it."""

    def __init__(self, line: socket.socket, touched: Callable[[str], None]) -> None:
        _, descriptors, _, _ = socket.recv_fds(line, 16, 1)
        if not descriptors:
            raise OSError(0, "the sandbox promised a listener and sent none")
        self._listener = descriptors[0]
        self._touched = touched
        os.set_inheritable(self._listener, False)
        asyncio.get_running_loop().add_reader(self._listener, self._told)

    def close(self) -> None:
        """Listen no longer."""
        if self._listener >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            os.close(self._listener)
            self._listener = -1

    def _told(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        waiting = any(event & select.POLLIN for _, event in poll.poll(0))  # an ended process shows as readable, too
        name = self._receive() if waiting else None
        if name is not None:
            self._touched(name)  # before the listener goes: once it is closed the call answers and the process runs on
        self.close()

    def _receive(self) -> str | None:
        notification = bytearray(_SIZE)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
        except OSError:
            return None  # killed by somebody else meanwhile
        known = architecture()
        (number,) = struct.unpack_from("=i", notification, _NUMBER_AT)
        return str(number) if known is None else known.name_of(number)
