"""What one plugin has done and takes, for status and metrics: read when somebody asks, kept nowhere."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.host.calls import Calls
from proxy.host.deliveries import Deliveries
from proxy.host.lifecycle import Life
from proxy.host.services.store import Store

_CLOCK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Figures:
    """Counts since the daemon began. `queue`: invokes that run or wait, deliveries in flight and store turns that wait.

    `cpu_seconds` and `resident_bytes` are the process's that runs; None: none does.
    """

    invokes: int
    errors: int
    restarts: int
    queue: int
    store_bytes: int
    cpu_seconds: float | None
    resident_bytes: int | None

    def shown(self) -> dict[str, Any]:
        """Return the members of `admin_status`, without those that are not known."""
        rows = {
            "invokes": self.invokes,
            "errors": self.errors,
            "restarts": self.restarts,
            "queue": self.queue,
            "storeBytes": self.store_bytes,
            "cpuSeconds": None if self.cpu_seconds is None else round(self.cpu_seconds, 2),
            "residentBytes": self.resident_bytes,
        }
        return {name: value for name, value in rows.items() if value is not None}


def figures_of(life: Life, calls: Calls, deliveries: Deliveries, store: Store, invokes: int, errors: int) -> Figures:
    """Return the figures of one plugin as they are now."""
    cpu, resident = (None, None) if life.pid is None else _of_process(life.pid)
    queue = len(calls) + len(deliveries) + len(store.turns)
    return Figures(invokes, errors, max(0, life.starts - 1), queue, store.used, cpu, resident)


def _of_process(pid: int) -> tuple[float | None, int | None]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return sum(map(int, words[11:13])) / _CLOCK, int(words[21]) * _PAGE
    return None, None  # it has just ended, or this system shows none
