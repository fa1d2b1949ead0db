"""Unix sockets that belong to one user: bound without a moment of openness, peers asked of the kernel."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")


def bind_private(path: Path) -> socket.socket:
    """Bind a listening unix socket that no other user can open (0600, made under umask 0177)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the other end, as the kernel noted them when it connected or listened (Linux)."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
