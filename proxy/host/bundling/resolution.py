"""Which file of the graph an import means: node's algorithm over files in memory, with nothing outside of them.

Stands where a bundler would ask the disk. What names a place outside (an absolute path, `..` above the root, a URL) is refused
by name; what is not there is left to esbuild, which allows it only where the code catches it. A built-in of node wins over a
dependency of its name, as in node. Source: nodejs.org/api/esm.html ("Resolution Algorithm"), api/modules.html.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from middleware.errors import shorten
from proxy.host.bundling.built_ins import ALLOWED, DENIED, built_in
from proxy.host.bundling.packages import Package, top_of
from proxy.host.manifest import ManifestError

EXTENSIONS = (".ts", ".js", ".mjs", ".cjs", ".json")
MAX_SPECIFIER = 512
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MAX_HOPS = 8  # of `browser` and `imports`, which may lead to each other


@dataclass(frozen=True)
class Module:
    """A file of the graph; `has_effects`: it is kept though nothing of it is used."""

    path: str
    has_effects: bool = True


@dataclass(frozen=True)
class BuiltIn:
    """An allowed module of node, without `node:`."""

    name: str


@dataclass(frozen=True)
class Nothing:
    """What a package's `browser` map leaves out."""

    path: str


Found = Module | BuiltIn | Nothing


