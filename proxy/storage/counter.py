"""The second counter of a store, outside the data directory: it tells a restored backup from the newest state.

A file per store in `$XDG_STATE_HOME/l2proxy/counters`, named after the store's own id, so that it is found wherever the data
directory lies. It says how many commits the store had, and is written after each of them: into the page cache, not to the disk,
for a power cut makes it stale, which is noticed as well, and a sync would double the price of every write (security.md 24).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{32}")
_LINE = re.compile(rb"(\d{1,20})\n")
_WIDTH = 20


def counters_folder() -> Path:
    """Return the folder of this user's counters."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "l2proxy" / "counters"


class Counter:
    """The counter of the store `store_id` (32 hexadecimal digits) in `folder`."""

    def __init__(self, folder: Path, store_id: str) -> None:
        if _ID.fullmatch(store_id) is None:
            raise ValueError("a store's id is 32 hexadecimal digits")
        self._path = folder / store_id
        self._file: int | None = None

    def read(self) -> int | None:
        """Return what was written last; None where there is nothing, or nothing that is a counter."""
        try:
            found = _LINE.fullmatch(self._path.read_bytes())
        except OSError:
            return None
        return None if found is None else int(found[1])

    def write(self, count: int) -> bool:
        """Write the counter. Return False where it cannot be kept: then the next start finds the store ahead of it."""
        try:
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            os.pwrite(self._file, b"%0*d\n" % (_WIDTH, count), 0)
        except OSError:
            return False
        return True

    def forget(self) -> None:
        """Drop it: its store was deleted on purpose."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync it and let go of the file."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fsync(file)
        finally:
            os.close(file)
