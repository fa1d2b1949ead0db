"""A plugin's files: walked, checked, digested and copied, without running or importing one byte of them (security.md 22).

The digest is over every name and every byte in sorted order; the copy lies under it and is compared with it at each start.
Links, devices, odd names, too many or too large files refuse the package.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from middleware.errors import shorten
from proxy.host.manifest import ManifestError
from proxy.storage.files import sync_directory

MAX_FILES = 4096
MAX_FILE = 32 * 1024 * 1024
MAX_TOTAL = 64 * 1024 * 1024
MAX_DEPTH = 16
SKIPPED = frozenset(
    {".git", ".hg", "__pycache__", "node_modules", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)

_NAME = re.compile(r"[\w.@+ -]{1,128}", re.ASCII)
_STARTS_ON_ITS_OWN = ("sitecustomize.py", "usercustomize.py")


@dataclass(frozen=True)
class File:
    """One file of a package: its path inside with `/`, and its bytes."""

    name: str
    data: bytes


def read_package(folder: Path, skipped: frozenset[str] = SKIPPED) -> list[File]:
    """Return the files of a directory, sorted by name. Raises ManifestError for what no package may hold.

    `skipped`: names that an author's folder may hold beside the package; what was stored holds none of them.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a directory")
    files: list[File] = []
    total = 0
    for path in _walk(folder, 0, skipped):
        name = path.relative_to(folder).as_posix()
        check_name(name)
        data = _read(path, name)
        total += len(data)
        files.append(File(name, data))
        if len(files) > MAX_FILES or total > MAX_TOTAL:
            raise ManifestError(
                f"{folder} holds more than {MAX_FILES} files or {MAX_TOTAL} bytes; is it the plugin's own?"
            )
    return sorted(files, key=lambda file: file.name)


def digest_of_package(files: list[File]) -> str:
    """Return `sha256:` and 64 hex digits over all names and bytes; `files` sorted by name."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.name.encode()).digest())
        whole.update(hashlib.sha256(file.data).digest())
    return "sha256:" + whole.hexdigest()


def store_package(files: list[File], code: Path, digest: str) -> Path:
    """Put the files under `code/<digest>`, whole or not at all, and return that folder."""
    target = code / digest.removeprefix("sha256:")
    code.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.exists():
        if is_as_stored(target, digest):
            return target
        shutil.rmtree(target)
    draft = code / f".{target.name}.{os.getpid()}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    for file in files:
        path = draft / file.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("xb") as opened:
            opened.write(file.data)
            opened.flush()
            os.fsync(opened.fileno())
        path.chmod(0o400)
    draft.rename(target)
    sync_directory(code)
    return target


def is_as_stored(folder: Path, digest: str) -> bool:
    """Tell whether a stored package holds exactly the files that were digested, nothing beside them."""
    try:
        return digest_of_package(read_package(folder, frozenset())) == digest
    except (ManifestError, OSError):
        return False


def _walk(folder: Path, depth: int, skipped: frozenset[str]) -> Iterator[Path]:
    if depth > MAX_DEPTH:
        raise ManifestError(f"{folder} lies more than {MAX_DEPTH} folders deep")
    with os.scandir(folder) as rows:
        for row in sorted(rows, key=lambda row: row.name):
            if row.name in skipped:
                continue
            if row.is_symlink():
                raise ManifestError(f"{row.path} is a link; a package holds files and folders only")
            if row.is_dir():
                yield from _walk(Path(row.path), depth + 1, skipped)
            elif row.is_file():
                yield Path(row.path)
            else:
                raise ManifestError(f"{row.path} is neither a file nor a folder")


def _read(path: Path, name: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ManifestError(f"{shorten(name)} is no ordinary file")
        if found.st_size > MAX_FILE:
            raise ManifestError(f"{shorten(name)} has {found.st_size} bytes; the limit is {MAX_FILE}")
        return file.read(MAX_FILE + 1)


def check_name(name: str) -> None:
    """Raise ManifestError for a path that no package may hold."""
    parts = name.split("/")
    if any(_NAME.fullmatch(part) is None or part in (".", "..") for part in parts):
        raise ManifestError(f"{shorten(name)!r} is not a file name a package may have")
    last = parts[-1].lower()
    if last in _STARTS_ON_ITS_OWN or last.endswith((".pth", ".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib")):
        raise ManifestError(f"{shorten(name)}: a package holds no compiled code and nothing that starts on its own")
