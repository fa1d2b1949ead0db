"""A package that could be installed: read from its source, checked by itself, and what the owner is shown of it.

Stands between `sources` (where the files come from) and `installer` (what the owner agrees to). No code of the package runs
(security.md 22); nothing is written but a folder that is gone again.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import RpcError, shorten
from proxy.host.bundling.bundle import RECORD, told
from proxy.host.gateways import refuse_functions
from proxy.host.indexes import Indexes
from proxy.host.manifest import GRANTS, Manifest, ManifestError, normal_signature, sends
from proxy.host.package import File, digest_of_package
from proxy.host.ports import Path as KeyPath
from proxy.host.ports import Paths
from proxy.host.registry import resolve_gateways
from proxy.host.sandbox.deno_command import MISSING, deno_program
from proxy.host.sources import Source, parse_source, read_source


@dataclass(frozen=True)
class Inspected:
    """A package that could be installed: what the owner is shown."""

    source: Source
    digest: str
    manifest: Manifest
    path: KeyPath
    files: list[File]

    def to_json(self) -> dict[str, Any]:
        """Return what `plugin add` shows before it asks for each grant."""
        manifest = self.manifest
        return {
            "id": manifest.id,
            "name": manifest.name,
            "version": manifest.version,
            "description": manifest.description,
            "source": self.source.text,
            "digest": self.digest,
            "bundle": told(manifest, self.files),
            "keys": None if manifest.keys is None else {"path": manifest.keys.path, "export": manifest.keys.export},
            "hub": None if manifest.hub is None else manifest.hub.url,
            "gateways": [
                {
                    "name": entry.name,
                    "chain": entry.chain,
                    "address": entry.address,
                    "deposit": entry.deposit,
                    "withdraw": entry.withdraw,
                    "dispute": entry.dispute,
                }
                for entry in manifest.gateway
            ],
            "actions": [
                {
                    "name": action.name,
                    "description": action.description,
                    "spends": None if action.spends is None else msgspec.structs.asdict(action.spends),
                    "approval": action.approval,
                }
                for action in manifest.action
            ],
            "permissions": msgspec.structs.asdict(manifest.permissions),
            "requests": [name for name in GRANTS if name in manifest.requested()],
        }


async def inspect_source(text: str, paths: Paths, layer1_allowed: Callable[[str], bool], indexes: Indexes) -> Inspected:
    """Read, fetch and check a source by itself: no registry, no chain. Raises ManifestError."""
    source = parse_source(text)
    manifest, files = await read_source(source, indexes)
    return await asyncio.to_thread(check_files, source, manifest, files, paths, layer1_allowed)


def check_files(
    source: Source, manifest: Manifest, files: list[File], paths: Paths, layer1_allowed: Callable[[str], bool]
) -> Inspected:
    """Check what came of a source; `files` sorted by name. Raises ManifestError."""
    with laid_out(files) as folder:
        for entry in manifest.gateway:
            resolve_gateways(manifest, folder, (), entry.chain)
    try:
        path = () if manifest.keys is None else paths.parse_plugin_path(manifest.keys.path)
    except ValueError as error:
        raise ManifestError(f"keys.path: {error}") from None
    _check_functions(manifest)
    _check_served(manifest, files, layer1_allowed)
    return Inspected(source, digest_of_package(files), manifest, path, files)


@contextlib.contextmanager
def laid_out(files: list[File]) -> Iterator[Path]:
    """Give a folder of its own that holds the files, for as long as it is looked at."""
    with tempfile.TemporaryDirectory(prefix="l2proxy-") as name:
        for file in files:
            path = Path(name, file.name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(file.data)
        yield Path(name)


def _check_served(manifest: Manifest, files: list[File], layer1_allowed: Callable[[str], bool]) -> None:
    _check_entry(manifest, {file.name for file in files})
    for method in manifest.permissions.layer1:
        if method != "eth_sendRawTransaction" and (sends(method) or not layer1_allowed(method)):
            raise ManifestError(f"permissions.layer1: {method} is no method that a plugin may be given")


def _check_entry(manifest: Manifest, names: set[str]) -> None:
    if manifest.runtime == "python":
        module = manifest.entry.partition(":")[0].replace(".", "/")
        if not {f"{module}.py", f"{module}/__init__.py"} & names:
            raise ManifestError(f"entry: there is no {module}.py in the package")
        return
    if deno_program() is None:
        raise ManifestError(f"runtime: {MISSING}")
    if manifest.entry not in names or not manifest.entry.endswith((".js", ".mjs")):
        raise ManifestError(f"entry: {shorten(manifest.entry)} is no ES module (.js or .mjs) in the package")
    if manifest.dependencies is not None and RECORD not in names:
        raise ManifestError(
            "dependencies: an npm plugin is installed as one bundled ES module, and this is not bundled"
        )


def _check_functions(manifest: Manifest) -> None:
    for entry in manifest.gateway:
        where = f"gateway {entry.name}"
        functions = (normal_signature(text, where) for text in (*entry.deposit, *entry.withdraw, *entry.dispute))
        try:
            refuse_functions(functions)
        except RpcError as error:
            raise ManifestError(f"{where}: {error.message}") from None
