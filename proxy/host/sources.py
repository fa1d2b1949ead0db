"""Where a plugin comes from, and its files with all it depends on: directory, archive, `pypi:`, `npm:` (plugin.md).

Stands between the owner's word for a source and `installer`, which checks what came. The result is one flat set of files: the
plugin's own and, beside them, those of the pure wheels its lock names; of an npm plugin with a lock its own, with the entry
bundled. A file has one owner: two packages that bring the same name with other bytes are refused. Nothing is run or imported.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from middleware.errors import shorten
from proxy.host.archives import MAX_ARCHIVE, SUFFIXES, unpack, without_top
from proxy.host.bundling.bundle import NATIVE, bundled
from proxy.host.indexes import Indexes
from proxy.host.locks import Pinned, check_npm_name, normal_name, read_requirements, read_shrinkwrap
from proxy.host.manifest import MANIFEST, Manifest, ManifestError, parse_manifest
from proxy.host.package import MAX_FILES, MAX_TOTAL, File, check_name, digest_of_package, read_package

MAX_GRAPH_FILES, MAX_GRAPH = 32_768, 256 * 1024 * 1024  # of an npm graph before it is bundled

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PYPI = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})==([A-Za-z0-9][A-Za-z0-9.+_-]{0,63})", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A source as the owner named it. `sha256`: of the archive, wheel or tarball, hex; empty: not given.

    `binding`: what the plugin's id stays bound to: the directory, the folder of archives, the project on its index.
    """

    kind: Literal["directory", "archive", "pypi", "npm"]
    name: str
    version: str = ""
    sha256: str = ""

    @property
    def text(self) -> str:
        """The source in one word, as it is shown and can be given again."""
        shown = {"pypi": f"pypi:{self.name}=={self.version}", "npm": f"npm:{self.name}@{self.version}"}.get(
            self.kind, self.name
        )
        return f"{shown}#sha256={self.sha256}" if self.sha256 else shown

    @property
    def binding(self) -> str:
        """What of it another version shares."""
        if self.kind == "archive":
            return f"archives in {Path(self.name).parent}"
        return self.name if self.kind == "directory" else f"{self.kind}:{self.name}"


def parse_source(text: str) -> Source:
    """Return the source that a text names. Raises ManifestError."""
    body, _, digest = text.partition("#sha256=")
    if digest and _SHA256.fullmatch(digest) is None:
        raise ManifestError(f"{shorten(digest)!r} is not the 64 hex digits of a sha256")
    if body.startswith(("pypi:", "npm:")):
        return _of_index(body, digest)
    return _of_path(body, digest)


def _of_index(body: str, digest: str) -> Source:
    if body.startswith("pypi:"):
        match = _PYPI.fullmatch(body.removeprefix("pypi:"))
        if match is None:
            raise ManifestError(f"{shorten(body)}: name an exact version, as in pypi:paychan==1.2.0")
        return Source("pypi", normal_name(match[1]), match[2], digest)
    name, _, version = body.removeprefix("npm:").rpartition("@")
    if not name or not version:
        raise ManifestError(f"{shorten(body)}: name an exact version, as in npm:stealth@1.2.0")
    check_npm_name(name, version)
    return Source("npm", name, version, digest)


def _of_path(body: str, digest: str) -> Source:
    path = Path(body)
    if not path.is_absolute():
        raise ManifestError(f"{shorten(body)} is not an absolute path")
    if body.endswith(SUFFIXES) and not path.is_dir():
        if not digest:
            raise ManifestError(f"{shorten(path.name)}: say its sha256 as well, {shorten(path.name)}#sha256=…")
        return Source("archive", str(path.resolve()), sha256=digest)
    if path.is_file():
        raise ManifestError(f"{shorten(path.name)}: an archive's name ends in {', '.join(SUFFIXES)}")
    if digest:
        raise ManifestError("a directory has no sha256 of its own; leave #sha256=… out")
    if not path.is_dir():
        raise ManifestError(f"there is no directory {shorten(body)}")
    return Source("directory", str(path.resolve()))


async def read_source(source: Source, indexes: Indexes) -> tuple[Manifest, list[File]]:
    """Return the manifest and every file of a source with its dependencies, sorted by name. Raises ManifestError."""
    try:
        if source.kind == "directory":
            files = await asyncio.to_thread(read_package, Path(source.name))
        else:
            name, data = await _fetch(source, indexes)
            files = await asyncio.to_thread(_unpacked, name, data)
    except OSError as error:
        raise ManifestError(f"{source.name} cannot be read: {error.strerror}") from None
    row = next((file for file in files if file.name == MANIFEST), None)
    if row is None:
        raise ManifestError(f"there is no {MANIFEST} in {shorten(source.text, 200)}")
    manifest = parse_manifest(row.data)
    return manifest, await with_dependencies(manifest, files, indexes)


