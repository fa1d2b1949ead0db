"""The pinned bundler: one static program of npm, fetched by digest as any package is, kept in the data directory's cache.

The digests stand here, so what the index says of it is never asked. It is compared with them before every use, as the very
descriptor that is executed. Two architectures, the same as the sandbox knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Protocol

from proxy.host.archives import unpack
from proxy.host.locks import Pinned
from proxy.host.manifest import ManifestError
from proxy.host.sandbox.report import NO_SANDBOX
from proxy.host.sandbox.syscalls import architecture

VERSION = "0.28.2"
_PINS = {  # architecture: npm package, integrity of its tarball, sha256 of the program in it
    "x86_64": (
        "@esbuild/linux-x64",
        "sha512-4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
        "e1698a3d5c6c0798fee4fd3b5cc816651f460c63d390a7a26ea4beb0b1884100",
    ),
    "aarch64": (
        "@esbuild/linux-arm64",
        "sha512-pW4AC0P3it8c7do9MVM4p51FzHzdM/TZrerurgRcHJ2WTa1VQ1CIq18xncfpBJw4ojkiZZrKW2yIBWBP92j6Ug==",
        "90bd269553d258e80b19e3ccab4f98f0831f87442a2f056510ce24fd1b425fc2",
    ),
}
_INSIDE = "package/bin/esbuild"


class Tarballs(Protocol):
    """The one index of npm packages."""

    async def tarball(self, wanted: Pinned) -> bytes: ...


class Program:
    """Finds the bundler in `kept`, or fetches it there; `kept` None: fetched each time."""

    def __init__(self, tarballs: Tarballs, kept: Path | None) -> None:
        self._tarballs, self._kept = tarballs, kept

    async def open(self) -> int:
        """Return a descriptor of the program, to be closed by the caller. Raises ManifestError where it cannot be had."""
        machine = architecture()
        if machine is None:
            raise ManifestError(f"no npm graph can be bundled here: {NO_SANDBOX}")
        package, integrity, sha256 = _PINS[machine.name]
        place = self._place(machine.name)
        if place is not None and (found := await asyncio.to_thread(_opened, place, sha256)) is not None:
            return found
        try:
            data = await self._tarballs.tarball(Pinned(package, VERSION, frozenset({integrity}), "bundler"))
            return await asyncio.to_thread(_put, place, _program(data, sha256), sha256)
        except ManifestError as error:
            raise ManifestError(
                f"bundling needs esbuild {VERSION}, which cannot be had: {error}; "
                "a plugin that `l2proxy plugin pack` has bundled needs no bundler"
            ) from None

    def _place(self, machine: str) -> Path | None:
        return None if self._kept is None else self._kept / f"esbuild-{VERSION}-{machine}"


def _program(tarball: bytes, sha256: str) -> bytes:
    files = unpack(tarball, "esbuild.tgz", lambda name: name != _INSIDE)
    for file in files:
        if hashlib.sha256(file.data).hexdigest() == sha256:
            return file.data
    raise ManifestError("its package does not hold the program that is pinned")


def _put(place: Path | None, data: bytes, sha256: str) -> int:
    """Write the program and return it open for reading alone, for what is open for writing is not executed."""
    if place is None:
        with tempfile.TemporaryDirectory(prefix="l2proxy-") as folder:
            return _put(Path(folder, "esbuild"), data, sha256)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}.draft")
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o555)
        draft.rename(place)
    except OSError as error:
        raise ManifestError(f"it cannot be kept: {error.strerror}") from None
    found = _opened(place, sha256)
    if found is None:
        raise ManifestError("what was kept is not what was written")
    return found


def _opened(place: Path, sha256: str) -> int | None:
    """Return the kept program, None where there is none or another one."""
    try:
        found = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(os.dup(found), "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return found
    os.close(found)
    return None
