"""What a package.json of the graph says to a bundler: `exports`, `imports`, `browser`, `module`, `main`, `sideEffects`.

Read as data, never believed: a target leads to a file below the package's own folder or nowhere. Conditions are `import` or
`require`, `module`, `browser` and `default`: what a package has for places without files and sockets is what runs in the jail.
Source: nodejs.org/api/packages.html (PACKAGE_TARGET_RESOLVE), the browser field's specification.
"""

from __future__ import annotations

import functools
import json
import posixpath
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from middleware.errors import shorten
from middleware.nesting import deeper_than
from proxy.host.manifest import ManifestError

CONDITIONS = ("browser", "module", "default")
MAX_PACKAGE = 1024 * 1024  # bytes of one package.json, and
MAX_PATTERNS = 1000  # of its `sideEffects`: it is asked for each file
MODULES = "node_modules/"
MAIN_FIELDS = ("browser", "module", "main")
_FILE = "package.json"


class Package:
    """One package.json; `folder` is where it lies in the graph, empty for the plugin's own.

    Some lie deeper in their package and lead to its other folders; none leads out of the package's top.
    """

    def __init__(self, folder: str, data: bytes) -> None:
        self.folder = folder
        try:
            said = None if len(data) > MAX_PACKAGE or deeper_than(32, data) else json.loads(data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise ManifestError(f"{shorten(posixpath.join(folder, _FILE))} is no package.json")
        self._said: dict[str, Any] = said

    @property
    def name(self) -> str | None:
        name = self._said.get("name")
        return name if isinstance(name, str) else None

    @property
    def has_exports(self) -> bool:
        return self._said.get("exports") is not None

    def mains(self) -> Iterator[str]:
        """Yield what may be its entry, as paths in the graph. Raises ManifestError for one that lies outside of it."""
        for field in MAIN_FIELDS:
            if isinstance(said := self._said.get(field), str) and said:
                yield self._inside(said, field)

    def exported(self, subpath: str, kind: str) -> str | None:
        """Return the file of `.` or `./…` by its exports, None where it exports no such thing."""
        exports = self._said["exports"]
        if not isinstance(exports, dict) or not any(key.startswith(".") for key in exports):
            exports = {".": exports}
        return self._matched(exports, subpath, kind, "exports")

    def imported(self, name: str, kind: str) -> str | None:
        """Return what its own name `#…` stands for: a path in the graph, or a bare name; None where it has no such name."""
        imports = self._said.get("imports")
        return self._matched(imports, name, kind, "imports") if isinstance(imports, dict) else None

    def instead(self, name: str) -> str | bool | None:
        """Return what its `browser` map puts in the place of a name or `./path`: False is nothing at all, None: no other."""
        found = self._browser.get(name)
        if isinstance(found, str) and found.startswith("."):
            return "./" + self._inside(found, "browser").removeprefix(self.folder).lstrip("/")
        return found

    def has_effects(self, path: str) -> bool:
        """Tell whether a module of it must be kept though nothing of it is used; `path` in the graph."""
        said = self._said.get("sideEffects")
        if not isinstance(said, list) or len(said) > MAX_PATTERNS:
            return said is not False
        inside = posixpath.relpath(path, self.folder or ".")
        patterns = [pattern.removeprefix("./") for pattern in said if isinstance(pattern, str)]
        return any(fnmatchcase(inside if "/" in row else posixpath.basename(inside), row) for row in patterns)

    @functools.cached_property
    def _browser(self) -> dict[str, str | bool]:
        said = self._said.get("browser")
        rows = said.items() if isinstance(said, dict) else ()
        return {_plain(key): value for key, value in rows if isinstance(value, str) or value is False}

    def _matched(self, table: Mapping[str, Any], wanted: str, kind: str, where: str) -> str | None:
        if wanted in table and "*" not in wanted:
            return self._target(table[wanted], "", kind, where)
        patterns = [key for key in table if key.count("*") == 1]
        for key in sorted(patterns, key=lambda key: (-key.index("*"), -len(key))):
            start, _, end = key.partition("*")
            if wanted.startswith(start) and wanted.endswith(end) and len(wanted) > len(start) + len(end):
                return self._target(table[key], wanted[len(start) : len(wanted) - len(end)], kind, where)
        return None

    def _target(self, target: Any, star: str, kind: str, where: str) -> str | None:
        if isinstance(target, str):
            whole = target.replace("*", star)
            return self._inside(whole, where) if target.startswith("./") or where == "exports" else whole
        rows = target if isinstance(target, list) else []
        if isinstance(target, dict):
            rows = [row for condition, row in target.items() if condition in (kind, *CONDITIONS)]
        for row in rows:
            if (found := self._target(row, star, kind, where)) is not None:
                return found
        return None

    def _inside(self, said: str, field: str) -> str:
        path = posixpath.normpath(posixpath.join(self.folder or ".", said))
        top = top_of(self.folder)
        below = not top or path == top or path.startswith(f"{top}/")
        if said.startswith("/") or path.startswith(("..", "/")) or "\\" in said or not below:
            raise ManifestError(
                f"{shorten(posixpath.join(self.folder, _FILE))}: {field} {shorten(said)!r} leads out of the package"
            )
        return path


def top_of(folder: str) -> str:
    """Return the top folder of the package that a folder of the graph belongs to, empty for the plugin's own."""
    parts = folder.split("/")
    at = max((at for at, part in enumerate(parts[:-1]) if part == "node_modules"), default=None)
    if at is None:
        return ""
    return "/".join(parts[: at + (3 if parts[at + 1].startswith("@") else 2)])


def _plain(key: str) -> str:
    return "./" + posixpath.normpath(key) if key.startswith(".") else key
