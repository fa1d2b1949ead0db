"""The installed plugins, as the owner agreed to them: one record each, and what ids and key paths stay bound to.

Written by the installer, read at every start. A record joined with the code folder makes an `InstalledPlugin`; a folder
whose digest differs from the record's makes one that is disabled, loudly (security.md 13).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from middleware.errors import InvalidParams
from proxy.host.abi_values import check_address
from proxy.host.gateway_abi import check_gateway, read_abi
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.manifest import GatewayEntry, Manifest, ManifestError, normal_signature, read_manifest, wei
from proxy.host.package import is_as_stored
from proxy.storage import Space

CHANGED = "its files changed after it was installed"


class Override(msgspec.Struct, frozen=True):
    """A gateway's address as the owner wants it on one chain."""

    name: str
    chain: int
    address: str


class Cap(msgspec.Struct, frozen=True):
    """The most of an asset (`ETH` or a checksummed token) that may be inside the plugin's gateways, in its smallest unit."""

    asset: str
    amount: str  # decimal: no reader of JSON rounds it


class Former(msgspec.Struct, frozen=True):
    """The version before, to which `rollback` returns. `snapshot`: the folder's name of its store (empty: it had none)."""

    digest: str
    source: str
    grants: tuple[str, ...]
    hub_url: str | None = None
    gateways: tuple[Override, ...] = ()
    snapshot: str = ""


class Record(msgspec.Struct, frozen=True):
    """What the owner agreed to. `quarantined` says why it does not run, empty: it does.

    `binding`: what the id stays bound to (empty: the source itself). `replaced`: the store has to be put in the place of
    another one, which is kept under this name; empty: no exchange is under way.
    """

    id: str
    digest: str
    source: str
    owner: str
    path: tuple[int, ...]
    grants: tuple[str, ...]
    hub_url: str | None = None
    gateways: tuple[Override, ...] = ()
    installed: int = 0
    quarantined: str = ""
    binding: str = ""
    former: Former | None = None
    replaced: str = ""
    caps: tuple[Cap, ...] = ()


class Binding(msgspec.Struct, frozen=True):
    """What an id stays bound to after removal (hardening.md 27)."""

    source: str
    path: tuple[int, ...]


class Registry:
    """All records of one data directory. `plugins`: the folder with one folder per plugin."""

    def __init__(self, space: Space, plugins: Path) -> None:
        self._space = space
        self._plugins = plugins

    def folder(self, plugin_id: str) -> Path:
        """Return the plugin's own folder: `code/` and `store/`."""
        return self._plugins / plugin_id

    def records(self) -> list[Record]:
        """Return every record by id."""
        return [msgspec.json.decode(value, type=Record) for _, value in self._space.scan(b"r")]

    def get(self, plugin_id: str) -> Record | None:
        """Return one record."""
        stored = self._space.get(b"r" + plugin_id.encode())
        return None if stored is None else msgspec.json.decode(stored, type=Record)

    def put(self, record: Record) -> None:
        """Write a record and its binding together. A version without keys does not set the path before free."""
        key = record.id.encode()
        bound = self.bindings().get(record.id)
        path = record.path or (bound.path if bound is not None else ())
        binding = Binding(record.binding or record.source, path)
        self._space.write({b"r" + key: msgspec.json.encode(record), b"b" + key: msgspec.json.encode(binding)})

    def remove(self, plugin_id: str, *, release: bool) -> None:
        """Drop a record; `release`: the id and path may be taken by another source."""
        key = plugin_id.encode()
        self._space.write(delete=[b"r" + key, *([b"b" + key] if release else [])])

    def bindings(self) -> dict[str, Binding]:
        """Return what every id, installed or removed, is bound to."""
        found = self._space.scan(b"b")
        return {key[1:].decode(): msgspec.json.decode(value, type=Binding) for key, value in found}

    def load(self, record: Record, chain_id: int) -> InstalledPlugin:
        """Return the plugin as it is on disk now; disabled when its files are not what the record says."""
        folder = self.folder(record.id) / "code" / record.digest.removeprefix("sha256:")
        why = record.quarantined
        try:
            _check_digest(folder, record.digest)
            manifest = read_manifest(folder)
            gateways = resolve_gateways(manifest, folder, record.gateways, chain_id)
        except (ManifestError, OSError) as error:
            why = f"disabled: {error if isinstance(error, ManifestError) else 'its files cannot be read'}"
            manifest = Manifest(id=record.id, name=record.id, version="0", runtime="python", entry="none:None")
            gateways = ()
        hub = record.hub_url or (manifest.hub.url if manifest.hub else None)
        return InstalledPlugin(
            id=record.id,
            version=manifest.version,
            digest=record.digest,
            source=record.source,
            manifest=manifest,
            owner=record.owner,
            hub_url=hub,
            gateways=gateways,
            grants=frozenset(record.grants),
            path=record.path,
            folder=folder,
            enabled=not why,
            why_disabled=why,
            hub_named=record.hub_url is not None,
            caps={cap.asset: int(cap.amount) for cap in record.caps},
        )


def _check_digest(folder: Path, digest: str) -> None:
    if not is_as_stored(folder, digest):
        raise ManifestError(CHANGED)


def resolve_gateways(
    manifest: Manifest, folder: Path, overrides: tuple[Override, ...], chain_id: int
) -> tuple[Gateway, ...]:
    """Return the gateways on `chain_id`, overrides applied and the ABI's functions checked. Raises ManifestError.

    An entry whose address is zero has none until the owner names it.
    """
    found: dict[str, Gateway] = {}
    for entry in manifest.gateway:
        abi = read_abi(folder, entry.abi)
        check_gateway(entry, abi)
        if entry.chain == chain_id and int(entry.address, 16) != 0:
            found[entry.name] = _gateway(entry, abi, chain_id, entry.address, entry.since)
    for override in overrides:
        if override.chain != chain_id:
            continue
        entry = next(
            (row for row in manifest.gateway if (row.name, row.chain) == (override.name, chain_id)),
            next(row for row in manifest.gateway if row.name == override.name),
        )
        since = entry.since if entry.chain == chain_id and entry.address.lower() == override.address.lower() else 0
        found[override.name] = _gateway(entry, read_abi(folder, entry.abi), chain_id, override.address, since)
    return tuple(found.values())


def _gateway(entry: GatewayEntry, abi: list[dict[str, object]], chain: int, address: str, since: int) -> Gateway:
    where = f"gateway {entry.name}"
    return Gateway(
        name=entry.name,
        chain=chain,
        address=_checksummed(address, where),
        since=since,
        abi=abi,
        deposit=tuple(normal_signature(text, where) for text in entry.deposit),
        withdraw=tuple(normal_signature(text, where) for text in entry.withdraw),
        dispute=tuple(normal_signature(text, where) for text in entry.dispute),
        max_value=wei(entry.max_value, where),
        locked=entry.locked,
        released=entry.released,
    )


def _checksummed(address: str, where: str) -> str:
    try:
        return check_address(address, f"{where}, address")
    except InvalidParams as error:
        raise ManifestError(error.message) from None
