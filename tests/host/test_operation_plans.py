"""Plans: several steps under one approval, each after what it waits for, across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from middleware.errors import InvalidParams, Unauthorized
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, Bench, running_bench
from tests.wallet.conftest import OWNER

CHANNEL = "0x" + "11" * 32
SECOND = "0x" + "22" * 32
CLOSE = {"function": "close(bytes32)", "args": [CHANNEL]}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


def closing(channel: str, block: int, note: str = "ab") -> dict[str, Any]:
    """A `Closing` log of the gateway."""
    text = note.encode().hex().ljust(64, "0")
    return {
        "address": GATEWAY,
        "topics": ["0x" + keccak(text="Closing(bytes32,string)").hex(), channel],
        "data": f"0x{32:064x}{len(note):064x}{text}",
        "blockNumber": hex(block),
    }


async def test_one_approval_shows_and_runs_all_steps_in_order(bench: Bench) -> None:
    second = {"function": "answer", "args": {"channel": SECOND}}
    third = CLOSE | {"value": "0xa"}
    await bench.submit("plan", steps=[CLOSE, second, third])
    done = await bench.until("done")
    (question,) = bench.owner.asked
    assert question.kind == "plan"
    assert "3 steps" in question.summary
    rows = question.details["steps"]
    assert [row["function"] for row in rows] == ["close(bytes32)", "answer(bytes32)", "close(bytes32)"]
    assert [row["args"] for row in rows] == [[CHANNEL], [SECOND], [CHANNEL]]
    assert [row["validUntil"] for row in rows] == [1600, 1600 + 3600, 1600 + 7200]
    assert [(facts.method, facts.function, facts.to) for facts in question.facts.steps] == [
        ("plan", row["function"], GATEWAY) for row in rows
    ]
    assert question.facts.value == sum(int(row["value"], 16) + int(row["feeBound"], 16) for row in rows)
    executed = bench.chain.executed(GATEWAY)
    assert [(sent.nonce, sent.value) for sent in executed] == [(0, 0), (1, 0), (2, 10)]
    assert [step["status"] for step in done["steps"]] == ["confirmed"] * 3
    assert done["kind"] == "plan"


async def test_a_step_waits_for_blocks_counted_from_the_step_before_across_a_restart(bench: Bench) -> None:
    await bench.submit("plan", steps=[CLOSE, CLOSE | {"waitFor": {"blocks": 5}}])
    waiting = await bench.until("waiting")
    assert [step["status"] for step in waiting["steps"]] == ["confirmed", "pending"]
    assert waiting["steps"][1]["waitFor"] == {"blocks": "0x5"}
    bench.chain.mine(4)
    await bench.rebuild()
    assert len(bench.chain.executed(GATEWAY)) == 1
    assert bench.operations.get(PLUGIN)[-1]["status"] == "waiting"
    bench.chain.mine()
    await bench.until("done")
    assert [number for number, block in enumerate(bench.chain.chain) if block] == [1, 7]
    assert len(bench.owner.asked) == 1


async def test_a_step_waits_for_the_chains_time(bench: Bench) -> None:
    bench.chain.is_dev = False
    bench.chain.timestamp = 1_000
    await bench.submit("plan", steps=[CLOSE | {"waitFor": {"time": 5_000}}])
    await bench.until("waiting")
    bench.now = 5_000.0  # our own clock decides nothing on a real chain
    bench.chain.mine()
    assert bench.chain.executed() == []
    bench.chain.timestamp = 5_000
    bench.chain.mine(1)
    await bench.until("mined")
    bench.chain.mine(3)
    await bench.until("done")
    assert bench.owner.asked[0].details["steps"][0]["validUntil"] == 1_000 + 600 + 3_600 + 4_000


async def test_a_step_waits_for_an_event_and_takes_its_arguments_from_it_after_a_second_question(bench: Bench) -> None:
    event = {"name": "Closing", "args": {"note": "mine"}}
    await bench.submit("plan", steps=[CLOSE, {"function": "answer", "args": None, "waitFor": {"event": event}}])
    waiting = await bench.until("waiting")
    assert waiting["steps"][1]["args"] is None
    (first,) = bench.owner.asked
    assert first.details["steps"][1]["asked"] == "again, once its arguments are known"
    assert len(first.facts.steps) == 1
    bench.owner.asked.clear()
    bench.chain.logs = [closing(CHANNEL, 0, "mine"), closing(CHANNEL, 2, "other"), closing(SECOND, 3, "mine")]
    bench.chain.mine(3)
    done = await bench.until("done")
    (second,) = bench.owner.asked
    assert second.details["steps"][1]["args"] == [SECOND]
    assert done["steps"][1]["waitFor"]["event"] == {"gateway": "main", **event}
    assert bench.chain.executed(GATEWAY)[-1].data[4:].hex() == SECOND[2:]


async def test_arguments_that_are_not_in_the_event_come_from_the_plugin_and_are_asked(bench: Bench) -> None:
    operation = await bench.submit("plan", steps=[CLOSE, {"function": "answer", "args": None}])
    await bench.until("waiting")
    bench.owner.asked.clear()
    with pytest.raises(InvalidParams):
        await bench.submit("plan", operation=operation, args=["0x12"])
    with pytest.raises(InvalidParams):
        await bench.submit("plan", operation="another", args=[SECOND])
    assert await bench.submit("plan", operation=operation, args=[SECOND]) == operation
    with pytest.raises(InvalidParams):
        await bench.submit("plan", operation=operation, args=[CHANNEL])
    await bench.until("done")
    (question,) = bench.owner.asked
    assert question.details["steps"][1]["args"] == [SECOND]
    assert "goes on with a plan, 1 done of 2 steps: answer of" in question.summary
    assert [sent.data[4:].hex() for sent in bench.chain.executed(GATEWAY)] == [CHANNEL[2:], SECOND[2:]]


async def test_no_to_the_second_question_ends_it_where_it_stands(bench: Bench) -> None:
    operation = await bench.submit("plan", steps=[CLOSE, {"function": "answer", "args": None}])
    await bench.until("waiting")
    bench.owner.mood = "no"
    await bench.submit("plan", operation=operation, args=[SECOND])
    rejected = await bench.until("rejected")
    assert [step["status"] for step in rejected["steps"]] == ["confirmed", "pending"]
    assert len(bench.chain.executed(GATEWAY)) == 1


async def test_code_that_changes_between_two_steps_is_asked_with_a_warning(bench: Bench) -> None:
    await bench.submit("plan", steps=[CLOSE, CLOSE | {"waitFor": {"blocks": 2}}])
    await bench.until("waiting")
    bench.chain.codes[GATEWAY] = "0x6002"
    bench.owner.mood = "wait"
    bench.owner.asked.clear()
    bench.chain.mine(2)
    question = await bench.owner.question()
    assert question.warnings[0].startswith("gateway_code: ")
    assert len(bench.chain.executed(GATEWAY)) == 1
    bench.owner.approve()
    await bench.until("done")


async def test_a_plan_half_done_waits_for_funds_and_says_so(bench: Bench) -> None:
    await bench.submit("plan", steps=[CLOSE, CLOSE | {"waitFor": {"blocks": 2}}])
    await bench.until("waiting")
    balance, bench.chain.balances[OWNER] = bench.chain.balances[OWNER], 5
    bench.chain.mine(2)
    await bench.settled(lambda: "error" in bench.operations.get(PLUGIN)[-1])
    waiting = await bench.until("waiting")
    assert "insufficient funds" in waiting["error"]["message"]
    bench.chain.balances[OWNER] = balance
    bench.chain.mine()
    done = await bench.until("done")
    assert "error" not in done


async def test_a_step_that_reverts_ends_the_plan_and_the_rest_is_never_sent(bench: Bench) -> None:
    await bench.submit("plan", steps=[CLOSE, CLOSE | {"waitFor": {"blocks": 2}}])
    await bench.until("waiting")
    bench.chain.reverting.add(GATEWAY)
    bench.chain.mine(2)
    failed = await bench.until("failed")
    assert "reverted" in failed["error"]["message"]
    assert [step["status"] for step in failed["steps"]] == ["confirmed", "pending"]


async def test_a_plugin_removed_while_its_plan_waits_gets_nothing_more(bench: Bench) -> None:
    await bench.submit("plan", steps=[CLOSE, CLOSE | {"waitFor": {"event": {"name": "Closing"}}}])
    await bench.until("waiting")
    bench.plugin = None
    bench.chain.mine()
    assert (await bench.until("failed"))["error"]["code"] == 4100
    assert len(bench.chain.executed(GATEWAY)) == 1


async def test_what_a_plan_pays_in_and_brings_back_is_counted(bench: Bench) -> None:
    bench.chain.paid_out[GATEWAY] = 3 * ETHER
    await bench.submit("plan", steps=[{"function": "open(address)", "args": [OWNER], "value": hex(5 * ETHER)}])
    await bench.until("done")
    (record,) = bench.operations.records_of(PLUGIN)
    assert record.steps[0].pays_in
    assert record.steps[0].returned == 3 * ETHER


BAD: list[tuple[dict[str, Any], type[Exception]]] = [
    ({}, InvalidParams),
    ({"steps": []}, InvalidParams),
    ({"steps": [CLOSE] * 17}, InvalidParams),
    ({"steps": ["close"]}, InvalidParams),
    ({"steps": [{"function": "steal(address)", "args": [OWNER]}]}, Unauthorized),
    ({"steps": [CLOSE | {"value": 11}]}, Unauthorized),
    ({"steps": [CLOSE | {"gateway": "other"}]}, Unauthorized),
    ({"steps": [CLOSE | {"token": GATEWAY}]}, InvalidParams),
    ({"steps": [CLOSE | {"args": ["0x11"]}]}, InvalidParams),
    ({"steps": [{"function": "close(bytes32)"}]}, InvalidParams),
    *(
        ({"steps": [CLOSE | {"waitFor": wait}]}, InvalidParams)
        for wait in (
            "soon",
            {},
            {"blocks": 0},
            {"blocks": 1, "time": 2},
            {"time": -1},
            {"time": 2**50},
            {"event": "Closing"},
            {"event": {"name": "Nothing"}},
            {"event": {"name": "Closing", "args": {"nobody": 1}}},
            {"event": {"name": "Closing", "args": {"channel": "0x1"}}},
            {"event": {"name": "Closing", "more": 1}},
        )
    ),
    ({"steps": [CLOSE | {"waitFor": {"event": {"name": "Closing", "gateway": "other"}}}]}, Unauthorized),
    ({"steps": [CLOSE], "args": []}, InvalidParams),
]


async def test_a_bad_plan_is_refused_before_anything_is_stored(bench: Bench) -> None:
    for params, error in BAD:
        with pytest.raises(error):
            await bench.submit("plan", **params)
    assert bench.operations.get(PLUGIN) == []
    assert bench.owner.asked == []


async def test_an_error_names_the_step(bench: Bench) -> None:
    with pytest.raises(InvalidParams, match=r"steps\[1\]\.args"):
        await bench.submit("plan", steps=[CLOSE, CLOSE | {"args": [1, 2]}])
