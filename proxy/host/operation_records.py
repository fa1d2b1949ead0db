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
from proxy.storage import Batch, Space

OperationStatus = Literal["awaiting_approval", "running", "waiting", "done", "rejected", "failed"]
StepStatus = Literal["pending", "submitted", "mined", "confirmed", "reverted", "dropped"]

ETH = "ETH"


class Step(msgspec.Struct, kw_only=True):
    """One transaction. `args` in wire form, `value` in wei; `to` and `data` are what gets executed.

    `prepared`: what was approved; `nonce` and `hashes`: set before the first send; `code`: hash of the gateway's code the
    approval counts for; `returned`: wei the transaction brought to the owner.
    """

    gateway: str
    function: str
    args: list[Any]
    value: int
    to: str
    data: str
    asset: str = ETH
    amount: int = 0
    is_allowance: bool = False
    status: StepStatus = "pending"
    hashes: list[str] = []
    nonce: int | None = None
    block: int | None = None
    confirmations: int = 0
    prepared: dict[str, Any] | None = None
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
        if self.block is not None:
            view["blockNumber"] = hex(self.block)
        return view


class Operation(msgspec.Struct, kw_only=True):
    """A deposit or withdrawal. `serving`: kind and name of the origin it was caused by, None: the plugin itself; `code`:
    digest of the plugin's code; `decision`: the approval, written before anything is sent.
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

    @property
    def caused_by(self) -> Origin | None:
        """The origin the plugin served when it asked, None: nobody, it asked by itself."""
        return None if self.serving is None else Origin(OriginKind(self.serving[0]), self.serving[1])

    @property
    def over(self) -> bool:
        """Tell whether nothing will change any more."""
        return self.status in ("done", "rejected", "failed")

    def next_step(self) -> Step | None:
        """Return the first step that is not final."""
        return next((step for step in self.steps if step.status != "confirmed"), None)

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
    """All operations, in memory and on disk."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._last = 0
        self._all = {key.decode(): msgspec.json.decode(value, type=Operation) for key, value in space.scan()}

    def new_id(self, now: float) -> str:
        """Return a new operation's id: in the order of time, and not to be guessed."""
        newest = max(self._all, default="")
        self._last = max(int(now * 1000), self._last + 1, int(newest[:12] or "0", 16) + 1)
        return f"{self._last:012x}{secrets.token_hex(10)}"

    def put(self, operation: Operation, batch: Batch) -> None:
        """Add the operation, known already, as it is now to a batch."""
        batch.put(self._space, operation.id.encode(), msgspec.json.encode(operation))

    def write(self, operation: Operation, batch: Batch | None = None) -> None:
        """Put the operation on disk, together with what `batch` holds."""
        batch = batch if batch is not None else Batch()
        self.put(operation, batch)
        self._space.database.commit(batch)
        self._all[operation.id] = operation  # nobody sees what is not on disk

    def get(self, operation_id: str) -> Operation | None:
        """Return an operation."""
        return self._all.get(operation_id)

    def of(self, plugin: str) -> Iterator[Operation]:
        """Yield the operations of a plugin, oldest first."""
        yield from sorted((one for one in self._all.values() if one.plugin == plugin), key=lambda one: one.id)

    def open(self) -> list[Operation]:
        """Return what is not over, oldest first."""
        return sorted((one for one in self._all.values() if not one.over), key=lambda one: one.id)
