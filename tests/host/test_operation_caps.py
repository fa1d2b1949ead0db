"""An owner's cap on what may be inside a plugin's gateways (hardening.md 16): at the wish, and before each signature."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import Unauthorized
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, TOKEN, Bench, plugin, running_bench, token_plugin
from tests.wallet.conftest import OWNER

CHANNEL = "0x" + "11" * 32


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        bench.plugin = plugin(caps={"ETH": 3 * ETHER})
        yield bench


async def test_hardening_16_deposits_end_at_the_cap(bench: Bench) -> None:
    await bench.submit()  # 2 ETH
    await bench.until("done")
    with pytest.raises(Unauthorized, match="may come to 3 ETH in all; 2 ETH are inside, and this brings 2 ETH more"):
        await bench.submit()
    assert len(bench.owner.asked) == 1
    await bench.submit(value=hex(ETHER))  # exactly
    await bench.until("done")
    assert bench.chain.balances[GATEWAY] == 3 * ETHER
    with pytest.raises(Unauthorized, match="set-cap paychan ETH AMOUNT"):
        await bench.submit(value="0x1")
    assert bench.plugin is not None
    bench.plugin = replace(bench.plugin, caps={})
    await bench.submit()
    await bench.until("done")


async def test_what_waits_for_the_owner_counts(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    with pytest.raises(Unauthorized, match="2 ETH are inside"):
        await bench.submit()


async def test_what_was_refused_or_came_back_counts_no_more(bench: Bench) -> None:
    bench.owner.mood = "no"
    await bench.submit()
    await bench.until("rejected")
    bench.owner.mood = "yes"
    await bench.submit()
    await bench.until("done")
    (record,) = [one for one in bench.operations.records_of(PLUGIN) if one.status == "done"]
    await bench.submit("withdraw", function="close", args=[CHANNEL])
    await bench.until("done")
    back = bench.operations.records_of(PLUGIN)[-1]
    back.steps[0].returned = 2 * ETHER  # as the chain would show it
    assert record.steps[0].amount == 2 * ETHER
    await bench.submit()
    await bench.until("done")


async def test_a_plan_cannot_pay_in_past_it(bench: Bench) -> None:
    pay = {"function": "open(address)", "args": [OWNER], "value": hex(2 * ETHER)}
    with pytest.raises(Unauthorized, match="may come to 3 ETH"):
        await bench.submit("plan", steps=[pay, pay])


async def test_a_cap_that_was_lowered_holds_for_what_was_approved_before(bench: Bench) -> None:
    pay = {"function": "open(address)", "args": [OWNER], "value": hex(ETHER)}
    await bench.submit("plan", steps=[pay, pay | {"waitFor": {"blocks": 3}}])
    await bench.until("waiting")
    bench.plugin = plugin(caps={"ETH": ETHER})
    bench.chain.mine(5)
    failed = await bench.until("failed")
    assert "may come to 1 ETH" in failed["error"]["message"]
    assert bench.chain.balances[GATEWAY] == ETHER


async def test_a_token_has_a_cap_of_its_own(bench: Bench) -> None:
    bench.chain.codes[TOKEN], bench.chain.tokens[TOKEN] = "0x6003", 0
    bench.plugin = replace(token_plugin(), caps={TOKEN: 700, "ETH": 0})
    given: dict[str, Any] = {"function": "openToken", "args": [500], "value": 500, "token": TOKEN}
    await bench.submit(**given)
    await bench.until("done")
    with pytest.raises(Unauthorized, match=f"700 units of token {TOKEN}"):
        await bench.submit(**given)
    with pytest.raises(Unauthorized, match="may come to 0 ETH"):
        await bench.submit()
