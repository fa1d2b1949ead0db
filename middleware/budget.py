"""The budget link: what an action says it spends is reserved from the origin's budget before anybody is asked.

A budget is always a cap (hardening.md 12): what exceeds it is 4100, whatever a rule or the owner would say. It is given
back only if the plugin was never asked or says it spent nothing; what is unknown counts as spent (hardening.md 15).
Without a budget in the asset this link says nothing, and the approval link asks.
"""

from __future__ import annotations

from typing import Protocol

from middleware.errors import RpcError
from middleware.invocation import METHOD, Actions, ActionSpec, Invocation, never_asked, read_checked, spent_nothing
from middleware.waist import Answer, Context, Next, Origin, Request


class Budgets(Protocol):
    """The budgets of origins."""

    def reserve(self, origin: Origin, invocation: Invocation, asset: str, amount: int) -> bool:
        """Count `amount` for this call; False: no budget in `asset`. Raises 4100 when it does not fit."""

    def is_recorded(self, call: str) -> bool:
        """Tell whether the call's amount is on disk: the plugin may have been asked."""

    def give_back(self, call: str) -> None:
        """Count the amount of this call no more."""

    def done(self, call: str) -> None:
        """Hear that the call ended and its amount stays spent."""


class BudgetLink:
    """Reserves what an action spends."""

    def __init__(self, budgets: Budgets, actions: Actions) -> None:
        self._budgets, self._actions = budgets, actions

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for l2_invoke alone."""
        return method == METHOD

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Go on with the amount reserved. Raises 4100 when the budget does not cover it."""
        invocation = read_checked(request)
        spec = self._actions.action_spec(invocation.plugin, invocation.action)
        amount = None if spec is None else spent_amount(spec, invocation)
        if spec is None or spec.spends is None or amount is None:
            return await next(request, context)
        if not self._budgets.reserve(context.origin, invocation, spec.spends["asset"], amount):
            return await next(request, context)
        try:
            answer = await next(request, context)
        except BaseException as error:
            asked = self._budgets.is_recorded(invocation.call)
            if not asked or (isinstance(error, RpcError) and (never_asked(error) or spent_nothing(error))):
                self._budgets.give_back(invocation.call)
            else:
                self._budgets.done(invocation.call)
            raise
        self._budgets.done(invocation.call)
        return answer


def spent_amount(spec: ActionSpec, invocation: Invocation) -> int | None:
    """Return the most this call may cost, in the smallest unit of the declared asset; None: the action does not say."""
    if spec.spends is None:
        return None
    return int(str(invocation.params[spec.spends["param"]]), 0)
