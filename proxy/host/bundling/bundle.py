"""From the files of an npm plugin and its graph to what is stored: one ES module in the entry's place, and its record.

Stands behind `sources`, which fetched and unpacked, and before `installer`, which digests what comes out. The record names the
bundler, its version and flags and every package that went in, so all of it is part of the plugin's digest; the bundle's own
digest stands in it too (hardening.md 29). Same files in, same bytes out, on every machine. No code of a package runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Iterable
from typing import Any

from proxy.host.bundling.answers import Run, listed
from proxy.host.bundling.packages import CONDITIONS, MAIN_FIELDS, MODULES
from proxy.host.bundling.program import VERSION, Program
from proxy.host.bundling.session import FLAGS
from proxy.host.locks import Pinned
from proxy.host.manifest import MANIFEST, Manifest, ManifestError, parse_manifest
from proxy.host.package import File

RECORD = "bundle.json"
NATIVE = (".node", ".wasm", "binding.gyp")
_RESOLUTION = 1  # version of our own rules, part of the record
_DEPENDENCIES = re.compile(r"^dependencies\s*=.*\n?", re.MULTILINE)


async def bundled(manifest: Manifest, files: list[File], graph: list[Pinned], program: Program) -> list[File]:
    """Return the plugin's files with its entry bundled, sorted by name. Raises ManifestError.

    `files`: the plugin's own and those of `graph` below `node_modules/`. What went into the bundle is left out.
    """
    refuse_native(files)
    if any(file.name == RECORD for file in files):
        raise ManifestError(f"{RECORD} is what l2proxy writes beside a bundle; give your file another name")
    opened = await program.open()
    # Shielded: the descriptor is the thread's, which may not find another file at its number because nobody waits any more.
    return await asyncio.shield(asyncio.to_thread(_bundled, manifest, files, graph, opened))


def refuse_native(files: Iterable[File]) -> None:
    """Raise ManifestError for native code and WebAssembly, with the list."""
    native = [file.name for file in files if file.name.endswith(NATIVE)]
    if native:
        raise ManifestError(f"it brings native code or WebAssembly, which no plugin may: {listed(native)}")


def told(manifest: Manifest, files: Iterable[File]) -> dict[str, Any] | None:
    """Return `{bundler, sha256, packages}` of what was bundled here for the owner to see, None where nothing was."""
    record = next((file.data for file in files if file.name == RECORD), None)
    if manifest.runtime != "npm" or manifest.dependencies is None or record is None:
        return None
    said = json.loads(record)
    packages = [row.partition(" ")[0] for row in said["packages"]]
    return {"bundler": f"{said['bundler']} {said['version']}", "sha256": said["sha256"], "packages": packages}


def without_lock(manifest: Manifest, files: list[File]) -> list[File]:
    """Return a bundled plugin's files as they are packed: the manifest without `dependencies`, no lock, no package.json."""
    left_out = {manifest.dependencies, "package.json", "package-lock.json"}
    kept = [file for file in files if file.name not in left_out and not file.name.startswith(MODULES)]
    return sorted(
        [File(file.name, _freed(file.data)) if file.name == MANIFEST else file for file in kept],
        key=lambda file: file.name,
    )


def _freed(data: bytes) -> bytes:
    head, table, rest = data.decode("utf-8").partition("\n[")
    freed = (_DEPENDENCIES.sub("", f"{head}\n", count=1).removesuffix("\n") + table + rest).encode()
    if parse_manifest(freed).dependencies is not None:
        raise ManifestError("dependencies: put it on a line of its own above the first table of plugin.toml")
    return freed


def _bundled(manifest: Manifest, files: list[File], graph: list[Pinned], program: int) -> list[File]:
    try:
        data, inputs = Run({file.name: file.data for file in files}, manifest.entry).result(program)
    finally:
        os.close(program)
    left_out = inputs - {manifest.entry}
    record = {
        "bundler": "esbuild",
        "version": VERSION,
        "flags": list(FLAGS),
        "conditions": list(CONDITIONS),
        "mainFields": list(MAIN_FIELDS),
        "resolution": _RESOLUTION,
        "entry": manifest.entry,
        "sha256": hashlib.sha256(data).hexdigest(),
        "packages": _packages(graph, inputs),
    }
    kept = [file for file in files if not file.name.startswith(MODULES) and file.name not in left_out]
    made = [
        File(manifest.entry, data),
        File(RECORD, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"),
    ]
    return sorted([*(file for file in kept if file.name != manifest.entry), *made], key=lambda file: file.name)


def _packages(graph: list[Pinned], inputs: set[str]) -> list[str]:
    """Return `name@version integrity` of every package of which something went in."""
    used = [row for row in graph if any(name.startswith(f"{row.place}/") for name in inputs)]
    return sorted({f"{row.name}@{row.version} {' '.join(sorted(row.digests))}" for row in used})
