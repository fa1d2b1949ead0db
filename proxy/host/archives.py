"""An archive from anywhere, unpacked in memory with bounds on everything (security.md 22).

Stands between what was fetched or given and `package`, which stores it. Nothing is written, executed, compiled or imported
here; sizes are counted while they are unpacked, never believed. Whatever a package does not need is refused with its reason:
links, devices, names that leave the folder or mean another file elsewhere, doubled names, encryption, sparse files.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from middleware.errors import shorten
from proxy.host.manifest import ManifestError
from proxy.host.package import MAX_DEPTH, MAX_FILE, MAX_FILES, MAX_TOTAL, File, check_name

SUFFIXES = (".whl", ".zip", ".tar.gz", ".tgz")
MAX_ARCHIVE = 64 * 1024 * 1024
MAX_RATIO = 200  # how many times its size an archive may grow, from a MiB on
MAX_PATH = 512  # characters
_SMALL = 1024 * 1024
_DIRECTORY_ROW = 46 + MAX_PATH + 256  # bytes of one row of a zip's directory
_END, _ZIP64 = b"PK\x05\x06", b"PK\x06\x07"


def unpack(
    data: bytes,
    name: str,
    skipped: Callable[[str], bool] = lambda _: False,
    most: int = MAX_FILES,
    most_bytes: int = MAX_TOTAL,
) -> list[File]:
    """Return the files of an archive by name, links and the like refused. Raises ManifestError.

    `name` tells its kind by its end. `skipped`: paths that are left out, looked at all the same. `most`: files, folders.
    """
    if len(data) > MAX_ARCHIVE:
        raise ManifestError(f"{shorten(name)} has {len(data)} bytes; the limit is {MAX_ARCHIVE}")
    try:
        bound = min(most_bytes, max(_SMALL, MAX_RATIO * len(data)))
        rows = _tar(data, most, bound) if name.endswith((".tar.gz", ".tgz")) else _zip(data, most)
        return _checked(rows, most, bound, skipped)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RecursionError,  # of tarfile: a header about a header about a header
    ) as error:
        if isinstance(error, ManifestError):
            raise ManifestError(f"{shorten(name)}: {error}") from None
        raise ManifestError(f"{shorten(name)} is damaged or no archive of its kind: {shorten(str(error))}") from None


def without_top(files: list[File]) -> list[File]:
    """Return the files without the one folder that holds them all (`package/` of npm, `NAME-VERSION/` of others)."""
    tops = {file.name.partition("/")[0] for file in files}
    if len(tops) != 1 or any("/" not in file.name for file in files):
        return files
    return [File(file.name.partition("/")[2], file.data) for file in files]


def _checked(
    rows: Iterator[tuple[str, bool, IO[bytes] | None]], most: int, bound: int, skipped: Callable[[str], bool]
) -> list[File]:
    """Take rows of (name, is a folder, what to read), count and compare them."""
    files: dict[str, File] = {}
    seen: dict[str, str] = {}
    folders: set[str] = set()
    total = count = 0
    for raw, is_folder, source in rows:
        count += 1
        if count > most:
            raise ManifestError(f"it holds more than {most} files and folders")
        if is_folder and raw.rstrip("/") == ".":
            continue  # `tar -czf x.tar.gz .` names the folder it was called in
        name = _name(raw)
        if is_folder:
            continue
        if (other := seen.get(name.lower())) is not None:
            same = "is in it twice" if other == name else f"and {shorten(other)!r} are one file on some systems"
            raise ManifestError(f"{shorten(name)!r} {same}")
        seen[name.lower()] = name
        folders |= {name[:cut].lower() for cut, char in enumerate(name) if char == "/"}
        data = b"" if source is None else _read(source, min(MAX_FILE, bound - total), name)
        total += len(data)
        if skipped(name):
            continue
        check_name(name)
        files[name] = File(name, data)
    if doubled := folders & seen.keys():
        raise ManifestError(f"{shorten(min(doubled))!r} is a file and a folder in it")
    return sorted(files.values(), key=lambda file: file.name)


def _name(raw: str) -> str:
    """Return a path as a package has it. Raises ManifestError for one that means something outside or something else."""
    name = raw.removesuffix("/").removeprefix("./")
    if len(name) > MAX_PATH or name.count("/") > MAX_DEPTH:
        raise ManifestError(f"{shorten(name)!r} is longer than {MAX_PATH} characters or {MAX_DEPTH} folders deep")
    if name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":":
        raise ManifestError(f"{shorten(name)!r} leads out of the package")
    if not name.isascii() or not name.isprintable():
        raise ManifestError(f"{shorten(name)!r} holds characters that not every system reads alike")
    if any(part in ("", ".") or part.endswith((".", " ")) for part in name.split("/")):
        raise ManifestError(f"{shorten(name)!r} is not a file name a package may have")
    return name


def _read(source: IO[bytes], most: int, name: str) -> bytes:
    """Return all of a file, stopping as soon as it is more than it may be."""
    with source:
        data = source.read(most + 1)
    if len(data) > most:
        raise ManifestError(
            f"it unpacks to too much at {shorten(name)!r}: a file may have {MAX_FILE} bytes, all together fewer than"
            f" {MAX_TOTAL} and than {MAX_RATIO} times the archive's own size"
        )
    return data


def _zip(data: bytes, most: int) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    _check_directory(data, most)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for row in archive.infolist():
            if "\0" in row.orig_filename:
                raise ManifestError(f"{shorten(row.filename)!r} hides more of its name behind a NUL")
            if row.flag_bits & 0x1:
                raise ManifestError(f"{shorten(row.filename)!r} is encrypted")
            kind = stat.S_IFMT(row.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ManifestError(
                    f"{shorten(row.filename)!r} is a link or a device; a package holds files and folders only"
                )
            if row.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ManifestError(f"{shorten(row.filename)!r} is neither stored nor deflated")
            if row.is_dir() != (kind == stat.S_IFDIR) and kind != 0:
                raise ManifestError(f"{shorten(row.filename)!r} says that it is a file and a folder")
            yield row.filename, row.is_dir(), None if row.is_dir() else archive.open(row)


def _check_directory(data: bytes, most: int) -> None:
    """Refuse a zip whose directory is not exactly at its end: such are read differently by different programs."""
    end = len(data) - 22
    if end < 0 or data[end : end + 4] != _END:
        raise ManifestError("it does not end with a zip directory (a comment or other data behind it is refused)")
    if data[max(end - 20, 0) : end][:4] == _ZIP64:
        raise ManifestError("it is a zip64, which nothing of this size needs")
    size, start = (int.from_bytes(data[end + at : end + at + 4], "little") for at in (12, 16))
    if start + size != end:
        raise ManifestError("something stands before or inside its zip directory")
    if size > most * _DIRECTORY_ROW:
        raise ManifestError(f"it holds more than {most} files and folders")


def _tar(data: bytes, most: int, bound: int) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    bounded = _Bounded(data, bound + most * 2048)
    # A stream, never a seek: what points backwards or beyond the end cannot be followed.
    with tarfile.open(fileobj=bounded, mode="r|", errorlevel=2) as archive:
        for row in archive:
            if row.issparse() or row.type == tarfile.GNUTYPE_SPARSE or "GNU.sparse.name" in row.pax_headers:
                raise ManifestError(f"{shorten(row.name)!r} is a sparse file")
            if not row.isreg() and not row.isdir():
                raise ManifestError(
                    f"{shorten(row.name)!r} is a link or a device; a package holds files and folders only"
                )
            yield row.name, row.isdir(), None if row.isdir() else archive.extractfile(row)
    bounded.finish()


class _Bounded(io.RawIOBase):
    """gzip's bytes as they unpack, an error as soon as there are more than a package with its headers can have."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = memoryview(data)
        self._unpacker = zlib.decompressobj(wbits=31)
        self._at = self._given = 0
        self._most = most

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; fewer at the end."""
        if size < 0:
            raise ValueError("a whole archive is never unpacked at once")
        parts: list[bytes] = []
        while size > 0 and not self._unpacker.eof:
            if self._unpacker.unconsumed_tail:
                piece: bytes = self._unpacker.unconsumed_tail
            else:
                piece = bytes(self._data[self._at : self._at + 65536])
                self._at += len(piece)
            part = self._unpacker.decompress(piece, size)
            if not part and not piece:
                raise EOFError("it ends in the middle")
            parts.append(part)
            size -= len(part)
            self._given += len(part)
            if self._given > self._most:
                raise ManifestError(
                    f"it unpacks to too much: {MAX_RATIO} times its own size is the limit, and {MAX_TOTAL} bytes"
                )
        return b"".join(parts)

    def finish(self) -> None:
        """Refuse what stands behind the end of the tar: other programs may read it."""
        while part := self.read(65536):
            if part.strip(b"\0"):
                raise ManifestError("something stands behind the end of the archive")
        if self._unpacker.unused_data or self._at < len(self._data):
            raise ManifestError("something stands behind the end of the archive")
