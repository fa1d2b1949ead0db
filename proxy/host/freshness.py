"""Is this store the newest there was? What a plugin is told as `restored` at its start (hardening.md 24, security.md 24).

A plugin that signs cumulative states must not sign from a store that was put back from a backup. Said here: `false`, the two
counters when the one outside the data directory is ahead, or "unknown" for everything that gives no certainty. It is a hint, never
proof: own keys sign only after the plugin's `ready` anyway; `ready` is also what makes the present store the newest.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from middleware.errors import RpcError
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import L1, Deposits, Operations
from proxy.host.services.keys import Keys
from proxy.host.services.store import Store
from proxy.host.services.store_turns import Turns
from proxy.storage import Space, StorageError
from proxy.storage.counter import Counter

log = logging.getLogger("l2proxy.host")

MOST_ACCOUNTS = 32  # whose nonces are looked at
SECONDS = 3.0  # for the node to answer
APART = "the daemon ended uncleanly, and the counters are apart"
_NONCES = b"nonces"

Restored = bool | str | dict[str, int]


class Freshness:
    """What is known of one plugin's store. `counter`: its twin outside the data directory; None: there is no place for one."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        counter: Counter | None,
        meta: Space,
        turns: Turns,
        l1: L1,
        operations: Operations,
        deposits: Deposits,
    ) -> None:
        self._plugin, self._counter, self._meta, self._turns = plugin, counter, meta, turns
        self._l1, self._operations, self._deposits = l1, operations, deposits
        self.restored: Restored | None = None  # None: not looked yet
        self.why = ""
        self.killed = False  # all that speaks against it is a kill between its last commit and the counter's

    def committed(self, count: int) -> None:
        """Take the counter of a commit along, from the store's thread; not before the store is known to be the newest."""
        if self.restored is False and self._counter is not None:
            self._counter.write(count)

    async def look(self, store: Store, keys: Keys, *, whole: bool, repaired: bool, imported: bool) -> Restored:
        """Return what the plugin is told, and keep it until `prove`; only the first look after the daemon's start counts.

        `whole`: the store holds what its book says; `imported`: the owner brought the phrase along.
        """
        if self.restored is not None:
            return self.restored
        outside, count = None if self._counter is None else self._counter.read(), store.book.counter
        if outside is not None and outside > count:
            self.why = f"the store was written {count} times, and {outside} times are known of outside of it"
            self.restored = {"storeCounter": count, "expectedCounter": outside}
            return self.restored
        self.why = self._doubt(outside, count, whole=whole, repaired=repaired, imported=imported)
        apart_by_one = self.why == APART and outside == count - 1
        if not self.why or apart_by_one:
            ahead = await self._ahead(keys, fresh=count == 0)
            self.why, self.killed = self.why or ahead, apart_by_one and not ahead
        self.restored = "unknown" if self.why else False
        self.committed(count)
        return self.restored

    async def prove(self, store: Store, keys: Keys) -> None:
        """The plugin has resynchronised: what it knows now is the newest, and counts on above all that was known of."""
        if self.restored is not False or not store.book.counter:
            before, expected = (self.restored, self.why), 0
            if isinstance(self.restored, dict):
                expected = self.restored["expectedCounter"]
            self.restored, self.why = False, ""
            try:  # also of a store never written: from now on it is told from one that was deleted
                await store.proved(expected)
            except StorageError:
                self.restored, self.why = before  # its next start is told the same
                raise
        await self.note_nonces(keys)

    async def note_nonces(self, keys: Keys) -> None:
        """Keep the nonces as they are now; a node that does not answer, or a full disk, leaves them as they were.

        Then they are too low, and the next start of the daemon doubts the store rather than trusts it.
        """
        if self.restored is not False:
            return
        nonces = await self._nonces(keys)
        if nonces:
            noted = self._meta.batch({_NONCES: msgspec.json.encode({**self._noted(), **nonces})})
            try:
                await self._turns.write(noted)
            except StorageError as error:
                log.warning("plugin %s: the nonces of its accounts could not be noted: %s", self._plugin.id, error)

    def close(self) -> None:
        """Let go of the counter."""
        if self._counter is not None:
            self._counter.close()

    def forget(self) -> None:
        """The store is deleted on purpose: its counter goes too."""
        if self._counter is not None:
            self._counter.forget()

    def _doubt(self, outside: int | None, count: int, *, whole: bool, repaired: bool, imported: bool) -> str:
        if repaired:
            return "the store was damaged and has been repaired"
        if not whole:
            return "the store does not hold what its record says"
        if self._counter is None:
            return "there is no place for a counter outside the data directory"
        if outside is None:
            if imported:
                return "the phrase was imported: somebody may have used it elsewhere"
            return "there is no counter of it outside the data directory" if count else ""
        return "" if outside == count else APART

    async def _ahead(self, keys: Keys, *, fresh: bool) -> str:
        """Return what on L1 is ahead of the store."""
        if fresh and self._operations.get(self._plugin.id):
            return "it has operations, and the store is empty"
        noted = self._noted()
        for address, nonce in (await self._nonces(keys)).items():
            known = noted.get(address, None if address == self._plugin.owner or not fresh else 0)
            if known is not None and nonce > max(known, self._operations.used(address)):
                return f"{address} has sent transactions since the store was written last"
        if fresh and self._plugin.gateways and await self._has_deposits():
            return "it has funds locked on L1, and the store is empty"
        return ""

    async def _nonces(self, keys: Keys) -> dict[str, int]:
        found: dict[str, int] = {}
        addresses = [self._plugin.owner, *(str(row["address"]) for row in keys.known()[:MOST_ACCOUNTS])]
        try:
            async with asyncio.timeout(SECONDS):
                for address in addresses:
                    found[address] = int(await self._l1.call("eth_getTransactionCount", address, "latest"), 16)
        except (TimeoutError, RpcError, ValueError, TypeError):
            return found  # of whom the node does not tell, nothing is known to be ahead
        return found

    async def _has_deposits(self) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                rows: list[dict[str, Any]] = await self._deposits.of(self._plugin)
        except (TimeoutError, RpcError):
            return False
        return any(int(str(row[part]), 0) for row in rows for part in ("locked", "pending") if part in row)

    def _noted(self) -> dict[str, int]:
        stored = self._meta.get(_NONCES)
        return {} if stored is None else msgspec.json.decode(stored, type=dict[str, int])
