"""Landlock: a ruleset that handles everything the kernel can handle and allows nothing. Source: landlock(7).

Holds files, TCP, abstract sockets and signals should the system call filter have a hole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from proxy.host.sandbox import kernel

VERSION_FLAG = 1
_BENEATH_A_PATH, _READ_AND_EXECUTE = 1, 0b101
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many bits an ABI version knows; from 5 on: 16 (ioctl on devices)


def lock(readable: Sequence[int] = ()) -> str:
    """Restrict this thread for good; return the ABI used. Raises OSError where the kernel has no Landlock.

    `readable`: descriptors of files and folders that a program still to be loaded is read and executed from.
    """
    version = kernel.call("landlock_create_ruleset", None, 0, VERSION_FLAG)
    files = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    ports = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    words = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2}.get(version, 3)
    attributes = struct.pack("=QQQ", files, ports, scopes)[: 8 * words]
    ruleset = kernel.call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for opened in readable:
            rule = struct.pack("=Qi", _READ_AND_EXECUTE, opened)
            kernel.call("landlock_add_rule", ruleset, _BENEATH_A_PATH, rule, 0)
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return f"landlock {version}"
