"""What the proxy tells a plugin, as typed records: accounts, operations, what `start` brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ValueMismatch
from .values import quantity


@dataclass(frozen=True)
class Account:
    """A key below the plugin's path. `path` is what `keys.sign` takes."""

    address: str
    public_key: str
    path: str
    private_key: str | None = None

    @classmethod
    def from_wire(cls, row: Mapping[str, Any]) -> Account:
        """Read `{address, publicKey, path?, privateKey?}`."""
        return cls(row["address"], row.get("publicKey", ""), str(row.get("path", "")), row.get("privateKey"))


@dataclass(frozen=True)
class Operation:
    """A deposit, withdrawal, plan, send or transfer as rpc.md describes it; `status` is "" where only the id is known."""

    id: str
    status: str = ""
    kind: str = ""
    error: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, row: Any) -> Operation:
        """Read an operation object, its bare id, or either inside `{"operation": …}`."""
        if isinstance(row, Mapping) and "operation" in row:
            row = row["operation"]
        if isinstance(row, str):
            return cls(row)
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
            raise ValueMismatch("operation", "an operation with an id", row)
        error = row.get("error")
        if isinstance(error, Mapping):
            error = str(error.get("message", error))
        steps = tuple(row.get("steps") or ())
        return cls(row["id"], row.get("status", ""), row.get("kind", ""), error, steps, dict(row))

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("done", "rejected", "failed")


@dataclass(frozen=True)
class Gateway:
    """A contract of the plugin that the owner approved. `since`: the first block worth reading."""

    name: str
    chain: int
    address: str
    since: int = 0


@dataclass(frozen=True)
class StartInfo:
    """What `start` brings. `restored`: False, "unknown", or `{storeCounter, expectedCounter}` (hardening.md 24)."""

    chain_id: int
    owner: str
    gateways: Mapping[str, Gateway]
    accounts: tuple[Account, ...]
    restored: Any

    @classmethod
    def from_wire(cls, row: Mapping[str, Any]) -> StartInfo:
        """Read `{chainId, owner, gateways, accounts, restored}`."""
        listed = row.get("gateways") or []
        rows = listed if isinstance(listed, list) else [{"name": name, **entry} for name, entry in listed.items()]
        chain_id = quantity(row["chainId"], "chainId")
        gateways = {}
        for entry in rows:
            chain = quantity(entry.get("chain", chain_id), "chain")
            since = quantity(entry.get("since", 0), "since")
            name = entry.get("name", "main")
            gateways[name] = Gateway(name, chain, entry["address"], since)
        accounts = tuple(Account.from_wire(entry) for entry in row.get("accounts") or [])
        return cls(chain_id, row["owner"], gateways, accounts, row.get("restored", False))
