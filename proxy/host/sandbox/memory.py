"""No page may be writable and executable at once when the lock falls; the filter keeps it so from then on.

An older libffi, which ctypes uses, makes such pages for its callbacks; a personality can make every readable page executable.
Source: mprotect(2), personality(2), proc_pid_maps(5).
"""

from __future__ import annotations

import contextlib

from proxy.host.sandbox import kernel

READ_IMPLIES_EXEC, ASK = 0x0400000, 0xFFFFFFFF
_READ_AND_EXECUTE = 1 | 4


def seal() -> None:
    """Take the write permission from every page that can be executed."""
    persona = kernel.call("personality", ASK)
    if persona & READ_IMPLIES_EXEC:
        kernel.call("personality", persona & ~READ_IMPLIES_EXEC)
    with contextlib.suppress(FileNotFoundError), open("/proc/self/maps", "rb") as maps:
        for row in maps:
            extent, rights = row.split()[:2]
            if b"w" in rights and b"x" in rights:
                start, end = (int(part, 16) for part in extent.split(b"-"))
                kernel.call("mprotect", start, end - start, _READ_AND_EXECUTE)
