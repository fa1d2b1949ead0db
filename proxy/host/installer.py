"""Install, update and roll back: from a source to a record, with everything refused that could be told beforehand.

Two steps, so that the owner sees before anything is agreed to: `inspect` reads and checks, `install` takes exactly what was
inspected (same digest), copies it under its digest, and writes the record. No code of the package runs (security.md 22).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import RpcError, shorten
from proxy.host.abi_values import check_address
from proxy.host.choices import Choices, InstallRefused, chosen_grants, chosen_hub, overrides
from proxy.host.indexes import Indexes
from proxy.host.inspection import Inspected, inspect_source
from proxy.host.installed import Gateway
from proxy.host.manifest import Manifest, ManifestError
from proxy.host.operation_records import ETH
from proxy.host.package import store_package
from proxy.host.ports import Audit, CheckGateway, Paths
from proxy.host.ports import Path as KeyPath
from proxy.host.registry import Cap, Override, Record, Registry, resolve_gateways
from proxy.host.updates import Difference, difference, kept_overrides


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
        indexes: Indexes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._paths = paths
        self._audit = audit
        self._accounts = accounts
        self._chain_id = chain_id
        self._layer1_allowed = layer1_allowed
        self._check_gateway = check_gateway
        self._indexes = indexes or Indexes()
        self._clock = clock

    async def inspect(self, source: str) -> Inspected:
        """Read, fetch and check a source without agreeing to anything. Raises InstallRefused."""
        try:
            inspected = await inspect_source(source, self._paths, self._layer1_allowed, self._indexes)
        except ValueError as error:
            raise InstallRefused(str(error)) from None
        self._check_binding(inspected)
        return inspected

    async def install(self, inspected: Inspected, choices: Choices) -> Record:
        """Agree to what was inspected. A plugin that is installed at this very digest gets the new choices."""
        record = self.record(inspected, choices)
        await self.store(inspected, record)
        self._audit.append({"event": "plugin_add", "plugin": record.id, **agreed(record), "source": "owner"})
        self._registry.put(record)
        return record

    async def store(self, inspected: Inspected, record: Record) -> None:
        """Copy the code under its digest, whole or not at all, and look at its gateways; nothing uses it yet."""
        folder = store_package(inspected.files, self._registry.folder(record.id) / "code", inspected.digest)
        await self._check_gateways(inspected.manifest, folder, record.gateways, frozenset(record.grants))

    def record(self, inspected: Inspected, choices: Choices) -> Record:
        """Return what installing would write down. Raises InstallRefused for choices that do not fit the manifest."""
        manifest = inspected.manifest
        present = self._registry.get(manifest.id)
        if present is not None and present.digest != inspected.digest:
            raise InstallRefused(
                f"{manifest.id} is installed at another digest; `l2proxy plugin update {manifest.id}` takes this one"
            )
        return Record(
            id=manifest.id,
            digest=inspected.digest,
            source=inspected.source.text,
            binding=inspected.source.binding,
            owner=self._owner(choices.owner),
            path=inspected.path,
            grants=tuple(sorted(chosen_grants(choices.grants, manifest))),
            hub_url=chosen_hub(choices.hub, manifest),
            gateways=overrides(choices.gateways, manifest),
            installed=int(self._clock()),
            former=None if present is None else present.former,
            caps=() if present is None else present.caps,
        )

    def updated(
        self, present: Record, old: Manifest, inspected: Inspected, choices: Choices
    ) -> tuple[Record, Difference]:
        """Return what updating would write down: nothing granted that was not, or that means more now, unless named."""
        manifest = inspected.manifest
        if manifest.id != present.id:
            raise InstallRefused(f"that is the plugin {manifest.id}, not {present.id}")
        if inspected.digest == present.digest:
            raise InstallRefused(
                f"{present.id} is installed at this very digest; there is nothing to update (`plugin add` again"
                " changes what it may)"
            )
        found = difference(old, manifest, overridden=present.hub_url is not None)
        kept = (frozenset(present.grants) & manifest.requested()) - found.asks_again
        grants = kept | chosen_grants(choices.grants, manifest)
        hub = choices.hub or (present.hub_url if manifest.hub is not None else None)
        record = Record(
            id=present.id,
            digest=inspected.digest,
            source=inspected.source.text,
            binding=inspected.source.binding,
            owner=present.owner if choices.owner is None else self._owner(choices.owner),
            path=inspected.path,
            grants=tuple(sorted(grants if "keys" in grants else grants - {"keys.export"})),
            hub_url=chosen_hub(hub, manifest) if "hub" in grants else hub,
            gateways=kept_overrides(present.gateways, overrides(choices.gateways, manifest), manifest),
            installed=int(self._clock()),
            caps=present.caps,
        )
        return record, found

    def set_cap(self, plugin_id: str, asset: str, amount: int | None) -> Record:
        """Bound what may be inside a plugin's gateways (hardening.md 16); `asset`: `ETH` or a token; None: no bound."""
        record = self._known(plugin_id)
        try:
            asset = ETH if asset == ETH else check_address(asset, "asset")
        except RpcError as error:
            raise InstallRefused(f"{error.message}, or {ETH}") from None
        kept = [cap for cap in record.caps if cap.asset != asset]
        caps = kept if amount is None else [*kept, Cap(asset, str(amount))]
        changed = msgspec.structs.replace(record, caps=tuple(sorted(caps, key=lambda cap: cap.asset)))
        said = None if amount is None else str(amount)
        self._audit.append(
            {"event": "plugin_set_cap", "plugin": plugin_id, "asset": asset, "amount": said, "source": "owner"}
        )
        self._registry.put(changed)
        return changed

    def _known(self, plugin_id: str) -> Record:
        record = self._registry.get(plugin_id)
        if record is None:
            raise InstallRefused(f"no plugin {shorten(plugin_id)} is installed; `l2proxy plugin list` shows which are")
        return record

    def set_owner(self, plugin_id: str, owner: str) -> Record:
        """Have a plugin act for another main account from its next start on."""
        record = self._known(plugin_id)
        changed = msgspec.structs.replace(record, owner=self._owner(owner))
        self._audit.append(
            {"event": "plugin_set_owner", "plugin": plugin_id, "owner": changed.owner, "source": "owner"}
        )
        self._registry.put(changed)
        return changed

    def _check_binding(self, inspected: Inspected) -> None:
        plugin_id, path, source = inspected.manifest.id, inspected.path, inspected.source.binding
        for other, binding in self._registry.bindings().items():
            if other == plugin_id:
                if binding.source != source:
                    raise InstallRefused(
                        f"the id {plugin_id} is bound to {shorten(binding.source)}; another source needs another id, or your"
                        f" word: `l2proxy plugin remove {plugin_id} --delete-store --release` gives the id away, and its store up"
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


def agreed(record: Record) -> dict[str, Any]:
    """Return what the audit log keeps of a record."""
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
