"""Puts a filter on the calling thread, for good. The layer nothing else replaces: without it a plugin is not sandboxed.

With a listener the tripwires are told to the host, which ends the process and names the call; without one (an outer sandbox
has taken the only listener) they kill, and the host can say no more than that. Source: seccomp(2).
"""

from __future__ import annotations

import array
import ctypes
import errno
import socket

from proxy.host.sandbox import bpf, kernel
from proxy.host.sandbox.policy import Policy

SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def lock(policy: Policy) -> None:
    """Install the filter with tripwires that kill. Raises OSError."""
    _install(bpf.jail_filter(policy, kernel.known_architecture()), 0)


def lock_and_tell(policy: Policy, line: socket.socket) -> bool:
    """Install the filter and send the host the listener of its tripwires over `line`, which is closed; False: they kill."""
    architecture = kernel.known_architecture()
    try:
        listener = _install(bpf.tripwire_filter(policy, architecture), NEW_LISTENER)
    except OSError as error:
        line.close()
        if error.errno not in (errno.EBUSY, errno.EINVAL):
            raise
        lock(policy)
        return False
    rights = array.array("i", [listener])
    line.sendmsg([b"l"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    line.close()
    kernel.libc("close", listener)
    _install(bpf.jail_filter(policy, architecture, tripwires=bpf.ALLOW), 0)
    return True


def _install(program: bytes, flags: int) -> int:
    kept = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // 8, ctypes.addressof(kept))
    return kernel.call("seccomp", SET_MODE_FILTER, flags, ctypes.addressof(described))
