"""Whether the daemon is of use now: the checks behind `/readyz`, and in `l2proxy status` and `doctor`.

Every check is cheap and bounded: what the parts know already, one small question to the nodes, and one small synced write to each
store, made in a thread; both at most once in some seconds however often it is asked. The sentences may be read by any program of this machine, so they
name no address, origin or account.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from middleware.errors import Disconnected, RpcError
from proxy.server.operations import Check
from proxy.storage import Database, StorageError
from proxy.upstream.l1 import L1

log = logging.getLogger("l2proxy.health")

# Bytes free below which a disk is full: one small write may go into a block the store owns already, the next does not.
ROOM = 1 << 20
FRESH = 10.0  # seconds a written probe counts
ANSWERED = 2.0  # seconds an answer of the nodes counts
PATIENCE = 2.0  # seconds to wait for the disk, and for the nodes


def check_l1(l1: L1, stale_after: float, now: float) -> Check:
    """Return whether a node can be asked and its newest block is known and not old; `now`: unix seconds."""
    if l1.trouble is not None:
        return Check("l1", False, "no L1 node can be asked; `l2proxy status` says why")
    head = l1.blocks.head
    if head is None:
        return Check("l1", False, "the newest L1 block is not known yet")
    age = now - head.timestamp
    if age > stale_after and not l1.is_dev:
        why = f"the newest L1 block, {head.number}, is {age:.0f} s old ([l1] stale_after is {stale_after:g} s)"
        return Check("l1", False, f"{why}: the node is not in sync, or the clock of this machine is wrong")
    return Check("l1", True, f"block {head.number} of chain {l1.chain_id}")


class Nodes:
    """The L1 nodes: whether they answer. One that hangs keeps its connections, and its silence is no trouble until calls are late."""

    def __init__(self, l1: L1, clock: Callable[[], float] = time.monotonic) -> None:
        self._l1 = l1
        self._clock = clock
        self._asked = float("-inf")
        self._failed: str | None = None
        self._question: asyncio.Task[None] | None = None

    async def check(self, stale_after: float) -> Check:
        """Return whether a node can be asked, answers, and has a new block."""
        found = check_l1(self._l1, stale_after, time.time())
        if not found.ok:
            return found
        if self._question is None and self._clock() - self._asked >= ANSWERED:
            self._question = asyncio.create_task(self._ask())
        if self._question is not None:
            await asyncio.wait({self._question}, timeout=PATIENCE)
        if self._question is not None:
            return Check("l1", False, f"the L1 node has not answered a small question within {PATIENCE:g} s")
        return found if self._failed is None else Check("l1", False, self._failed)

    async def close(self) -> None:
        """Give up a question that waits."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait({self._question})

    async def _ask(self) -> None:
        try:
            await self._l1.call("eth_blockNumber")
            self._failed = None
        except Disconnected:
            self._failed = "the L1 node does not answer; `l2proxy status` says why"
        except RpcError:
            self._failed = None  # a refusal is an answer
        finally:
            self._asked = self._clock()
            self._question = None


class Stores:
    """The databases of a data directory: open, and written to lately."""

    def __init__(self, databases: Sequence[Database], clock: Callable[[], float] = time.monotonic) -> None:
        self._databases = databases
        self._clock = clock
        self._looked = float("-inf")
        self._found = Check("stores", False, "the stores were not written to yet")
        self._look: asyncio.Task[None] | None = None

    async def check(self) -> Check:
        """Return whether all can be written; a disk that does not answer is one that cannot."""
        if self._look is None and self._clock() - self._looked >= FRESH:
            self._look = asyncio.create_task(self._write())
        if self._look is not None:
            await asyncio.wait({self._look}, timeout=PATIENCE)
            if self._look is not None:
                return Check("stores", False, f"the disk did not take a small write within {PATIENCE:g} s")
        return self._found

    async def close(self) -> None:
        """Wait for a write that is under way; nothing may close the stores before."""
        if self._look is not None:
            await self._look

    async def _write(self) -> None:
        try:
            full = await asyncio.to_thread(self._write_all)
            self._found = Check("stores", not full, "the disk is full" if full else "open and written to")
        except (StorageError, OSError, RuntimeError) as error:  # plyvel's word for a closed database
            log.warning("a store cannot be written: %s", error)
            self._found = Check("stores", False, "a store cannot be written; `l2proxy doctor` says which and why")
        finally:
            self._looked = self._clock()
            self._look = None

    def _write_all(self) -> bool:
        """Write to each; return whether a disk is full all the same."""
        for database in self._databases:
            database.space("readiness").write({b"written": b""})
        disks = [shutil.disk_usage(database.path) for database in self._databases]
        return any(disk.free < ROOM for disk in disks if disk.total)  # without a total nothing is known


def check_doors(port: int, sockets: Sequence[Path]) -> Check:
    """Return whether every door is where programs look for it; `port` 0: the dapp port is not open."""
    missing = [path.name for path in sockets if not path.is_socket()]
    if port == 0 or missing:
        return Check("doors", False, f"not open: {', '.join([*(['the dapp port'] if port == 0 else []), *missing])}")
    return Check("doors", True, "open")


def check_guards(unguarded: Collection[str]) -> Check:
    """Return whether every plugin with money on L1 could answer a dispute now (hardening.md 22)."""
    if unguarded:
        many = "a plugin" if len(unguarded) == 1 else f"{len(unguarded)} plugins"
        return Check("plugins", False, f"{many} with money on L1 could not answer a dispute; `l2proxy status` says why")
    return Check("plugins", True, "none is unguarded")


class Health:
    """All checks of one daemon. `doors` is asked each time: they open last. `unguarded`: plugins that are, by id."""

    def __init__(
        self, nodes: Nodes, stores: Stores, doors: Callable[[], Check], unguarded: Collection[str], stale_after: float
    ) -> None:
        self._nodes, self._stores, self._doors, self._stale_after = nodes, stores, doors, stale_after
        self._unguarded = unguarded

    async def checks(self) -> list[Check]:
        """Return every check."""
        l1, stores = await asyncio.gather(self._nodes.check(self._stale_after), self._stores.check())
        return [l1, stores, self._doors(), check_guards(self._unguarded)]


class Figures(Protocol):
    """What `/metrics` shows."""

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""


class Watched:
    """The daemon as the three paths of the dapp port show it."""

    def __init__(self, health: Health, figures: Figures) -> None:
        self._health, self._figures = health, figures

    async def checks(self) -> list[Check]:
        """Return every check of readiness."""
        return await self._health.checks()

    def metrics(self) -> bytes:
        """Return all figures."""
        return self._figures.text()
