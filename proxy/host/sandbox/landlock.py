"""Landlock: a ruleset that handles everything the kernel can handle and allows nothing. Source: landlock(7).

Holds files, TCP, abstract sockets and signals should the system call filter have a hole.
"""

from __future__ import annotations

import os
import struct

from proxy.host.sandbox import kernel

VERSION_FLAG = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many bits an ABI version knows; from 5 on: 16 (ioctl on devices)


def lock() -> str:
    """Restrict this thread for good; return the ABI used. Raises OSError where the kernel has no Landlock."""
    version = kernel.call("landlock_create_ruleset", None, 0, VERSION_FLAG)
    files = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    ports = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    words = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2}.get(version, 3)
    attributes = struct.pack("=QQQ", files, ports, scopes)[: 8 * words]
    ruleset = kernel.call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return f"landlock {version}"
