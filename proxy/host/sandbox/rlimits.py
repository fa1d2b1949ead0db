"""Resource limits of a plugin's process; set hard, so that it cannot raise them again. Source: getrlimit(2)."""

from __future__ import annotations

import resource

DESCRIPTORS = 32
STACK = 8 * 1024 * 1024


def lock(memory: int, *, address_space: bool = True, threads: int = 0) -> None:
    """Bound memory (bytes), descriptors, files, threads. `address_space` False: only data counts, as V8 reserves far more."""
    rows = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_STACK: STACK,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: DESCRIPTORS,
        resource.RLIMIT_NPROC: threads,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_NICE: 0,
    }
    if address_space:
        rows[resource.RLIMIT_AS] = memory
    for kind, value in rows.items():
        hard = resource.getrlimit(kind)[1]
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowest, lowest))
