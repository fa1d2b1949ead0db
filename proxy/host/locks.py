"""A plugin's own lock, read as data: which packages by which digest (plugin.md, "Install, update, remove").

`requirements.lock` is pip's format with hashes, `npm-shrinkwrap.json` npm's with integrities. Only exact versions with a digest
pass; nothing is resolved, and no option of a lock may name another index.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from middleware.errors import shorten
from middleware.nesting import deeper_than
from proxy.host.manifest import ManifestError

MOST = 512  # packages in one lock
SUPPLIED = "l2proxy-sdk"  # by the host, never fetched

_PINNED = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})==([A-Za-z0-9][A-Za-z0-9.+_-]{0,63})((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_NPM_NAME = re.compile(r"(@[a-z0-9~_-][a-z0-9._~-]{0,99}/)?[a-z0-9~_-][a-z0-9._~-]{0,99}")
_NPM_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,63}")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


@dataclass(frozen=True)
class Pinned:
    """One package of a lock. `digests`: sha256 in hex (PyPI, any of them), or one `sha512-…` integrity (npm).

    `place`: where an npm package lies in the graph, `node_modules/…`; empty for PyPI.
    """

    name: str
    version: str
    digests: frozenset[str]
    place: str = ""


def read_requirements(data: bytes) -> list[Pinned]:
    """Return what a requirements lock pins, without the SDK, which the host supplies. Raises ManifestError."""
    found: dict[str, Pinned] = {}
    for line in data.decode("utf-8", "replace").replace("\\\n", " ").replace("\\\r\n", " ").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        match = _PINNED.fullmatch(text)
        if match is None:
            hint = (
                "a marker is not read: lock for this one platform"
                if ";" in text
                else "name==version --hash=sha256:… is"
            )
            raise ManifestError(f"dependencies: {shorten(text)!r} is no exact version with its hashes; {hint}")
        name = normal_name(match[1])
        if name in found:
            raise ManifestError(f"dependencies: {name} is pinned twice")
        found[name] = Pinned(name, match[2], frozenset(re.findall(r"sha256:([0-9a-f]{64})", match[3])))
    found.pop(SUPPLIED, None)
    return _few(list(found.values()))


def read_shrinkwrap(data: bytes) -> list[Pinned]:
    """Return what an npm-shrinkwrap.json (lockfile version 2 or 3) pins, without what no bundle takes. Raises ManifestError."""
    try:
        whole = None if deeper_than(32, data) else json.loads(data)
    except ValueError:
        whole = None
    packages = whole.get("packages") if isinstance(whole, dict) else None
    if not isinstance(packages, dict):
        raise ManifestError("dependencies: that is no npm-shrinkwrap.json of lockfile version 2 or 3")
    return _few([_npm_row(place, row) for place, row in packages.items() if place and not _unused(row)])


def check_npm_name(name: str, version: str) -> None:
    """Raise ManifestError unless they are the name and exact version of an npm package."""
    if _NPM_NAME.fullmatch(name) is None or _NPM_VERSION.fullmatch(version) is None:
        raise ManifestError(f"{shorten(name)}@{shorten(version)} is no npm package at an exact version")


def normal_name(name: str) -> str:
    """Return a project's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _unused(row: Any) -> bool:
    """Tell what is for development, for some machines only (a plugin is the same on all of them), or can be done without and needs a script."""
    if not isinstance(row, dict):
        return False
    can_be_missing = row.get("optional") is True and any(
        name in row for name in ("os", "cpu", "libc", "hasInstallScript")
    )
    return row.get("dev") is True or row.get("devOptional") is True or can_be_missing


def _npm_row(place: str, row: Any) -> Pinned:
    name = place.rpartition("node_modules/")[2]
    if not isinstance(row, dict) or row.get("link") or not place.startswith("node_modules/") or ".." in place:
        raise ManifestError(f"dependencies: {shorten(place)!r} is no package of a registry")
    version, integrity = str(row.get("version")), str(row.get("integrity"))
    if row.get("name") not in (None, name):
        raise ManifestError(f"dependencies: {shorten(place)!r} is another package's alias; give it its own name")
    check_npm_name(name, version)
    if _INTEGRITY.fullmatch(integrity) is None:
        raise ManifestError(f"dependencies: {shorten(name)} has no sha512 integrity in the lock")
    return Pinned(name, version, frozenset({integrity}), place)


def _few(rows: list[Pinned]) -> list[Pinned]:
    if len(rows) > MOST:
        raise ManifestError(f"dependencies: {len(rows)} packages are locked; the limit is {MOST}")
    return rows
