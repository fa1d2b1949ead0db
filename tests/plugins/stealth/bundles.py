"""plugins/stealth without a registry: what its lock names lies in tests/node_modules, by the same digests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from proxy.host.bundling.bundle import bundled, without_lock
from proxy.host.bundling.program import Program
from proxy.host.locks import Pinned
from proxy.host.manifest import ManifestError, read_manifest
from proxy.host.package import File, read_package
from proxy.host.packing import LEFT_OUT, pack

FOLDER = Path("plugins/stealth")
TESTS = Path("tests")
PROJECT = Path(__file__).parent / "project"


class NoIndex:
    """No registry: nothing is fetched here."""

    async def tarball(self, wanted: Pinned) -> bytes:
        raise ManifestError(f"{wanted.name} would have been fetched")


def locked(path: Path) -> dict[str, dict[str, Any]]:
    """Return the packages of an npm lock by their places."""
    packages: dict[str, dict[str, Any]] = json.loads(path.read_text())["packages"]
    return {place: row for place, row in packages.items() if place}


def graph() -> list[File]:
    """Return the modules of what the plugin's lock names, at its places. KeyError: tests/package-lock.json has another."""
    tests = locked(TESTS / "package-lock.json")
    present = {row["integrity"]: place for place, row in tests.items() if "integrity" in row}
    files = []
    for place, row in locked(FOLDER / "npm-shrinkwrap.json").items():
        there = TESTS / present[row["integrity"]]
        for path in there.rglob("*"):
            name = path.relative_to(there)
            if path.suffix in (".js", ".mjs", ".cjs", ".json") and "node_modules" not in name.parts and path.is_file():
                files.append(File(f"{place}/{name}", path.read_bytes()))
    return files


async def archive(cache: Path, to: Path) -> str:
    """Write the plugin as `plugin pack` does; return the source that `plugin add` takes."""
    manifest = read_manifest(FOLDER)
    whole = [*read_package(FOLDER, LEFT_OUT), *graph()]
    packed = pack(manifest, without_lock(manifest, await bundled(manifest, whole, [], Program(NoIndex(), cache))))
    to.write_bytes(packed)
    return f"{to}#sha256={hashlib.sha256(packed).hexdigest()}"


def probe(esbuild: Path, to: Path) -> None:
    """Bundle the plugin's modules and the SDK's for tests that look into them, with no jail: it is our own code."""
    arguments: list[str | Path] = [
        esbuild,
        PROJECT / "probe.js",
        "--bundle",
        "--format=esm",
        "--platform=browser",
        "--log-level=error",
    ]
    environment = {**os.environ, "NODE_PATH": str((TESTS / "node_modules").resolve())}
    subprocess.run([*arguments, f"--outfile={to}"], env=environment, check=True)
