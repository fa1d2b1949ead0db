"""Money of plugins on L1: persisted state machines from the plugin's wish to the confirmed transaction (plugin.md).

submit → checked → on disk, awaiting approval → the owner asked → the approval on disk with the operation → each step
waited for (a plan), signed, on disk, sent, confirmed (`operation_steps`) → done. A crash at any point loses nothing that was
acknowledged and sends nothing twice: whatever is open when the daemon starts goes on where its record stands. No money moves
here without an approval or an attested rule (security.md 10); a question still open at the end of the process is asked
again. Only `send`, which spends the plugin's own gas in its own gateway, asks nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from middleware.errors import (
    InvalidParams,
    LimitExceeded,
    RpcError,
    Unsupported,
)
from middleware.questions import Withdrawn
from middleware.waist import Context, Origin
from proxy.host.gateways import Gateways
from proxy.host.installed import InstalledPlugin
from proxy.host.operation_book import Book
from proxy.host.operation_doubts import OTHER_CODE, RESTORED, Doubts
from proxy.host.operation_driver import Driver
from proxy.host.operation_offers import Offer, Offers
from proxy.host.operation_ports import L1, Accounts, Approvals, Audit, OwnKeys, Transactions
from proxy.host.operation_records import ETH, Operation, OperationRecords, Step
from proxy.host.operation_requests import fill, gateway_of, read_plan, read_step
from proxy.host.operation_rights import OWN_KEY, Rights
from proxy.host.operation_steps import Steps
from proxy.host.operation_transfers import read_transfer
from proxy.host.operation_waits import Waits
from proxy.storage import Space, StorageError

log = logging.getLogger("l2proxy.operations")

KINDS = ("deposit", "withdraw", "plan", "transfer", "send")
PATIENCE = 15.0  # seconds after which an operation looks again although no block was announced
MAX_OPEN = 100  # operations of a plugin that are not over; as many more of `send`

Changed = Callable[[str, dict[str, Any]], None]


class Operations:
    """All operations of all plugins. `installed` returns a plugin as it is now; `confirmations` is for real chains.

    `own` and `own_transactions`: the plugins' own keys, for `send`, with a ledger of nonces of their own. `unguarded` says by
    plugin why nobody could answer a dispute (hardening.md 22); `guards` keeps it. `give_room` gives up some of the room that
    is kept on the disk for answers to disputes, and tells whether there was any. `book` counts what is written, here and outside
    the data directory; None: nobody does.
    """

    def __init__(
        self,
        space: Space,
        transactions: Transactions,
        l1: L1,
        approvals: Approvals,
        accounts: Accounts,
        gateways: Gateways,
        installed: Callable[[str], InstalledPlugin | None],
        confirmations: int = 12,
        clock: Callable[[], float] = time.time,
        *,
        own: OwnKeys,
        own_transactions: Transactions,
        audit: Audit,
        give_room: Callable[[], bool] = lambda: False,
        book: Book | None = None,
    ) -> None:
        self._l1, self._own, self._clock = l1, own, clock
        self._give_room, self._book = give_room, book
        self._records = OperationRecords(space, book)
        self._doubts = Doubts(installed)
        self._rights = Rights(installed, accounts, self._records.of)

        def depth() -> int:
            return 1 if l1.is_dev else confirmations

        def transactions_of(operation: Operation) -> Transactions:
            return transactions if operation.own is None else own_transactions

        self._both = (transactions, own_transactions)
        self._offers = Offers(transactions_of, gateways, clock)
        self._driver = Driver(
            self._records,
            self._rights,
            self._offers,
            Steps(l1, transactions_of, self._records, depth, self._tell),
            Waits(l1, depth, clock),
            approvals,
            own,
            audit,
            clock,
            self._tell,
            give_room,
            self._doubts,
        )
        self._callbacks: list[Changed] = []
        self._untold: dict[str, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat = asyncio.Event()
        self.unguarded: dict[str, str] = {}
        accounts.on_unlock(self._pulse)

    async def start(self, *, hold: bool = False) -> None:
        """Go on with everything that is open; `hold`: with what is not signed, once the plugin's store was `looked` at."""
        self._doubt_what_was_found()
        self._spawn(self._listen(), "operations: blocks")
        for operation in self._records.open():
            if hold:
                self._doubts.hold(operation.plugin)
            self._spawn(self._drive(operation, None), f"operation {operation.id}")

    async def close(self) -> None:
        """Stop where everything stands; the records say how to go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._book is not None:
            self._book.close()

    def hold(self, plugin_id: str) -> None:
        """Sign nothing of a plugin until its store was `looked` at."""
        self._doubts.hold(plugin_id)

    def looked(self, plugin_id: str, why: str, *, killed: bool = False) -> None:
        """A plugin's store was looked at; `why` it may not be the newest, empty: nothing speaks against it.

        `killed`: only that the daemon was killed between its last commit and the counter's. Its plugin forgot nothing of what
        it asked for then, and a `send`, to which nobody said yes, goes on.
        """
        if why:
            self._doubt(plugin_id, RESTORED.format(why), spared="send" if killed else "")
        self._doubts.looked(plugin_id)
        self._pulse()

    def exchanged(self, plugin_id: str) -> None:
        """Another version of a plugin runs from now on: what it is still to sign is asked again."""
        self._doubt(plugin_id, OTHER_CODE)
        self._pulse()

    def used(self, address: str) -> int:
        """Return the nonce after the highest that was given a transaction of this account here, 0 for none."""
        return max(transactions.used(address) for transactions in self._both)

    def _doubt_what_was_found(self) -> None:
        """Have approved anew what a restored backup or another version of its plugin brought along (hardening.md 13)."""
        why = self._book.doubt() if self._book is not None else ""
        for operation in self._records.open():
            if why:
                log.warning("operation %s needs to be approved anew: %s", operation.id, why)
                self._driver.doubt(operation, RESTORED.format(why))
            elif self._doubts.is_of_other_code(operation):
                self._driver.doubt(operation, OTHER_CODE)
        if self._book is not None:
            self._book.settle()

    def _doubt(self, plugin_id: str, warning: str, spared: str = "") -> None:
        """Have what a plugin asked for asked again, all kinds but `spared`."""
        for operation in self._records.of(plugin_id):
            if operation.kind != spared:
                self._doubts.add(operation, warning)
                self._driver.recall(operation)

    def on_change(self, callback: Changed) -> None:
        """Call `callback(plugin id, operation)` after each change that is on disk."""
        self._callbacks.append(callback)

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        """Return operations as callers see them, oldest first; with `origin`, without those another origin caused."""
        found = [one for one in self._records.of(plugin_id) if operation_id in (None, one.id)]
        return [one.shown() for one in found if origin is None or one.caused_by in (None, origin)]

    def records_of(self, plugin_id: str) -> list[Operation]:
        """Return the records of a plugin, oldest first, for the proxy's own reckoning."""
        return list(self._records.of(plugin_id))

    async def submit(self, plugin: InstalledPlugin, kind: str, params: dict[str, Any], context: Context) -> str:
        """Store an operation and return its id at once; the owner is asked next, for `send` nobody.

        A plan's `{operation, args}` says the arguments of the step of a stored plan that has none yet. Raise before anything
        is stored: `InvalidParams`, `Unauthorized` outside manifest or gateway and while locked, the node's error where the
        call would revert or cannot be paid, `LimitExceeded`, `Disconnected`.
        """
        if kind not in KINDS:
            raise Unsupported(kind, f"operations are {', '.join(KINDS)}")
        if kind == "plan" and "operation" in params:
            return self._supply(plugin, params)
        steps, undo = await self._wished(plugin, kind, params)
        operation = Operation(
            id=self._records.new_id(self._clock()),
            plugin=plugin.id,
            kind=kind,
            status="awaiting_approval",
            owner=plugin.owner,
            chain=self._l1.chain_id,
            code=plugin.digest,
            steps=steps,
            created=self._clock(),
            serving=None if context.serving is None else (context.serving.kind.value, context.serving.name),
            undo=undo,
        )
        if kind == "send":
            operation.key = (*plugin.path, OWN_KEY)
            operation.own = self._own.address(operation.key)
        self._rights.refuse_over_cap(operation)
        offer = await self._driver.make_offer(operation)
        self._refuse_crowd(operation)
        if kind == "send":
            self._driver.decide_by_policy(operation, offer)
        else:
            self._write(operation)
        self._spawn(self._drive(operation, offer), f"operation {operation.id}")
        return operation.id

    async def _wished(
        self, plugin: InstalledPlugin, kind: str, params: dict[str, Any]
    ) -> tuple[list[Step], Step | None]:
        """Return what the plugin asks for as steps, and what takes an allowance back."""
        if kind == "transfer":
            self._rights.refuse(plugin, kind)
            steps, undo = [read_transfer(params)], None
        elif kind == "plan":
            steps, undo = read_plan(plugin, params), None
            self._rights.refuse(plugin, kind)
        else:
            gateway = gateway_of(plugin, params)
            step = read_step(kind, gateway, params, locked=self._rights.locked)
            self._rights.refuse(plugin, kind)
            steps, undo = await self._offers.steps(gateway, step, plugin.owner)
        return steps, undo

    def _refuse_crowd(self, operation: Operation) -> None:
        """Raise `LimitExceeded` for too many at once, and for a second use of one allowance: one would undo the other's."""
        plugin, main = operation.plugin, operation.steps[-1]
        open_ones = self._records.open()
        alike = [one for one in open_ones if one.plugin == plugin and (one.own is None) == (operation.own is None)]
        if len(alike) >= MAX_OPEN:
            raise LimitExceeded("open_operations", f"{plugin} has {MAX_OPEN} operations that are not over")
        allowance = (operation.owner, main.asset, main.gateway and main.to)
        for one in open_ones:
            if operation.kind == "deposit" and main.asset != ETH and allowance in _allowances(one):
                why = f"operation {one.id} is paying the same token into the same gateway; ask again when it is over"
                raise LimitExceeded("token_deposits", why)

    def _supply(self, plugin: InstalledPlugin, params: dict[str, Any]) -> str:
        """Take the arguments of the first step that has none; the owner is asked when its turn comes."""
        operation = self._records.get(str(params["operation"]))
        if operation is None or operation.plugin != plugin.id or operation.over:
            raise InvalidParams("operation", "the id of a plan of yours that is not over", params["operation"])
        step = next((step for step in operation.steps if step.args is None), None)
        if step is None or "args" not in params or "steps" in params:
            raise InvalidParams(
                "args", "with operation: the arguments of its step that has none yet", params.get("args")
            )
        self._rights.refuse(plugin, "plan")
        fill(step, self._rights.gateway_named(operation, step.gateway or ""), params["args"])
        self._write(operation)
        self._pulse()
        return operation.id

    # -- driving

    async def _drive(self, operation: Operation, offer: Offer | None) -> None:
        """Take an operation through its states until it is over."""
        while not operation.over:
            beat = self._beat
            try:
                goes_on = await self._driver.advance(operation, offer)
            except Withdrawn:
                return  # the daemon stops; the question is asked again under a new id
            except StorageError as error:
                # What could not be written never happened: the operation is again what it is on disk.
                goes_on = operation.kind == "send" and self._give_room()
                if not goes_on:
                    log.error("operation %s stands still: %s", operation.id, error)  # noqa: TRY400 - the message says it
            except RpcError as error:
                # What is final was caught where it is known; here the node is away, too busy, or lacks a state.
                log.info("operation %s waits for the node: %s", operation.id, error.message)
                goes_on = False
            offer = None
            if not goes_on:
                await self._wait(beat, operation)

    # -- keeping

    def _write(self, operation: Operation) -> None:
        self._records.write(operation)
        self._tell(operation)

    def _tell(self, operation: Operation) -> None:
        """Tell everybody what is on disk now. Who cannot note it down is told again with the next block."""
        self._untold.pop(operation.id, None)
        for callback in tuple(self._callbacks):
            try:
                callback(operation.plugin, operation.shown())
            except StorageError as error:
                log.warning("a change of operation %s could not be handed on: %s", operation.id, error)
                self._untold[operation.id] = operation

    # -- waiting

    async def _listen(self) -> None:
        async for _ in self._l1.blocks.events():
            self._pulse()
            for operation in list(self._untold.values()):
                self._tell(operation)

    def _pulse(self) -> None:
        beat, self._beat = self._beat, asyncio.Event()
        beat.set()

    async def _wait(self, beat: asyncio.Event, operation: Operation) -> None:
        """Return at the next block or unlock, at the moment waited for, or after a while in case none is announced."""
        seconds, step = PATIENCE, operation.next_step()
        if operation.status == "waiting" and step is not None and step.wait is not None and not step.waited:
            moment = float(step.wait.get("time", 0)) - self._clock()
            seconds = min(PATIENCE, moment) if moment > 0 else PATIENCE
        try:
            async with asyncio.timeout(seconds):
                await beat.wait()
        except TimeoutError:
            return

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("%s stopped and goes on at the next start", task.get_name(), exc_info=failure)


def _allowances(operation: Operation) -> set[tuple[str, str, str | None]]:
    """Return the allowances an operation uses: whose, of which token, for which gateway."""
    if operation.kind != "deposit":
        return set()
    return {
        (operation.owner, step.asset, step.gateway and step.to) for step in operation.steps if not step.is_allowance
    }
