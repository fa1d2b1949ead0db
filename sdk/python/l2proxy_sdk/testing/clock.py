"""The time of a test: it stands still until the test moves it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self


class FakeClock:
    """Unix seconds that a test moves. `install`, or `with FakeClock() as clock`, makes `time.time()` tell them, too."""

    def __init__(self, now: float = 1_700_000_000) -> None:
        self.now = now
        self._real = time.time

    def advance(self, seconds: float) -> None:
        """Move on; `FakeHost.advance` does this and fires the timers on the way. Raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self.now += seconds

    def install(self) -> FakeClock:
        """Make `time.time()` tell this clock's time, in the test and in the plugin, until `restore`."""
        time.time = self._tell
        return self

    def restore(self) -> None:
        """Make `time.time()` tell the time again."""
        time.time = self._real

    def _tell(self) -> float:
        return float(self.now)

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
