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
    AlreadyPending,
    Disconnected,
    InvalidParams,
    LimitExceeded,
    Refused,
    RpcError,
    Unauthorized,
    Unsupported,
)
from middleware.questions import Withdrawn
from middleware.waist import Context, Origin
from proxy.host.gateways import Gateways
from proxy.host.installed import InstalledPlugin
from proxy.host.operation_endings import conclude, left_out, out_of_gas, reverted
from proxy.host.operation_offers import Offer, Offers
from proxy.host.operation_ports import L1, Accounts, Approvals, Audit, OwnKeys, Transactions
from proxy.host.operation_questions import operation_digest, operation_question
from proxy.host.operation_records import ETH, Operation, OperationRecords, Step
from proxy.host.operation_requests import fill, gateway_of, read_plan, read_step
from proxy.host.operation_rights import OWN_KEY, Rights
from proxy.host.operation_steps import BUSY, Outcome, Steps
from proxy.host.operation_transfers import read_transfer
from proxy.host.operation_waits import Waits, arguments_from
from proxy.storage import Batch, Space, StorageError

log = logging.getLogger("l2proxy.operations")

KINDS = ("deposit", "withdraw", "plan", "transfer", "send")
PATIENCE = 15.0  # seconds after which an operation looks again although no block was announced
MAX_OPEN = 100  # operations of a plugin that are not over; as many more of `send`

Changed = Callable[[str, dict[str, Any]], None]


