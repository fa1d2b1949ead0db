"""Install and remove: from a directory of the owner's to a record, with everything refused that could be told beforehand.

Two steps, so that the owner sees before anything is agreed to: `inspect` reads and checks, `install` takes exactly what was
inspected (same digest), copies it under its digest, and writes the record. No code of the package runs (security.md 22).
Other sources (archives, pypi, npm) come with the plugin-host issue.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from middleware.errors import RpcError, shorten
from proxy.host.abi_values import check_address
from proxy.host.gateways import refuse_functions
from proxy.host.installed import Gateway
from proxy.host.manifest import (
    GRANTS,
    NAMED_GRANTS,
    Manifest,
    ManifestError,
    check_hub_url,
    normal_signature,
    read_manifest,
    sends,
)
from proxy.host.package import File, digest_of_package, read_package, store_package
from proxy.host.ports import Audit, CheckGateway, Paths
from proxy.host.ports import Path as KeyPath
from proxy.host.registry import Override, Record, Registry, resolve_gateways


class InstallRefused(RpcError):
    """The plugin cannot be installed or removed so; the message says why and what to do. Code -32602."""

    def __init__(self, message: str) -> None:
        super().__init__(-32602, message)


@dataclass(frozen=True)
class Inspected:
    """A package that could be installed: what the owner is shown."""

    source: str
    digest: str
    manifest: Manifest
    path: KeyPath
    files: list[File]
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Return what `plugin add` shows before it asks for each grant."""
        manifest = self.manifest
        return {
            "id": manifest.id,
            "name": manifest.name,
            "version": manifest.version,
            "description": manifest.description,
            "source": self.source,
            "digest": self.digest,
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


@dataclass(frozen=True)
class Choices:
    """What the owner decided beside the source. `grants`: exact names, or "all" for what need not be named."""

    owner: str | None = None
    hub: str | None = None
    gateways: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()


class Installer:
    """Writes the registry. `chain_id` returns the chain's id, None where no L1 is known; `accounts` the main accounts."""

    def __init__(
        self,
        registry: Registry,
        paths: Paths,
        audit: Audit,
        *,
        accounts: Callable[[], list[str]],
        chain_id: Callable[[], int | None],
        layer1_allowed: Callable[[str], bool],
        check_gateway: CheckGateway | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._paths = paths
        self._audit = audit
        self._accounts = accounts
        self._chain_id = chain_id
        self._layer1_allowed = layer1_allowed
        self._check_gateway = check_gateway
        self._clock = clock

    def inspect(self, source: str) -> Inspected:
        """Read and check a source without agreeing to anything. Raises InstallRefused."""
        try:
            inspected = check_package(source, self._paths, self._layer1_allowed)
        except ValueError as error:
            raise InstallRefused(str(error)) from None
        self._check_binding(inspected.manifest.id, inspected.source, inspected.path)
        return inspected

    async def install(self, inspected: Inspected, choices: Choices) -> Record:
        """Agree to what was inspected. A plugin that is installed at this very digest gets the new choices."""
        record = self.record(inspected, choices)
        folder = store_package(inspected.files, self._registry.folder(record.id) / "code", inspected.digest)
        await self._check_gateways(inspected.manifest, folder, record.gateways, frozenset(record.grants))
        self._audit.append({"event": "plugin_add", "plugin": record.id, **_agreed(record), "source": "owner"})
        self._registry.put(record)
        return record

    def record(self, inspected: Inspected, choices: Choices) -> Record:
        """Return what installing would write down. Raises InstallRefused for choices that do not fit the manifest."""
        manifest = inspected.manifest
        present = self._registry.get(manifest.id)
        if present is not None and present.digest != inspected.digest:
            raise InstallRefused(
                f"{manifest.id} is installed at another digest; `l2proxy plugin remove {manifest.id}` first, its store is kept"
            )
        return Record(
            id=manifest.id,
            digest=inspected.digest,
            source=inspected.source,
            owner=self._owner(choices.owner),
            path=inspected.path,
            grants=tuple(sorted(_grants(choices.grants, manifest))),
            hub_url=self._hub(manifest, choices.hub),
            gateways=_overrides(choices.gateways, manifest),
            installed=int(self._clock()),
        )

    def set_owner(self, plugin_id: str, owner: str) -> Record:
        """Have a plugin act for another main account from its next start on."""
        record = self._registry.get(plugin_id)
        if record is None:
            raise InstallRefused(f"no plugin {shorten(plugin_id)} is installed; `l2proxy plugin list` shows which are")
        changed = msgspec.structs.replace(record, owner=self._owner(owner))
        self._audit.append(
            {"event": "plugin_set_owner", "plugin": plugin_id, "owner": changed.owner, "source": "owner"}
        )
        self._registry.put(changed)
        return changed

    def _check_binding(self, plugin_id: str, source: str, path: KeyPath) -> None:
        for other, binding in self._registry.bindings().items():
            if other == plugin_id:
                if binding.source != source:
                    raise InstallRefused(
                        f"the id {plugin_id} is bound to {shorten(binding.source)}; another source needs another id"
                    )
                if binding.path and path and binding.path != path:
                    raise InstallRefused(f"the id {plugin_id} is bound to another key path")
            elif path and binding.path and _overlap(path, binding.path):
                raise InstallRefused(f"keys.path overlaps the key path of {other}; a path belongs to one plugin alone")

    def _owner(self, given: str | None) -> str:
        accounts = self._accounts()
        if given is None:
            if not accounts:
                raise InstallRefused("there is no main account yet; `l2proxy init` makes one")
            return accounts[0]
        try:
            owner = check_address(given, "owner")
        except RpcError as error:
            raise InstallRefused(error.message) from None
        if owner not in accounts:
            raise InstallRefused(f"{owner} is no account of this wallet; `l2proxy account list` shows them")
        return owner

    def _hub(self, manifest: Manifest, given: str | None) -> str | None:
        if manifest.hub is None:
            if given is not None:
                raise InstallRefused(f"{manifest.id} has no hub; leave --hub out")
            return None
        url = given or manifest.hub.url
        try:
            check_hub_url(url)
        except ManifestError as error:
            raise InstallRefused(str(error)) from None
        private = _is_private(urlsplit(url).hostname or "")
        if private and given is None:
            raise InstallRefused(f"the hub {url} has a private address; say --hub {url} to agree to it")
        if not private and urlsplit(url).scheme in ("ws", "http"):
            raise InstallRefused(
                f"the hub {url} is not encrypted; wss:// or https:// is needed outside private networks"
            )
        return given

    async def _check_gateways(
        self, manifest: Manifest, folder: Path, overrides: tuple[Override, ...], grants: frozenset[str]
    ) -> None:
        chain_id = self._chain_id()
        if chain_id is None or not manifest.gateway or "gateway" not in grants:
            return
        try:
            gateways: tuple[Gateway, ...] = resolve_gateways(manifest, folder, overrides, chain_id)
        except ManifestError as error:
            raise InstallRefused(str(error)) from None
        if not gateways:
            name = manifest.gateway[0].name
            raise InstallRefused(
                f"{manifest.id} has no gateway on chain {chain_id}; name it with --gateway {name}:{chain_id}=ADDRESS"
            )
        if self._check_gateway is not None:
            for gateway in gateways:
                await self._check_gateway(gateway)


def check_package(source: str, paths: Paths, layer1_allowed: Callable[[str], bool]) -> Inspected:
    """Read and check a directory by itself: no registry, no chain. Raises ManifestError."""
    folder = _directory(source)
    try:
        manifest = read_manifest(folder)
        files = read_package(folder)
        for entry in manifest.gateway:
            resolve_gateways(manifest, folder, (), entry.chain)
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read: {error.strerror}") from None
    try:
        path = () if manifest.keys is None else paths.parse_plugin_path(manifest.keys.path)
    except ValueError as error:
        raise ManifestError(f"keys.path: {error}") from None
    _check_functions(manifest)
    _check_served(manifest, files, layer1_allowed)
    return Inspected(str(folder), digest_of_package(files), manifest, path, files, folder)


def _check_served(manifest: Manifest, files: list[File], layer1_allowed: Callable[[str], bool]) -> None:
    if manifest.runtime != "python":
        raise ManifestError("runtime: this version of l2proxy runs python plugins; npm comes later")
    module = manifest.entry.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & {file.name for file in files}:
        raise ManifestError(f"entry: there is no {module}.py in the package")
    if manifest.dependencies is not None:
        _check_dependencies(manifest.dependencies, files)
    for method in manifest.permissions.layer1:
        if method != "eth_sendRawTransaction" and (sends(method) or not layer1_allowed(method)):
            raise ManifestError(f"permissions.layer1: {method} is no method that a plugin may be given")


def _directory(source: str) -> Path:
    if source.startswith(("pypi:", "npm:")) or source.endswith((".whl", ".tgz", ".tar.gz", ".zip")):
        raise ManifestError(f"{shorten(source)}: this version of l2proxy installs from a directory only")
    folder = Path(source)
    if not folder.is_absolute():
        raise ManifestError(f"{shorten(source)} is not an absolute path")
    if not folder.is_dir():
        raise ManifestError(f"there is no directory {shorten(source)}")
    return folder.resolve()


def _check_functions(manifest: Manifest) -> None:
    for entry in manifest.gateway:
        where = f"gateway {entry.name}"
        functions = (normal_signature(text, where) for text in (*entry.deposit, *entry.withdraw, *entry.dispute))
        try:
            refuse_functions(functions)
        except RpcError as error:
            raise ManifestError(f"{where}: {error.message}") from None


def _check_dependencies(name: str, files: list[File]) -> None:
    """Let a lock without requirements pass; installing any comes with the plugin-host issue."""
    lock = next((file for file in files if file.name == name), None)
    if lock is None:
        raise ManifestError(f"dependencies: there is no {shorten(name)} in the package")
    lines = [line.strip() for line in lock.data.decode("utf-8", "replace").splitlines()]
    if any(line and not line.startswith("#") for line in lines):
        raise ManifestError("dependencies: this version of l2proxy installs none; put pure modules beside the code")


def _overrides(given: tuple[str, ...], manifest: Manifest) -> tuple[Override, ...]:
    names = list(dict.fromkeys(entry.name for entry in manifest.gateway))
    found: dict[tuple[str, int], Override] = {}
    for text in given:
        place, _, address = text.partition("=")
        name, _, chain = place.rpartition(":")
        if not name and len(names) == 1:
            name = names[0]
        if not chain.isascii() or not chain.isdigit() or not 0 < int(chain[:20]) < 2**53:
            raise InstallRefused(f"--gateway {shorten(text)}: expected [NAME:]CHAIN=ADDRESS, CHAIN a decimal number")
        if name not in names:
            known = ", ".join(names) or "none"
            raise InstallRefused(f"--gateway {shorten(text)}: name one of the manifest's gateways ({known})")
        try:
            override = Override(name, int(chain), check_address(address, "--gateway"))
        except RpcError as error:
            raise InstallRefused(error.message) from None
        if (name, int(chain)) in found:
            raise InstallRefused(f"--gateway {shorten(text)}: {name} on chain {chain} is given twice")
        found[name, int(chain)] = override
    return tuple(found.values())


def _grants(given: tuple[str, ...], manifest: Manifest) -> frozenset[str]:
    requested = manifest.requested()
    grants: set[str] = set()
    for name in given:
        if name == "all":
            grants |= requested - NAMED_GRANTS
        elif name not in GRANTS:
            raise InstallRefused(f"--grant {shorten(name)}: there are all, {', '.join(GRANTS)}")
        elif name not in requested:
            raise InstallRefused(f"--grant {name}: {manifest.id} does not ask for it")
        else:
            grants.add(name)
    if "keys.export" in grants and "keys" not in grants:
        raise InstallRefused("--grant keys.export needs keys as well")
    return frozenset(grants)


def _agreed(record: Record) -> dict[str, Any]:
    return {
        "digest": record.digest,
        "owner": record.owner,
        "grants": list(record.grants),
        "hub": record.hub_url,
        "gateways": [f"{row.name}:{row.chain}={row.address}" for row in record.gateways],
    }


def _overlap(first: KeyPath, second: KeyPath) -> bool:
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host
