"""The crashes of one plugin: how many are too many, and how long to wait before the next start (plugin.md, "Lifecycle")."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

CRASHES, WITHIN = 5, 600.0  # in seconds
BACK_OFF = (0.2, 1.0, 3.0, 8.0)  # seconds before the next start, by the crashes of the last ten minutes
ON_WATCH = (15.0, 30.0, 60.0)  # the same for one that is quarantined in part, by all since then


class Crashes:
    """Counts them. `clock` is in seconds; `on_watch`: the plugin is quarantined, but for its watch."""

    def __init__(self, back_off: tuple[float, ...], on_watch: tuple[float, ...], clock: Callable[[], float]) -> None:
        self.on_watch = False
        self._pauses, self._watch_pauses, self._clock = back_off, on_watch, clock
        self._times: deque[float] = deque(maxlen=CRASHES)
        self._watched = 0

    def add(self) -> None:
        """Count one that happens now."""
        self._times.append(self._clock())
        self._watched += self.on_watch

    @property
    def too_many(self) -> bool:
        """Tell whether it is to be quarantined."""
        return self._recent() >= CRASHES

    def pause(self) -> float:
        """Return the seconds before the next start."""
        pauses, count = (self._watch_pauses, self._watched) if self.on_watch else (self._pauses, self._recent())
        return pauses[max(0, min(count, len(pauses)) - 1)]

    def _recent(self) -> int:
        return sum(self._times[-1] - at < WITHIN for at in self._times)
