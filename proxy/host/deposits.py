"""What a plugin's owner has locked on L1: `l2_getDeposits`, computed by the proxy and never told by the plugin.

Two sources, never mixed (hardening.md 26). "events": what the approved gateway's events claim, as the manifest names them.
"operations": what the proxy itself paid in, less what provably came back; no event can hide it. `locked` counts what is
confirmed, `pending` what is on its way. All amounts in the asset's smallest unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.host.gateway_events import GatewayEvents, Moved
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_records import ETH, Operation, Step

Key = tuple[str, str]
"""(gateway's name, asset)"""


@dataclass
class Entry:
    """One row of the answer while it is added up."""

    locked: int = 0
    pending: int = 0
    deposits: list[dict[str, Any]] = field(default_factory=list)

    def shown(self, key: Key, source: str) -> dict[str, Any]:
        """Return the row."""
        gateway, asset = key
        return {
            "gateway": gateway,
            "asset": asset,
            "source": source,
            "locked": hex(max(self.locked, 0)),
            "pending": hex(self.pending),
            "deposits": self.deposits,
        }


class Deposits:
    """Reckons what is locked. `records_of` returns a plugin's operations."""

    def __init__(self, events: GatewayEvents, records_of: Callable[[str], list[Operation]]) -> None:
        self._events = events
        self._records_of = records_of

    @property
    def skipped(self) -> int:
        """How many logs of gateways were left out because they do not decode."""
        return self._events.skipped

    async def of(self, plugin: InstalledPlugin) -> list[dict[str, Any]]:
        """Return the rows for a plugin: by events where the manifest names them, by operations where there are any.

        Raise `Disconnected` when the chain cannot be asked.
        """
        rows = []
        for gateway in plugin.gateways:
            if gateway.locked is not None:
                rows += await self._by_events(gateway, plugin.owner)
        return rows + await self._by_operations(plugin)

    async def _by_events(self, gateway: Gateway, owner: str) -> list[dict[str, Any]]:
        entries: defaultdict[Key, Entry] = defaultdict(Entry)
        if gateway.locked is not None and gateway.locked.asset is None:
            entries[gateway.name, ETH] = Entry()  # nothing locked is an answer too
        for moved in await self._events.of(gateway, owner):
            entry = entries[gateway.name, moved.asset]
            if moved.released:
                entry.locked -= moved.amount if moved.confirmed else 0
                continue
            if moved.confirmed:
                entry.locked += moved.amount
            else:
                entry.pending += moved.amount
            entry.deposits.append(_event_row(moved))
        return [entry.shown(key, "events") for key, entry in entries.items()]

    async def _by_operations(self, plugin: InstalledPlugin) -> list[dict[str, Any]]:
        entries: defaultdict[Key, Entry] = defaultdict(Entry)
        operations = self._records_of(plugin.id)
        confirmed = [step for one in operations for step in one.steps if step.status == "confirmed"]
        gone = await self._events.gone({step.hashes[-1]: step.block for step in confirmed if step.block is not None})
        for operation in operations:
            for step in operation.steps:
                is_gone = bool(step.hashes) and step.hashes[-1] in gone
                if operation.pays_in(step):
                    _add(entries[step.gateway or "", step.asset], step, is_gone=is_gone)
                if not is_gone and (back := operation.brought_back(step)):
                    entries[step.gateway or "", ETH].locked -= back
            if (left := _left(operation)) is not None:
                _add(entries[left.gateway or "", left.asset], left, is_taken=False)
        return [entry.shown(key, "operations") for key, entry in entries.items() if entry.deposits]


def locked_by_operations(operations: Iterable[Operation]) -> bool:
    """Tell whether operations paid in more than provably came back, or are about to (hardening.md 26)."""
    balance: defaultdict[str, int] = defaultdict(int)
    for operation in operations:
        for step in operation.steps:
            if operation.pays_in(step) and step.stands:
                balance[step.asset] += step.amount
            balance[ETH] -= operation.brought_back(step)
        if (left := _left(operation)) is not None:
            balance[left.asset] += left.amount
    return any(amount > 0 for amount in balance.values())


def _left(operation: Operation) -> Step | None:
    """Return the allowance a failed deposit left: until it is taken back its amount counts as spent (hardening.md 20)."""
    return operation.allowed() if operation.ending is not None or operation.over else None


def _add(entry: Entry, step: Step, *, is_taken: bool = True, is_gone: bool = False) -> None:
    """Count a step that pays in; an allowance that is left could be taken at any time (not `is_taken` yet).

    One that a reorg took away after it counted as final (`is_gone`) may come back: its bytes are with everybody.
    """
    if not is_taken or is_gone:
        entry.pending += step.amount
    elif step.status == "confirmed":
        entry.locked += step.amount
    elif step.nonce is not None and step.status in ("pending", "submitted", "mined"):
        entry.pending += step.amount
    else:
        return
    entry.deposits.append(
        {
            "hash": step.hashes[-1],
            "block": None if step.block is None or is_gone else hex(step.block),
            "amount": hex(step.amount),
            "confirmed": is_taken and not is_gone and step.status == "confirmed",
        }
    )


def _event_row(moved: Moved) -> dict[str, Any]:
    return {
        "hash": moved.hash,
        "logIndex": hex(moved.log_index),
        "block": hex(moved.block),
        "amount": hex(moved.amount),
        "confirmed": moved.confirmed,
    }