class Graph:
    """All files by their paths: the plugin's own, and `node_modules/…`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self._folders = {name[:at] for name in files for at, char in enumerate(name) if char == "/"}
        self._packages: dict[str, Package | None] = {}

    def resolve(self, specifier: str, importer: str, kind: str, hops: int = 0) -> Found | None:
        """Return what an import of `importer` means, None for what is not there. Raises ManifestError for a place outside.

        `kind`: "import" or "require".
        """
        if hops > _MAX_HOPS or len(specifier) > MAX_SPECIFIER:
            raise ManifestError(f"{shorten(importer)} imports {shorten(specifier)!r}, which leads nowhere")
        own = self._package_of(importer)
        if (changed := self._instead(own, specifier, importer, kind, hops)) is not None:
            return changed
        if (name := built_in(specifier)) is not None:
            return _built_in(name, importer)
        if specifier.startswith("/") or "\\" in specifier or "\0" in specifier or _SCHEME.match(specifier):
            raise _outside(specifier, importer)
        if specifier.startswith("#"):
            target = None if own is None else own.imported(specifier, kind)
            if target is None or target in self.files:
                return self._module(target)
            return self.resolve(target, importer, kind, hops + 1)
        if specifier in (".", "..") or specifier.startswith(("./", "../")):
            return self._relative(specifier, importer, kind, hops)
        return self._bare(specifier, importer, kind, hops)

    def _relative(self, specifier: str, importer: str, kind: str, hops: int) -> Found | None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(importer), specifier))
        if path.startswith("../") or path == "..":
            raise _outside(specifier, importer)
        return self._known(self._file(path, importer, folder_first=specifier.endswith("/")), kind, hops)

    def _bare(self, specifier: str, importer: str, kind: str, hops: int) -> Found | None:
        parts = specifier.split("/")
        cut = 2 if specifier.startswith("@") else 1
        name, inside = "/".join(parts[:cut]), "/".join(parts[cut:])
        for folder in self._places(name, importer):
            package = self._package(folder)
            if package is not None and package.has_exports:
                path = package.exported(f"./{inside}" if inside else ".", kind)
                return self._known(path if path in self.files else None, kind, hops)
            path = self._entry(folder) if not inside else self._file(posixpath.join(folder, inside), importer)
            if path is not None and not path.startswith(f"{folder}/"):
                raise _outside(specifier, importer)
            return self._known(path, kind, hops)
        return None

    def _places(self, name: str, importer: str) -> Iterator[str]:
        """Yield the folders a package of this name may lie in, the nearest first; its own folder for a package itself."""
        own = self._package_of(importer)
        if own is not None and own.folder and own.name == name and own.has_exports:
            yield own.folder
        folder = posixpath.dirname(importer)
        while True:
            place = posixpath.join(folder, "node_modules", name)
            plain = posixpath.basename(folder) != "node_modules" and posixpath.normpath(place) == place
            if plain and place in self._folders:
                yield place
            if not folder:
                return
            folder = posixpath.dirname(folder)

    def _known(self, path: str | None, kind: str, hops: int) -> Found | None:
        """Return a file as its own package wants it."""
        package = None if path is None else self._package_of(path)
        if path is None or package is None:
            return self._module(path)
        inside = "./" + posixpath.normpath(path[len(package.folder) :].lstrip("/"))  # relpath() would ask where we run
        for name in (inside, posixpath.splitext(inside)[0]):
            if package.instead(name) == inside:
                break  # `"./crypto": "./crypto.js"` is this very file
            if (changed := self._instead(package, name, path, kind, hops)) is not None:
                return changed
        return self._module(path)

    def _instead(self, package: Package | None, name: str, importer: str, kind: str, hops: int) -> Found | None:
        other = None if package is None else package.instead(name)
        if package is None or other is None or other == name:
            return None
        if other is False:
            return Nothing(importer if name.startswith(".") else name)
        inside = posixpath.join(package.folder, "package.json")
        return self.resolve(str(other), inside, kind, hops + 1)

    def _file(self, path: str, importer: str = "", *, folder_first: bool = False) -> str | None:
        """Return the file a path without its end means: itself, with an end, or the folder's entry."""
        if not folder_first:
            if path in self.files:
                return path
            if importer.endswith(".ts") and path.endswith(".js") and f"{path[:-3]}.ts" in self.files:
                return f"{path[:-3]}.ts"
            for end in EXTENSIONS:
                if path + end in self.files:
                    return path + end
        return self._entry("" if path == "." else path) if path == "." or path in self._folders else None

    def _entry(self, folder: str) -> str | None:
        package = self._package(folder)
        for main in package.mains() if package is not None else ():
            for path in (main, *(main + end for end in EXTENSIONS), *self._indexes(main)):
                if path in self.files:
                    return path
        return next((path for path in self._indexes(folder) if path in self.files), None)

    def _indexes(self, folder: str) -> Iterator[str]:
        return (posixpath.normpath(posixpath.join(folder, f"index{end}")) for end in EXTENSIONS)

    def _module(self, path: str | None) -> Module | None:
        if path is None:
            return None
        said = next((found for folder in _upwards(path) if (found := self._package(folder)) is not None), None)
        return Module(path, said is None or said.has_effects(path))

    def _package_of(self, path: str) -> Package | None:
        """Return the package.json a file's package speaks by: the nearest that has a name, or the one at its top."""
        top = top_of(posixpath.dirname(path))
        for folder in _upwards(path):
            found = self._package(folder)
            if found is not None and (found.name is not None or folder == top):
                return found
        return None

    def _package(self, folder: str) -> Package | None:
        if folder not in self._packages:
            data = self.files.get(posixpath.join(folder, "package.json"))
            self._packages[folder] = None if data is None else Package(folder, data)
        return self._packages[folder]


def _upwards(path: str) -> Iterator[str]:
    """Yield the folders above a file, up to the top of its package."""
    folder = posixpath.dirname(path)
    top = top_of(folder)
    while folder != top:
        yield folder
        folder = posixpath.dirname(folder)
    yield top


def _built_in(name: str, importer: str) -> BuiltIn | None:
    if name in ALLOWED:
        return BuiltIn(name)
    if name in DENIED:
        return None
    raise ManifestError(f"{shorten(importer)} imports node:{shorten(name)}, which is no module of node")


def _outside(specifier: str, importer: str) -> ManifestError:
    return ManifestError(
        f"{shorten(importer)} imports {shorten(specifier)!r}, which is outside of the package and its lock"
    )
