"""An installed plugin as the rest of the proxy sees it: the manifest joined with what the owner decided at install.

Built by `registry` from the code folder and the owner's record; read by the host, by operations and deposits, and by the
links (`ActionSpec`). Frozen: whoever holds one holds what was attested, never something that changes underneath.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.host.manifest import Action, EventMap, Manifest

__all__ = ["ActionSpec", "EventMap", "Gateway", "InstalledPlugin"]


@dataclass(frozen=True)
class Gateway:
    """The plugin's contract on one chain, as the owner approved it. Functions are signatures like `open(address,uint256)`.

    `address` is checksummed, `max_value` is wei, `since` the first block worth reading, `abi` the JSON ABI's entries.
    """

    name: str
    chain: int
    address: str
    since: int
    abi: list[dict[str, Any]]
    deposit: tuple[str, ...]
    withdraw: tuple[str, ...]
    dispute: tuple[str, ...]
    max_value: int
    locked: EventMap | None
    released: EventMap | None


@dataclass(frozen=True)
class ActionSpec:
    """What the links of `l2_invoke` need to know of one action. `digest` is that of the plugin's code."""

    plugin: str
    name: str
    params: list[dict[str, Any]]
    returns: list[dict[str, Any]]
    spends: dict[str, str] | None
    approval: str
    idempotent: bool
    digest: str


@dataclass(frozen=True)
class InstalledPlugin:
    """One plugin. `owner` is the main account it acts for, `path` its key subtree (empty: none), `folder` its code.

    `gateways` are those of the present chain; `grants` a subset of `manifest.requested()`; `enabled` is False while it is
    quarantined or its files differ from the digest, and `why_disabled` says which. `hub_named`: the owner wrote the hub's
    address, which may then be a private one. `caps`: by asset, the most that may be inside its gateways.
    """

    id: str
    version: str
    digest: str
    source: str
    manifest: Manifest
    owner: str
    hub_url: str | None
    gateways: tuple[Gateway, ...]
    grants: frozenset[str]
    path: tuple[int, ...]
    folder: Path
    enabled: bool
    why_disabled: str = ""
    hub_named: bool = False
    caps: Mapping[str, int] = field(default_factory=dict)

    def action(self, name: str) -> ActionSpec | None:
        """Return what is declared of an action, None when there is none of this name."""
        return self._actions.get(name)

    @functools.cached_property
    def _actions(self) -> dict[str, ActionSpec]:
        return {action.name: self._spec(action) for action in self.manifest.action}

    def _spec(self, action: Action) -> ActionSpec:
        spends = None if action.spends is None else {"param": action.spends.param, "asset": action.spends.asset}
        return ActionSpec(
            self.id,
            action.name,
            [param.to_json() for param in action.params],
            [param.to_json() for param in action.returns],
            spends,
            action.approval,
            action.idempotent,
            self.digest,
        )

    def gateway(self, name: str | None) -> Gateway | None:
        """Return the gateway of this name on the present chain; without a name the only one, else `main`."""
        if name is None:
            if len(self.gateways) == 1:
                return self.gateways[0]
            name = "main"
        return next((gateway for gateway in self.gateways if gateway.name == name), None)
