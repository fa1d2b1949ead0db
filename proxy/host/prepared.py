"""A package with all it depends on as it was last made ready: shown to the owner, and taken once the owner agrees.

Between `sources` and whoever asks twice for the same: `plugin add` and `plugin update` look, and then take. Kept under the digest of
the package's own files, lock included, so that another lock or another bundler's input is never mistaken for it; the whole is compared
with the digest that was shown all the same. One package at a time, and given out once: it may be large.
"""

from __future__ import annotations

from proxy.host.package import File


class Prepared:
    """Keeps the last one."""

    def __init__(self) -> None:
        self._key = ""
        self._files: list[File] = []

    def keep(self, key: str, files: list[File]) -> None:
        """Keep what came of the package `key`."""
        self._key, self._files = key, files

    def take(self, key: str) -> list[File] | None:
        """Return what came of the package `key`, once; None where it has to be made."""
        if key != self._key:
            return None
        files, self._key, self._files = self._files, "", []
        return files
