"""Operations as they lie on disk, and as plugins and sites see them (rpc.md, "Operation").

One record an operation, rewritten whole with each step of its life; nothing is sent before the record that says so is on
disk. Members that callers must not see (calldata, nonces, decisions, who else caused what) never get into `shown`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from middleware.waist import Origin, OriginKind
from proxy.host.operation_book import Book
from proxy.storage import Batch, Space, StorageError

OperationStatus = Literal["awaiting_approval", "running", "waiting", "done", "rejected", "failed"]
StepStatus = Literal["pending", "submitted", "mined", "confirmed", "reverted", "dropped"]

ETH = "ETH"
OVER = ("done", "rejected", "failed")
"""The statuses after which nothing changes any more."""


class Step(msgspec.Struct, kw_only=True):
    """One transaction. `args` in wire form (None: not known yet), `value` in wei; `to` and `data` are what gets executed.

    `gateway` None: a transfer, `function` None: a plain payment. `prepared`: what was approved; `nonce` and `hashes` (the
    newest, or the one that was mined, is the last): set before the first send; `attempt`: the newest one as it was signed,
    `sent_at` the head then; `code`: hash of the gateway's code the approval counts for; `wait`: the `waitFor`, counted from
    block `wait_from`; `pays_in`: what a plan pays into the gateway; `returned`: wei the transaction brought to the owner.
    """

    gateway: str | None
    function: str | None
    args: list[Any] | None
    value: int
    to: str
    data: str
    asset: str = ETH
    amount: int = 0
    is_allowance: bool = False
    pays_in: bool = False
    wait: dict[str, Any] | None = None
    wait_from: int | None = None
    waited: bool = False
    status: StepStatus = "pending"
    hashes: list[str] = []
    nonce: int | None = None
    block: int | None = None
    confirmations: int = 0
    prepared: dict[str, Any] | None = None
    attempt: dict[str, Any] | None = None
    sent_at: int | None = None
    code: str | None = None
    returned: int | None = None

    def shown(self) -> dict[str, Any]:
        """Return the step as callers see it."""
        view: dict[str, Any] = {
            "gateway": self.gateway,
            "function": self.function,
            "args": self.args,
            "value": hex(self.value),
            "status": self.status,
            "hashes": self.hashes,
            "confirmations": hex(self.confirmations),
        }
        if self.gateway is None:
            view["to"] = self.to
        if self.block is not None:
            view["blockNumber"] = hex(self.block)
        if self.wait is not None:
            view["waitFor"] = self.wait
        return view

    @property
    def is_sent(self) -> bool:
        """Tell whether it owns a nonce: it is signed, and may be mined at any time."""
        return self.nonce is not None

    @property
    def stands(self) -> bool:
        """Tell whether it took effect on L1, or still may."""
        return self.is_sent and self.status not in ("reverted", "dropped")


class Ending(msgspec.Struct, kw_only=True):
    """How an operation ends once the allowance it left is taken back."""

    status: Literal["rejected", "failed"]
    error: dict[str, Any] | None


class Operation(msgspec.Struct, kw_only=True):
    """A deposit, withdrawal, plan, transfer or send. `serving`: kind and name of the origin it was caused by, None: the
    plugin itself; `code`: digest of the plugin's code; `decision`: the approval, written before anything is sent; `own` and
    `key`: address and path of the plugin's key it is sent with, None: the owner's; `undo`: the step that takes the
    allowance back if the deposit fails, the last of `steps` once `ending` says that it did; `doubt`: the warning with which
    it is asked again, until it is approved.
    """

    id: str
    plugin: str
    kind: str
    status: OperationStatus
    owner: str
    chain: int
    code: str
    steps: list[Step]
    created: float
    serving: tuple[str, str] | None = None
    error: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    own: str | None = None
    key: tuple[int, ...] | None = None
    undo: Step | None = None
    ending: Ending | None = None
    doubt: str = ""

    @property
    def sender(self) -> str:
        """The account its transactions are sent from."""
        return self.own or self.owner

    @property
    def caused_by(self) -> Origin | None:
        """The origin the plugin served when it asked, None: nobody, it asked by itself."""
        return None if self.serving is None else Origin(OriginKind(self.serving[0]), self.serving[1])

    @property
    def over(self) -> bool:
        """Tell whether nothing will change any more."""
        return self.status in OVER

    def next_step(self) -> Step | None:
        """Return the first step that is not final; once it failed, the one that takes the allowance back."""
        ahead = self.steps if self.ending is None else self.steps[-1:]
        return next((step for step in ahead if step.status != "confirmed"), None)

    def unsent(self) -> list[Step]:
        """Return the steps that are still to be signed and whose arguments are known."""
        ahead = self.steps if self.ending is None else self.steps[-1:]
        return [step for step in ahead if not step.is_sent and step.args is not None and step.status == "pending"]

    def allowed(self) -> Step | None:
        """Return the allowance step whose amount the gateway still may take without a deposit, None where there is none."""
        if any(step.stands for step in self.steps if not step.is_allowance):
            return None
        # One that takes back counts once it is confirmed, one that gives from the moment it may be mined.
        counts = [step for step in self.steps if step.is_allowance and step.stands]
        counts = [step for step in counts if step.amount or step.status == "confirmed"]
        return counts[-1] if counts and counts[-1].amount else None

    def pays_in(self, step: Step) -> bool:
        """Tell whether a step pays into a gateway from the main account."""
        return step.pays_in or (self.kind == "deposit" and not step.is_allowance)

    def brought_back(self, step: Step) -> int:
        """Return the wei a step provably brought back, negative for one that carried more in; what `pays_in` counts elsewhere."""
        if step.status != "confirmed" or step.returned is None:
            return 0
        return step.returned if self.pays_in(step) else step.returned - step.value

    def shown(self) -> dict[str, Any]:
        """Return the operation as callers see it."""
        view: dict[str, Any] = {
            "id": self.id,
            "plugin": self.plugin,
            "kind": self.kind,
            "status": self.status,
            "steps": [step.shown() for step in self.steps],
        }
        if self.error is not None:
            view["error"] = self.error
        return view


class OperationRecords:
    """All operations, in memory and on disk; `book` counts the writes."""

    def __init__(self, space: Space, book: Book | None = None) -> None:
        self._space, self._book = space, book
        self._last = 0
        self._all = {key.decode(): msgspec.json.decode(value, type=Operation) for key, value in space.scan()}

    def new_id(self, now: float) -> str:
        """Return a new operation's id: in the order of time, and not to be guessed."""
        newest = max(self._all, default="")
        self._last = max(int(now * 1000), self._last + 1, int(newest[:12] or "0", 16) + 1)
        return f"{self._last:012x}{secrets.token_hex(10)}"

    def put(self, operation: Operation, batch: Batch) -> None:
        """Add the operation, known already, as it is now to a batch; `committed` is due once that is on disk."""
        batch.put(self._space, operation.id.encode(), msgspec.json.encode(operation))
        if self._book is not None:
            self._book.put(batch)

    def committed(self) -> None:
        """What was put into a batch is on disk."""
        if self._book is not None:
            self._book.committed()

    def write(self, operation: Operation, batch: Batch | None = None) -> None:
        """Put the operation on disk, together with what `batch` holds. Where that fails it is again what it was."""
        batch = batch if batch is not None else Batch()
        self.put(operation, batch)
        try:
            self._space.database.commit(batch)
        except StorageError:
            self.restore(operation)
            raise
        self.committed()
        self._all[operation.id] = operation  # nobody sees what is not on disk

    def restore(self, operation: Operation) -> None:
        """Make an operation again what it is on disk: what could not be written never happened."""
        stored = self._space.get(operation.id.encode())
        if stored is None:
            return
        known = msgspec.json.decode(stored, type=Operation)
        for name in Operation.__struct_fields__:
            setattr(operation, name, getattr(known, name))

    def get(self, operation_id: str) -> Operation | None:
        """Return an operation."""
        return self._all.get(operation_id)

    def of(self, plugin: str) -> Iterator[Operation]:
        """Yield the operations of a plugin, oldest first."""
        yield from sorted((one for one in self._all.values() if one.plugin == plugin), key=lambda one: one.id)

    def open(self) -> list[Operation]:
        """Return what is not over, oldest first."""
        return sorted((one for one in self._all.values() if not one.over), key=lambda one: one.id)
