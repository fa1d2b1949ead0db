"""Closes the host itself: no other process of the same user may attach to it or read its memory, where the keys are.

Source: PR_SET_DUMPABLE in prctl(2), ptrace(2) "Ptrace access mode checking".
"""

from __future__ import annotations

import sys

from proxy.host.sandbox import kernel


def make_undumpable() -> None:
    """Forbid core dumps, ptrace and /proc/PID/mem of this process to everybody but root."""
    if sys.platform.startswith("linux"):
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
