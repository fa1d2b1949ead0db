"""Whether the files of a running plugin are still those that were installed (security.md 13: a changed file is disabled, loudly).

What runs was read and checked before it ran, so a change does no harm by itself; but the next start would refuse it, and the owner should
hear of it now. Looks at what `stat` tells of each file and folder; only where that differs are the files read again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from proxy.host.package import is_as_stored

SHARE = 50  # looking takes no more than one part in this many of the time
MANY = 256  # files and folders that are not looked at in the daemon's own thread: thousands hold it up, and a slow disk does sooner

Seen = dict[str, tuple[int, int, int, int] | None]


class StoredFiles:
    """The files of one installed plugin."""

    def __init__(self, folder: Path, digest: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._folder, self._digest, self._clock = folder, digest, clock
        self._seen: Seen | None = None
        self._again = 0.0

    @property
    def due(self) -> bool:
        """Tell whether they may be looked at again; before they were read there is nothing to look for."""
        return self._seen is not None and self._clock() >= self._again

    @property
    def many(self) -> bool:
        """Tell whether a look takes so long that it needs a thread."""
        return self._seen is not None and len(self._seen) > MANY

    def are_as_stored(self) -> bool:
        """Read all of them and compare; what they look like now is what `look_changed` compares with."""
        paths = [os.path.join(at, name) for at, *rows in os.walk(self._folder) for row in rows for name in row]
        seen = _looks([str(self._folder), *paths])
        if not is_as_stored(self._folder, self._digest):
            return False
        self._seen = seen
        return True

    def are_unchanged(self) -> bool:
        """Look at them, and read them where they look otherwise: takes as long as that takes."""
        return not self.look_changed() or self.are_as_stored()

    def look_changed(self) -> bool:
        """Tell whether any of them looks otherwise than when they were read. Before they were, none does."""
        seen = self._seen  # a start that reads them meanwhile, in a thread, puts another in its place
        if seen is None:
            return False
        begun = self._clock()
        changed = _looks(seen) != seen
        now = self._clock()
        self._again = now + SHARE * (now - begun)
        return changed


def _looks(paths: list[str] | Seen) -> Seen:
    return {path: _look(path) for path in paths}


def _look(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
