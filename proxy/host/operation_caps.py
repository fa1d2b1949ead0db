"""How much of the owner's may be inside a plugin's gateways at once, where the owner set a cap (hardening.md 16).

Budgets bind the sites that call a plugin; a cap binds the plugin itself. Counted as in `deposits`: what operations paid in
or are about to, less what provably came back. Pure: nothing is asked, stored or sent here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from middleware.amounts import ether
from middleware.errors import Unauthorized
from proxy.host.operation_records import ETH, Operation


def refuse_over_cap(operation: Operation, caps: Mapping[str, int], others: Iterable[Operation]) -> None:
    """Raise `Unauthorized` where the operation would bring more of an asset inside than its cap. `others`: the plugin's."""
    wanted = _inside((operation,))
    capped = {asset: amount for asset, amount in wanted.items() if amount > 0 and asset in caps}
    if not capped:
        return
    inside = _inside(others)
    for asset, amount in capped.items():
        if max(inside[asset], 0) + amount > caps[asset]:
            raise Unauthorized(
                f"deposits of {operation.plugin} may come to {_text(caps[asset], asset)} in all; {_text(inside[asset], asset)}"
                f" are inside, and this brings {_text(amount, asset)} more",
                f"l2proxy plugin set-cap {operation.plugin} {asset} AMOUNT",
            )


def _inside(operations: Iterable[Operation]) -> defaultdict[str, int]:
    """Return by asset what is inside because of these, or will be once they are done."""
    sums: defaultdict[str, int] = defaultdict(int)
    for operation in operations:
        for step in operation.steps:
            pays = operation.pays_in(step) and (step.stands or (not operation.over and operation.ending is None))
            if pays and step.status not in ("reverted", "dropped"):
                sums[step.asset] += step.amount
            sums[ETH] -= operation.brought_back(step)
        if (operation.over or operation.ending is not None) and (left := operation.allowed()) is not None:
            sums[left.asset] += left.amount
    return sums


def _text(amount: int, asset: str) -> str:
    return ether(amount) if asset == ETH else f"{amount} units of token {asset}"
