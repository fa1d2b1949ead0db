"""The budget link: reserves what the action says, and gives it back only where nothing was spent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from middleware.budget import BudgetLink
from middleware.errors import PluginFailed, Refused, Unauthorized
from middleware.invocation import ActionSpec, Invocation
from middleware.waist import SOCKET, Answer, Context, Origin, Request, result


class Spec:
    plugin, name, approval, idempotent, digest = "paychan", "pay", "policy", False, "0x"

    def __init__(self, spends: dict[str, str] | None) -> None:
        self.spends = spends


class Actions:
    def __init__(self) -> None:
        self.spends: dict[str, str] | None = {"param": "value", "asset": "ETH"}

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        return Spec(self.spends)

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        raise AssertionError("checked before")


class Budgets:
    def __init__(self, there: bool = True, recorded: bool = False) -> None:
        self.there, self.recorded = there, recorded
        self.steps: list[str] = []

    def reserve(self, origin: Origin, invocation: Invocation, asset: str, amount: int) -> bool:
        if amount > 100:
            raise Unauthorized("the budget is spent")
        self.steps.append(f"reserve {amount} {asset}")
        return self.there

    def is_recorded(self, call: str) -> bool:
        return self.recorded

    def give_back(self, call: str) -> None:
        self.steps.append(f"give back {call}")

    def done(self, call: str) -> None:
        self.steps.append(f"done {call}")


async def invoke(budgets: Budgets, value: str = "0x3c", outcome: Any = None, actions: Actions | None = None) -> Answer:
    async def terminal(request: Request, context: Context) -> Answer:
        budgets.steps.append("asked")
        if outcome is not None:
            raise outcome
        return result(None)

    raw = result(["paychan", "pay", {"value": value}, {"call": "c1"}]).json
    return await BudgetLink(budgets, actions or Actions())(Request("l2_invoke", raw), Context(SOCKET), terminal)


async def test_the_declared_amount_is_reserved() -> None:
    budgets = Budgets()
    await invoke(budgets)
    assert budgets.steps == ["reserve 60 ETH", "asked", "done c1"]


async def test_beyond_the_budget_nobody_is_asked() -> None:
    budgets = Budgets()
    with pytest.raises(Unauthorized):
        await invoke(budgets, "0x65")
    assert budgets.steps == []


async def test_without_a_budget_or_a_cost_it_says_nothing() -> None:
    budgets = Budgets(there=False)
    await invoke(budgets)
    assert budgets.steps == ["reserve 60 ETH", "asked"]
    silent, actions = Budgets(), Actions()
    actions.spends = None
    await invoke(silent, actions=actions)
    assert silent.steps == ["asked"]


@pytest.mark.parametrize(
    ("outcome", "recorded", "last"),
    [
        (Refused("no"), False, "give back c1"),
        (asyncio.CancelledError(), False, "give back c1"),
        (asyncio.CancelledError(), True, "done c1"),
        (RuntimeError("ours"), True, "done c1"),
        (PluginFailed("paychan", 1, "no"), True, "done c1"),
        (PluginFailed("paychan", 1, "no", {"spent": False}), True, "give back c1"),
    ],
)
async def test_what_failed_counts_unless_nothing_was_spent(outcome: BaseException, recorded: bool, last: str) -> None:
    budgets = Budgets(recorded=recorded)
    with pytest.raises(type(outcome)):
        await invoke(budgets, outcome=outcome)
    assert budgets.steps[-1] == last
