"""The long runs (`make soak`): power cuts on a real node between any two steps, and at random moments amid payments."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.journey import PAYMENT, http_client
from tests.conftest import Anvil
from tests.journeys.test_journey import journey_in, walk

pytestmark = pytest.mark.timeout(1800)

ROUNDS = 10
BEFORE_PAYMENTS = ("keys", "L1", "daemons", "funds", "contract", "hub", "install", "connect", "deposit")


async def test_power_cuts_between_any_two_steps_on_a_real_node(anvil: Anvil, short_tmp: Path) -> None:
    async with journey_in(short_tmp, l1=anvil.ipc, payments=10) as journey:

        async def cut(_: str) -> None:
            await journey.restart_daemons()

        await walk(journey, cut)


@pytest.mark.parametrize("seed", range(3))
async def test_power_cuts_at_random_moments_pay_each_order_once(short_tmp: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with journey_in(short_tmp, payments=5 * ROUNDS) as journey:
        steps = dict(journey.steps)
        for name in BEFORE_PAYMENTS:
            await steps[name]()
        for number in range(ROUNDS):
            async with http_client(journey.alice.token_url) as shop:

                async def order(at: int, shop: Any = shop) -> Any:
                    params = {"toAddress": journey.bob.address, "value": str(PAYMENT)}
                    return await shop.request(
                        "l2_invoke", ["paychan", "makePayment", params, {"idempotencyKey": f"order-{at}"}]
                    )

                paying = asyncio.gather(*(order(5 * number + at) for at in range(5)), return_exceptions=True)
                await asyncio.sleep(chance.uniform(0, 0.3))  # the moment is what is tried
                await journey.alice.kill()
                await paying
            await journey.alice.start()
        for name in ("payments", "withdraw", "close", "balances"):
            await steps[name]()
