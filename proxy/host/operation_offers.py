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
from proxy.host.operation_transfers import refuse_hollow, refuse_unheld
from proxy.host.token_calls import allowance

FIRST_SECONDS = 600  # from the offer to the first broadcast (hardening.md 13)
LATER_SECONDS = 3600  # more for each step behind another, which has to be confirmed first
BLOCK_SECONDS = 15  # more for each block a step waits for
EVENT_SECONDS = 7 * 24 * 3600  # more for a step that waits for an event, and for taking an allowance back
LATER_GAS = 1_000_000  # bound of a step that cannot be estimated before the one ahead of it is mined
GROWTH, LATER_GROWTH = 2, 4  # how many times the present fee a step may come to cost

GatewayOf = Callable[[Step], Gateway | None]


@dataclass(frozen=True, slots=True)
class Offer:
    """The steps that are not signed yet, prepared; `codes`: the gateway's code hash for each; `warnings` about them.

    `undo`: what takes the allowance back if the deposit fails.
    """

    steps: tuple[Step, ...]
    prepared: tuple[Prepared, ...]
    codes: tuple[str | None, ...]
    warnings: tuple[str, ...]
    undo: Prepared | None = None


class Offers:
    """Makes offers and tells whether one still holds. `transactions_of`: main accounts', or plugins' own keys'."""

    def __init__(
        self, transactions_of: Callable[[Operation], Transactions], gateways: Gateways, clock: Callable[[], float]
    ) -> None:
        self._transactions_of = transactions_of
        self._gateways = gateways
        self._clock = clock

    async def steps(self, gateway: Gateway, step: Step, owner: str) -> tuple[list[Step], Step | None]:
        """Return the steps that lead to `step`, and the one that takes the allowance back if it fails.

        For a token, an exact allowance goes first. One left over is set to 0 before, because some tokens take nothing else
        (USDT). Raise -32000 where the owner has too little of it: the allowance would cost its fee twice, and for nothing.
        """
        if step.asset == ETH:
            return [step], None
        await refuse_unheld(self._gateways.node, step, owner)
        present = await allowance(self._gateways.node, step.asset, owner, gateway.address)
        ahead = [] if present == step.amount else [allowance_step(gateway, step.asset, step.amount)]
        if ahead and present:
            ahead.insert(0, allowance_step(gateway, step.asset, 0))
        undo = allowance_step(gateway, step.asset, 0) if ahead else None
        return [*ahead, step], undo

    async def make(self, operation: Operation, gateway_of: GatewayOf) -> Offer:
        """Return the offer. Raise the node's error where the first step would revert or its sender cannot pay."""
        steps = tuple(operation.unsent())
        codes: dict[str, str] = {}
        warnings = [operation.doubt] if operation.doubt else []
        for step in steps:
            gateway = gateway_of(step)
            if gateway is not None and gateway.name not in codes:
                codes[gateway.name] = await self._code(gateway, warnings)
        prepared = [await self._prepare(operation, step) for step in steps]
        undo = None
        if operation.undo is not None and operation.ending is None:
            undo = await self._prepare_step(operation, operation.undo, FIRST_SECONDS + EVENT_SECONDS, later=True)
        return Offer(
            steps, tuple(prepared), tuple(codes.get(step.gateway or "") for step in steps), tuple(warnings), undo
        )

    async def current(self, operation: Operation, step: Step, gateway: Gateway | None) -> Prepared | None:
        """Return what was approved for a step, at the fee of now; None where it is not what would be executed any more.

        Raise the node's error if it would revert now, -32000 where it cannot be paid, `Refused` above the approved fee.
        """
        if step.prepared is None:
            return None
        if gateway is not None and await self._gateways.code_hash(gateway.address) != step.code:
            return None
        transactions = self._transactions_of(operation)
        prepared = transactions.restore(step.prepared)
        if self._clock() > prepared.valid_until:
            return None
        priced: Prepared = await transactions.priced(prepared)
        return priced if await transactions.estimate(priced) <= priced.gas else None

    async def _code(self, gateway: Gateway, warnings: list[str]) -> str:
        """Return the hash of a gateway's present code; a warning where it is not the approved one."""
        await self._gateways.refuse_unfit(gateway)
        approved, code = await self._gateways.approved_code(gateway), await self._gateways.code_hash(gateway.address)
        if code != approved:
            warnings.append(
                f"gateway_code: the code of gateway {gateway.address} is not the one you approved at install"
            )
        return code

    async def _prepare(self, operation: Operation, step: Step) -> Prepared:
        if step.is_allowance and step.data == "0x":
            raise InvalidParams("token", "a token", step.asset)
        if step.gateway is None:
            await refuse_hollow(self._gateways.node, step, operation.sender)
        place = operation.steps.index(step)
        ahead = [earlier for earlier in operation.steps[:place] if earlier.status != "confirmed"]
        if operation.ending is not None:
            ahead = []
        waiting = sum(self._seconds(one) for one in (*ahead, step) if one.wait is not None and not one.waited)
        later = bool(ahead) or waiting > 0
        return await self._prepare_step(
            operation, step, FIRST_SECONDS + len(ahead) * LATER_SECONDS + waiting, later=later
        )

    async def _prepare_step(self, operation: Operation, step: Step, seconds: float, *, later: bool) -> Prepared:
        return await self._transactions_of(operation).prepare(
            operation.sender,
            step.to,
            step.value,
            bytes.fromhex(step.data[2:]),
            gas=LATER_GAS if later else None,
            valid_seconds=seconds,
            fee_growth=LATER_GROWTH if later else GROWTH,
            later=later,
        )

    def _seconds(self, step: Step) -> float:
        """Return how long a step's wait may take."""
        wait = step.wait or {}
        if "blocks" in wait:
            return LATER_SECONDS + int(wait["blocks"], 16) * BLOCK_SECONDS
        if "time" in wait:
            return LATER_SECONDS + max(float(wait["time"]) - self._clock(), 0.0)
        return float(EVENT_SECONDS)
