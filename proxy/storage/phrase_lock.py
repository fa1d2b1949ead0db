"""One daemon a phrase: a lock in the user's runtime directory, named after the phrase's fingerprint (hardening.md 24).

Two data directories with one phrase would sign with the same keys and know nothing of each other: nonces taken twice, channel states
signed twice. The fingerprint is a digest of the phrase's first address: it is known while locked, and tells nobody the address. Another
machine is beyond this; there a plugin sees hub or L1 ahead of it (security.md 24).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path


class PhraseInUse(Exception):
    """Another data directory with this phrase is served right now; the message names it."""


def lock_folder() -> Path:
    """Return the folder of this user's locks."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime) / "l2proxy-phrases"
    return Path(tempfile.gettempdir()) / f"l2proxy-{os.getuid()}-phrases"


class PhraseLock:
    """The lock of one daemon over `data`; `folder`: where the locks lie."""

    def __init__(self, data: Path, folder: Path | None = None) -> None:
        self._data = data
        self._folder = lock_folder() if folder is None else folder
        self._held: int | None = None

    def take(self, first_address: str) -> None:
        """Take the lock of the phrase whose first account this is, or keep it. Raise `PhraseInUse`, `OSError`."""
        if self._held is not None:
            return
        name = hashlib.sha256(b"l2proxy phrase " + first_address.lower().encode()).hexdigest()[:32]
        self._make_folder()
        descriptor = os.open(
            self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
                holder = file.read(4096).decode("utf-8", "replace")
            raise PhraseInUse(
                f"the accounts of {self._data} are those of {holder or 'another data directory'}, which a daemon serves right"
                " now: one phrase, one daemon; end the other one, or use another phrase"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, os.fsencode(self._data)[:4096], 0)
        self._held = descriptor

    def release(self) -> None:
        """Give it back; the file stays, for to remove it would race with who opens it."""
        if self._held is not None:
            held, self._held = self._held, None
            os.close(held)

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700, parents=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is not a folder of this user")
