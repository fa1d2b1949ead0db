"""Loopback ports, both families: one number for 127.0.0.1 and ::1, and never another address (security.md 1)."""

from __future__ import annotations

import errno
import socket

TRIES = 50


def bind_loopback(port: int) -> tuple[int, list[socket.socket]]:
    """Return the port and its bound sockets, IPv4 first; port 0: any that is free in both families.

    IPv6 may be absent from the machine. Raise `OSError` in one sentence when the port is taken.
    """
    for _ in range(TRIES):
        first = _bound(socket.AF_INET, "127.0.0.1", port)
        chosen = first.getsockname()[1]
        try:
            second = _bound_v6(chosen)
        except OSError:
            first.close()
            if port != 0:
                raise
            continue
        return chosen, [first] if second is None else [first, second]
    raise OSError(errno.EADDRINUSE, "no port was found that is free on both 127.0.0.1 and ::1")


def _bound_v6(port: int) -> socket.socket | None:
    if not socket.has_ipv6:
        return None
    try:
        return _bound(socket.AF_INET6, "::1", port)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return None
        raise


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((host, port))
        opened.listen(1024)
    except OSError as error:
        opened.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "is taken by another program" if error.errno == errno.EADDRINUSE else "may not be used by this user"
            raise OSError(error.errno, f"port {port} on {host} {why}; choose another with --port (0: any)") from error
        raise
    return opened
