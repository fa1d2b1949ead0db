"""Repairing a damaged LevelDB: in a process of its own, and never without a copy of what there was (security.md 23).

Called where a plugin's store cannot be opened. LevelDB's repair keeps what can still be read and may end the process that
runs it, so a child does it. Whether something acknowledged was lost is for the owner of the store to find out: it has an
integrity record and a counter. It must never repair what it has not copied.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from proxy.storage.leveldb import StorageError

SECONDS = 600.0
_CHILD = "import sys, plyvel; plyvel.repair_db(sys.argv[1])"


def repair(path: Path) -> Path:
    """Repair the database at `path`; return the folder of the copy of what it was. Raise `StorageError`; blocks."""
    kept = _free(path)
    try:
        shutil.copytree(path, kept)
        child = subprocess.run(  # noqa: S603 - ours, with a path of ours
            [sys.executable, "-I", "-c", _CHILD, str(path)], capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, shutil.Error, subprocess.TimeoutExpired) as error:
        raise StorageError(f"the database {path} is damaged and could not be repaired: {error}") from error
    if child.returncode != 0:
        raise StorageError(
            f"the database {path} is damaged beyond repair; it was left as it is, and a copy is in {kept}: put back a"
            " copy from before"
        )
    return kept


def _free(path: Path) -> Path:
    number, free = 1, path.with_name(f"{path.name}.damaged")
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.damaged.{number}")
    return free