async def _fetch(source: Source, indexes: Indexes) -> tuple[str, bytes]:
    digests = frozenset({source.sha256} - {""})
    if source.kind == "pypi":
        return await indexes.wheel(Pinned(source.name, source.version, digests))
    if source.kind == "npm":
        return "package.tgz", await indexes.tarball(Pinned(source.name, source.version, digests))
    data = await asyncio.to_thread(_read_archive, Path(source.name))
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ManifestError(f"{shorten(source.name)} has sha256 {found}, which is not the one that was given")
    return source.name, data


def _read_archive(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_ARCHIVE + 1)
    if len(data) > MAX_ARCHIVE:
        raise ManifestError(f"{shorten(path.name)} has more than {MAX_ARCHIVE} bytes")
    return data


def _unpacked(name: str, data: bytes) -> list[File]:
    if not name.endswith(".whl"):
        return without_top(unpack(data, name))
    return _from_wheel(_wheel(name, data))


def _wheel(name: str, data: bytes) -> list[File]:
    """Return a pure wheel's modules: no scripts, no data for other places. Raises ManifestError."""
    files = unpack(data, name, lambda path: path.endswith((".dist-info/RECORD", ".dist-info/INSTALLER")))
    for file in files:
        top = file.name.partition("/")[0]
        if top.endswith(".data"):
            raise ManifestError(f"{shorten(file.name)}: a wheel that puts files elsewhere is no pure one")
        if top.endswith(".dist-info") and file.name.endswith("/WHEEL") and b"Root-Is-Purelib: true" not in file.data:
            raise ManifestError(f"{shorten(Path(name).name)} is no pure wheel")
    return files


def _from_wheel(files: list[File]) -> list[File]:
    """Put the plugin's manifest and what it names to the root, where a directory has them."""
    found = [file.name for file in files if file.name.count("/") == 1 and file.name.endswith(f"/{MANIFEST}")]
    if len(found) != 1:
        raise ManifestError(f"a wheel holds one <import name>/{MANIFEST}; in this one there are {len(found)}")
    folder = found[0].removesuffix(MANIFEST)
    inside = {file.name: file for file in files}
    manifest = parse_manifest(inside[found[0]].data)
    named = {MANIFEST, *(entry.abi for entry in manifest.gateway), *({manifest.dependencies} - {None})}
    lifted = [File(str(name), inside[f"{folder}{name}"].data) for name in named if f"{folder}{name}" in inside]
    return _joined([files, lifted])


async def with_dependencies(manifest: Manifest, files: list[File], indexes: Indexes) -> list[File]:
    """Return the files with what their lock names: wheels beside them, an npm graph bundled. Raises ManifestError."""
    if manifest.dependencies is None:
        return files
    lock = next((file for file in files if file.name == manifest.dependencies), None)
    if lock is None:
        raise ManifestError(f"dependencies: there is no {shorten(manifest.dependencies)} in the package")
    key = digest_of_package(files)
    whole = indexes.prepared.take(key)
    if whole is None:
        whole = await _fetched(manifest, files, lock, indexes)
        indexes.prepared.keep(key, whole)
    return whole


async def _fetched(manifest: Manifest, files: list[File], lock: File, indexes: Indexes) -> list[File]:
    if manifest.runtime == "python":
        wanted = read_requirements(lock.data)
        wheels = await indexes.wheels(wanted)
        return await asyncio.to_thread(lambda: _joined([files, *(_wheel(name, data) for name, data in wheels)]))
    graph = read_shrinkwrap(lock.data)
    tarballs = await indexes.tarballs(graph)
    whole = await asyncio.to_thread(lambda: _graph(files, graph, tarballs))
    return await bundled(manifest, whole, graph, indexes.bundler)


def _graph(files: list[File], graph: list[Pinned], tarballs: list[bytes]) -> list[File]:
    parts = [_placed(pinned, data) for pinned, data in zip(graph, tarballs, strict=True)]
    return _joined([files, *parts], MAX_GRAPH_FILES, MAX_GRAPH)


def _unbundled(path: str) -> bool:
    """Tell whether a file of an npm package is of no use to a bundle: no module, or a name no package of ours may have."""
    try:
        check_name(path)
    except ManifestError:
        return not path.endswith(NATIVE)
    return not path.endswith((".js", ".mjs", ".cjs", ".json", *NATIVE))


def _placed(pinned: Pinned, data: bytes) -> list[File]:
    """Return an npm package's files at its place in the graph. Raises ManifestError for what no bundle can hold."""
    files = without_top(unpack(data, f"{pinned.name}.tgz", _unbundled, MAX_GRAPH_FILES, MAX_GRAPH))
    return [File(f"{pinned.place}/{file.name}", file.data) for file in files]


def _joined(parts: list[list[File]], most: int = MAX_FILES, most_bytes: int = MAX_TOTAL) -> list[File]:
    whole: dict[str, File] = {}
    for file in (file for part in parts for file in part):
        if whole.setdefault(file.name, file).data != file.data:
            raise ManifestError(f"{shorten(file.name)!r} is brought by two packages with different content")
    if len(whole) > most or sum(len(file.data) for file in whole.values()) > most_bytes:
        raise ManifestError(f"with all it depends on it holds more than {most} files or {most_bytes} bytes")
    return sorted(whole.values(), key=lambda file: file.name)
