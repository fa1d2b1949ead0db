"""How freed memory is kept: the C library gives the end of the heap back after every large answer and faults it in again.

For answers of a megabyte those page faults cost more than everything else the proxy does with them (measured by
benchmarks/: 5 ms of CPU an answer, 1.7 ms with these settings). So a bounded rest of freed memory is kept. Called once,
before the loop starts; must never fail: another C library than glibc keeps its own ways. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of malloc.h
KEPT = 32 * 1024 * 1024  # free bytes at the end of the heap that are not given back
AHEAD = 1024 * 1024
OF_THEIR_OWN = 16 * 1024 * 1024  # buffers as large as this are mapped alone and given back at once


def keep_freed_memory() -> bool:
    """Tell the allocator to keep up to `KEPT` bytes. Return whether it listened."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((TRIM_THRESHOLD, KEPT), (TOP_PAD, AHEAD), (MMAP_THRESHOLD, OF_THEIR_OWN))
    taken = [mallopt(what, amount) for what, amount in settings]
    return all(taken)
