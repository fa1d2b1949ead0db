"""How much of an origin's budget is spent: a rolling window per origin, plugin and asset (rpc.md, "Permissions").

An amount counts from the moment it is reserved; it lies on disk with the record that the plugin is asked (invocations.py),
so that a crash refunds nothing that may have been spent (hardening.md 15).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from middleware.errors import Unauthorized
from middleware.invocation import METHOD, Invocation
from middleware.permission import command
from middleware.waist import Origin
from proxy.authority.capabilities import Budget
from proxy.authority.ledger import Ledger
from proxy.storage import Batch


class Permissions(Protocol):
    """Where budgets are granted."""

    def budget(self, origin: Origin, plugin: str) -> Budget | None:
        """Return the budget of `origin` for a plugin."""


Refused: TypeAlias = Callable[[Origin, str, str, tuple[str, ...]], None]
"""Hears of a refusal: who, method, reason, the words of the command that would grant it."""


class Budgets:
    """The amounts in flight and spent."""

    def __init__(self, ledger: Ledger, permissions: Permissions, refused: Refused) -> None:
        self._ledger, self._permissions, self._refused = ledger, permissions, refused
        self._reserved: dict[str, str] = {}
        self._recorded: set[str] = set()

    def reserve(self, origin: Origin, invocation: Invocation, asset: str, amount: int) -> bool:
        """Count `amount` for this call; False: no budget in `asset`. Raises 4100 when it does not fit."""
        budget = self._permissions.budget(origin, invocation.plugin)
        if budget is None or budget.asset.lower() != asset.lower():
            return False
        name = f"{origin} {invocation.plugin} {asset.lower()}"
        if not self._ledger.has(name, invocation.call):
            spent, _ = self._ledger.spent(name, budget.period)
            if spent + amount > budget.amount:
                # The owner's words have nothing in them that the asker chose: each other amount would be another line (`notices`).
                reason = (
                    f"the budget of {origin} for {invocation.plugin} is spent: {budget.amount - spent} of {budget.amount}"
                    f" left within {budget.period} s"
                )
                grant = ("permission", "grant", str(origin), "--allow-plugin", invocation.plugin)
                self._refused(origin, METHOD, reason, grant)
                raise Unauthorized(f"{reason}, {amount} asked", command(*grant))
            self._ledger.hold(name, invocation.call, amount)
        self._reserved[invocation.call] = name
        return True

    def covers(self, call: str) -> bool:
        """Tell whether this call's amount is reserved from a budget."""
        return call in self._reserved

    def record(self, batch: Batch, call: str) -> None:
        """Add what is reserved for this call, if anything, to `batch`."""
        name = self._reserved.get(call)
        if name is not None:
            self._ledger.store(batch, name, call)
            self._recorded.add(call)

    def is_recorded(self, call: str) -> bool:
        """Tell whether the call's amount is on disk: the plugin may have been asked."""
        return call in self._recorded

    def give_back(self, call: str) -> None:
        """Count the amount of this call no more."""
        name = self._reserved.get(call)
        if name is not None:
            self._ledger.give_back(name, call)
        self.done(call)

    def done(self, call: str) -> None:
        """Hear that the call ended; what was not given back stays spent."""
        self._reserved.pop(call, None)
        self._recorded.discard(call)
