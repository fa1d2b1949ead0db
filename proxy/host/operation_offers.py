"""What an operation would cost now: its steps, each prepared with upper bounds, and the gateway's code they count for.

An offer is what the owner is shown and agrees to; whether it still holds is asked again before each step is signed.
Nothing is stored or sent here, except the code of a gateway that is seen for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from middleware.errors import InvalidParams
from proxy.host.gateways import Gateways
from proxy.host.installed import Gateway
from proxy.host.operation_ports import Prepared, Transactions
from proxy.host.operation_records import ETH, Operation, Step
from proxy.host.operation_requests import allowance_step
from proxy.host.token_calls import allowance

FIRST_SECONDS = 600  # from the offer to the first broadcast (hardening.md 13)
LATER_SECONDS = 3600  # more for each step behind another, which has to be confirmed first
LATER_GAS = 1_000_000  # bound of a step that cannot be estimated before the one ahead of it is mined


@dataclass(frozen=True, slots=True)
class Offer:
    """The steps that are not signed yet, prepared; `codes`: the gateway's code hash for each; `warnings` about it."""

    prepared: tuple[Prepared, ...]
    codes: tuple[str, ...]
    warnings: tuple[str, ...]


class Offers:
    """Makes offers and tells whether one still holds."""

    def __init__(self, transactions: Transactions, gateways: Gateways, clock: Callable[[], float]) -> None:
        self._transactions = transactions
        self._gateways = gateways
        self._clock = clock

    async def steps(self, gateway: Gateway, step: Step, owner: str) -> list[Step]:
        """Return the steps that lead to `step`: for a token, an exact allowance first.

        An allowance left over is set to 0 before, because some tokens take nothing else (USDT).
        """
        if step.asset == ETH:
            return [step]
        present = await allowance(self._gateways.node, step.asset, owner, gateway.address)
        ahead = [] if present == step.amount else [allowance_step(gateway, step.asset, step.amount)]
        if ahead and present:
            ahead.insert(0, allowance_step(gateway, step.asset, 0))
        return [*ahead, step]

    async def make(self, operation: Operation, gateway: Gateway) -> Offer:
        """Return the offer. Raise the node's error where the first step would revert or the owner cannot pay."""
        await self._gateways.refuse_unfit(gateway)
        approved, code = await self._gateways.approved_code(gateway), await self._gateways.code_hash(gateway.address)
        warnings: tuple[str, ...] = ()
        if code != approved:
            warnings = (f"gateway_code: the code of gateway {gateway.address} is not the one you approved at install",)
        prepared = []
        for place, step in enumerate(operation.steps):
            if step.nonce is not None:
                prepared.append(self._transactions.restore(step.prepared or {}))
                continue
            ahead = sum(1 for earlier in operation.steps[:place] if earlier.status != "confirmed")
            prepared.append(await self._prepare(operation.owner, step, ahead))
        return Offer(tuple(prepared), tuple(code for _ in prepared), warnings)

    async def holds(self, step: Step, gateway: Gateway) -> bool:
        """Tell whether what was approved for a step still is what would be executed."""
        if step.prepared is None or await self._gateways.code_hash(gateway.address) != step.code:
            return False
        prepared = self._transactions.restore(step.prepared)
        if self._clock() > prepared.valid_until:
            return False
        return await self._transactions.estimate(prepared) <= prepared.gas

    async def _prepare(self, owner: str, step: Step, ahead: int) -> Prepared:
        data = bytes.fromhex(step.data[2:])
        if step.is_allowance and not data:
            raise InvalidParams("token", "a token", step.asset)
        return await self._transactions.prepare(
            owner,
            step.to,
            step.value,
            data,
            gas=LATER_GAS if ahead else None,
            valid_seconds=FIRST_SECONDS + ahead * LATER_SECONDS,
        )