class Operations:
    """All operations of all plugins. `installed` returns a plugin as it is now; `confirmations` is for real chains.

    `own` and `own_transactions`: the plugins' own keys, for `send`, with a ledger of nonces of their own. `unguarded` says by
    plugin why nobody could answer a dispute (hardening.md 22); `guards` keeps it. `give_room` gives up some of the room that
    is kept on the disk for answers to disputes, and tells whether there was any.
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
    ) -> None:
        self._l1, self._approvals, self._own, self._audit = l1, approvals, own, audit
        self._give_room = give_room
        self._transactions, self._own_transactions = transactions, own_transactions
        self._clock = clock
        self._records = OperationRecords(space)
        self._rights = Rights(installed, accounts)

        def depth() -> int:
            return 1 if l1.is_dev else confirmations

        self._offers = Offers(self._transactions_of, gateways, clock)
        self._steps = Steps(l1, self._transactions_of, self._records, depth, self._tell)
        self._waits = Waits(l1, depth, clock)
        self._callbacks: list[Changed] = []
        self._untold: dict[str, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat = asyncio.Event()
        self.unguarded: dict[str, str] = {}
        accounts.on_unlock(self._pulse)

    async def start(self) -> None:
        """Go on with everything that is open."""
        self._spawn(self._listen(), "operations: blocks")
        for operation in self._records.open():
            self._spawn(self._drive(operation, None), f"operation {operation.id}")

    async def close(self) -> None:
        """Stop where everything stands; the records say how to go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        offer = await self._make_offer(operation)
        self._refuse_crowd(operation)
        if kind == "send":
            self._decide_by_policy(operation, offer)
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
                if operation.status == "awaiting_approval":
                    goes_on = await self._ask(operation, offer)
                else:
                    goes_on = await self._run(operation)
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

    async def _ask(self, operation: Operation, offer: Offer | None) -> bool:
        """Ask the owner; put the answer on disk. Return whether to go on at once."""
        if not self._may_sign(operation):
            return False
        try:
            self._rights.check(operation)
            if offer is None:
                offer = await self._make_offer(operation)
            if operation.kind == "send":
                self._decide_by_policy(operation, offer)
            else:
                await self._decide(operation, offer)
        except Withdrawn:
            raise
        except RpcError as error:
            if _passes(error):
                raise
            if _is_poor(error) and _is_half_done(operation):
                return self._stay(operation, error)
            if isinstance(error, AlreadyPending | LimitExceeded) and any(step.hashes for step in operation.steps):
                return False  # what is on its way fails for no full queue of questions
            self._end(operation, "rejected" if isinstance(error, Refused | Unauthorized) else "failed", error)
        return True

    async def _decide(self, operation: Operation, offer: Offer) -> None:
        def apply(_chosen: Any) -> None:
            # On disk before anybody hears of the approval, and before anything is sent.
            self._approve(operation, offer, {"at": self._clock()})

        question = operation_question(
            operation, offer, operation.caused_by, lambda: self._rights.check(operation), apply
        )
        decision = await self._approvals.ask(question)
        if operation.status != "running":
            raise RuntimeError(f"operation {operation.id} was approved and its approval was not applied")
        operation.decision = {
            "source": decision.source,
            "id": decision.id,
            "at": decision.at,
            "digest": question.digest,
        }
        self._records.write(operation)

    def _decide_by_policy(self, operation: Operation, offer: Offer) -> None:
        """Let a `send` go: it calls the plugin's own gateway with the plugin's own gas. Recorded, or it fails."""
        (step,) = operation.steps
        digest = operation_digest(operation, offer)
        event = {
            "event": "send",
            "origin": str(Origin.plugin(operation.plugin)),
            "operation": operation.id,
            "from": operation.sender,
            "to": step.to,
            "function": step.function,
            "source": "policy",
            "digest": digest,
            **({"warnings": list(offer.warnings)} if offer.warnings else {}),
        }
        self._certainly(lambda: self._audit.append(event))
        decision = {"source": "policy", "at": self._clock(), "digest": digest}
        self._certainly(lambda: self._approve(operation, offer, decision))

    def _certainly(self, write: Callable[[], None]) -> None:
        """Write, if need be into the room that is kept on the disk: a full one stops no answer to a dispute."""
        while True:
            try:
                write()
            except StorageError:
                if not self._give_room():
                    raise
            else:
                return

    def _approve(self, operation: Operation, offer: Offer, decision: dict[str, Any]) -> None:
        for step, prepared, code in zip(offer.steps, offer.prepared, offer.codes, strict=True):
            step.prepared, step.code = prepared.to_json(), code
        if operation.undo is not None and offer.undo is not None:
            operation.undo.prepared = offer.undo.to_json()
        operation.status, operation.error, operation.decision = "running", None, decision
        self._write(operation)

    async def _run(self, operation: Operation) -> bool:
        """Take the next step of an approved operation. Return whether to go on at once."""
        step = operation.next_step()
        if step is None:
            self._end(operation, "done", None)
            return True
        if not step.is_sent:
            return await self._begin(operation, step)
        self._may_sign(operation)  # an own key is taken out again after a restart, should the fee have to grow
        outcome = await self._steps.follow(operation, step)
        if outcome is Outcome.GAP:
            return self._stay(operation, left_out(operation.sender, step))
        if operation.status == "waiting":
            operation.status, operation.error = "running", None
            self._write(operation)
        if outcome is Outcome.FAILED:
            self._end(operation, "failed", reverted(step))
        if outcome is Outcome.OUT_OF_GAS:
            self._end(operation, "failed", out_of_gas(step))
        if outcome is Outcome.DISPLACED:
            # Nothing was executed and nothing can be any more. A second nonce only by a new question (hardening.md 21).
            log.warning("operation %s: another transaction took nonce %s", operation.id, step.nonce)
            batch = Batch()
            self._steps.displace(operation, step, batch)
            self._ask_again(operation, batch)
            return True
        return outcome is not Outcome.WAIT

    async def _begin(self, operation: Operation, step: Step) -> bool:
        """Send a step once what it waits for has happened and its arguments are known and approved."""
        try:
            if step.wait is not None and not step.waited and not await self._has_waited(operation, step):
                return self._stay(operation, None)
        except Unauthorized as error:
            self._end(operation, "failed", error)
            return True
        if step.args is None:
            return self._stay(operation, None)
        if step.prepared is None:
            self._ask_again(operation)
            return True
        return await self._send(operation, step)

    async def _has_waited(self, operation: Operation, step: Step) -> bool:
        """Look whether a step's wait is over; an event may bring its arguments along."""
        if step.wait_from is None:
            before = operation.steps[: operation.steps.index(step)]
            step.wait_from = before[-1].block if before and before[-1].block else await self._waits.head()
            self._write(operation)
        event = (step.wait or {}).get("event")
        gateway = None if event is None else self._rights.gateway_named(operation, event["gateway"])
        happened = await self._waits.is_over(step, gateway)
        if happened is None:
            return False
        step.waited = True
        if step.args is None:
            target = self._rights.gateway_named(operation, step.gateway or "")
            if (found := arguments_from(step, target, happened)) is not None:
                fill(step, target, found)
        self._write(operation)
        return True

    async def _send(self, operation: Operation, step: Step) -> bool:
        if not self._may_sign(operation):
            return False
        try:
            self._rights.check(operation)
            gateway = self._rights.gateway_of(operation, step)
            prepared = await self._offers.current(operation, step, gateway)
            if prepared is None:
                self._ask_again(operation)
                return True
            operation.status, operation.error = "running", None
            await self._steps.send(operation, step, prepared)
        except RpcError as error:
            return self._unsent(operation, step, error)
        return True

    def _unsent(self, operation: Operation, step: Step, error: RpcError) -> bool:
        """A step was not sent: try later, ask again, or end. Return whether to go on at once."""
        if step.status != "dropped":
            if _passes(error):
                raise error
            if not self._may_sign(operation):
                return False  # locked in this very moment; nothing was signed
            if isinstance(error, Refused) and not step.is_sent:
                self._ask_again(operation)
                return True
            if _is_poor(error) and _is_half_done(operation):
                return self._stay(operation, error)
        self._end(operation, "failed", error)
        return True

    def _ask_again(self, operation: Operation, batch: Batch | None = None) -> None:
        """What was approved does not hold any more (too late, other code, more gas, nonce gone): back to the owner."""
        operation.status, operation.decision = "awaiting_approval", None
        for step in operation.unsent():
            step.prepared = step.code = None
        self._records.write(operation, batch)
        self._tell(operation)

    def _stay(self, operation: Operation, error: RpcError | None) -> bool:
        """Wait for an event, a block, a time, arguments or funds. Return False: nothing to do before the next block."""
        shown = None if error is None else error.to_json()
        if (operation.status, operation.error) != ("waiting", shown):
            operation.status, operation.error = "waiting", shown
            self._write(operation)
        return False

    def _may_sign(self, operation: Operation) -> bool:
        """Tell whether the lock lets the next step be signed now, and its key is at hand."""
        if not self._rights.may_sign(operation):
            return False
        try:
            return operation.key is None or self._own.address(operation.key) == operation.own
        except Unauthorized:
            return False

    async def _make_offer(self, operation: Operation) -> Offer:
        return await self._offers.make(operation, lambda step: self._rights.gateway_of(operation, step))

    def _transactions_of(self, operation: Operation) -> Transactions:
        return self._transactions if operation.own is None else self._own_transactions

    # -- keeping

    def _end(self, operation: Operation, status: Any, error: RpcError | None) -> None:
        """End an operation, or first take back the allowance that its failure left (hardening.md 20)."""
        conclude(operation, status, error)
        self._write(operation)

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


def _passes(error: RpcError) -> bool:
    """Tell whether the node may do later what it did not do now."""
    return isinstance(error, Disconnected) or (type(error) is RpcError and error.code in BUSY)


def _is_poor(error: RpcError) -> bool:
    """Tell whether the sender could not pay."""
    return error.code == -32000 and isinstance(error.data, dict) and "needed" in error.data


def _allowances(operation: Operation) -> set[tuple[str, str, str | None]]:
    """Return the allowances an operation uses: whose, of which token, for which gateway."""
    if operation.kind != "deposit":
        return set()
    return {
        (operation.owner, step.asset, step.gateway and step.to) for step in operation.steps if not step.is_allowance
    }


def _is_half_done(operation: Operation) -> bool:
    """Tell whether something of it is on L1 already, so that it waits for funds rather than fails."""
    return any(step.status == "confirmed" for step in operation.steps)
