"""Operations from the wish to the confirmed transaction, and every way that can go otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import AlreadyPending, InvalidParams, LimitExceeded, RpcError, Unauthorized, Unsupported
from middleware.waist import Origin
from proxy.storage import Batch, StorageError
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, TOKEN, Bench, plugin, running_bench, token_plugin
from tests.wallet.conftest import OWNER, PASSWORD
from tests.wallet.fake_chain import GAS_USED, gone, price

SITE = Origin.web("https://app.example")
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


async def test_a_deposit_moves_exactly_its_value_to_the_gateway(bench: Bench) -> None:
    operation = await bench.submit()
    done = await bench.until("done")
    (sent,) = bench.chain.executed()
    assert (sent.to, sent.value, sent.sender) == (GATEWAY, 2 * ETHER, OWNER)
    assert sent.data.hex() == "b95460f8" + OWNER[2:].lower().rjust(64, "0")
    assert bench.chain.balances[GATEWAY] == 2 * ETHER
    assert bench.chain.balances[OWNER] == 98 * ETHER - GAS_USED * price(sent)
    assert done == {
        "id": operation,
        "plugin": PLUGIN,
        "kind": "deposit",
        "status": "done",
        "steps": [
            {
                "gateway": "main",
                "function": "open(address)",
                "args": [OWNER],
                "value": hex(2 * ETHER),
                "status": "confirmed",
                "hashes": [sent.hash],
                "blockNumber": "0x1",
                "confirmations": "0x1",
            }
        ],
    }


async def test_the_owner_reads_what_will_run_and_nothing_runs_before(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit(serving=SITE)
    question = await bench.owner.question()
    assert question.kind == "deposit"
    assert question.origin == Origin.plugin(PLUGIN)
    assert question.serving == SITE
    assert "2 ETH" in question.summary
    assert GATEWAY in question.summary
    assert question.facts.method == "deposit"
    assert question.facts.to == GATEWAY
    assert question.facts.function == "open(address)"
    assert question.facts.asset == "ETH"
    (step,) = question.details["steps"]
    assert question.facts.value == 2 * ETHER + int(step["feeBound"], 16)
    assert step["validUntil"] == 1600
    assert bench.chain.calls.count("eth_sendRawTransaction") == 0
    assert list(bench.ledger.of(OWNER)) == []
    bench.owner.approve()
    await bench.until("done")


async def test_no_is_no(bench: Bench) -> None:
    bench.owner.mood = "no"
    await bench.submit()
    rejected = await bench.until("rejected")
    assert rejected["error"]["code"] == 4001
    assert bench.chain.executed() == []
    await bench.rebuild()
    assert bench.operations.get(PLUGIN)[-1]["status"] == "rejected"
    assert len(bench.owner.asked) == 1


async def test_a_question_that_cannot_be_asked_fails_the_operation(bench: Bench) -> None:
    bench.owner.error = AlreadyPending("deposit")
    await bench.submit()
    assert (await bench.until("failed"))["error"]["code"] == -32002
    assert bench.chain.executed() == []


async def test_an_open_question_is_asked_again_after_a_restart(bench: Bench) -> None:
    bench.owner.mood = "wait"
    operation = await bench.submit()
    first = await bench.owner.question()
    bench.owner.withdraw()
    bench.owner.asked.clear()
    await bench.rebuild()
    second = await bench.owner.question()
    assert second is not first
    bench.owner.approve()
    assert (await bench.until("done"))["id"] == operation
    assert len(bench.chain.executed(GATEWAY)) == 1


async def test_confirmations_are_counted_on_a_real_chain(bench: Bench) -> None:
    bench.chain.is_dev = False
    await bench.submit()
    mined = await bench.until("mined")
    assert mined["status"] == "running"
    assert mined["steps"][0]["confirmations"] == "0x1"
    bench.chain.mine()
    bench.chain.mine()
    done = await bench.until("done")
    assert done["steps"][0]["confirmations"] == "0x3"


async def test_a_reorg_takes_it_back_and_the_same_bytes_go_out_again(bench: Bench) -> None:
    bench.chain.is_dev = False
    await bench.submit()
    first = await bench.until("mined")
    bench.chain.automine = False
    bench.chain.unwind(1)
    await bench.chain.arrival()
    bench.chain.mine(3)
    done = await bench.until("done")
    assert done["steps"][0]["hashes"] == first["steps"][0]["hashes"]
    assert [step["steps"][0]["status"] for step in bench.told].count("submitted") >= 1
    assert len(bench.chain.executed(GATEWAY)) == 1


async def test_a_revert_on_chain_fails_it(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()

    def before(method: str) -> None:
        if method == "eth_sendRawTransaction":
            bench.chain.reverting.add(GATEWAY)

    bench.chain.before = before
    bench.owner.approve()
    failed = await bench.until("failed")
    assert failed["steps"][0]["status"] == "reverted"
    assert failed["error"]["data"]["hash"] == failed["steps"][0]["hashes"][0]
    assert bench.chain.balances[GATEWAY] == 0


async def test_a_nonce_taken_by_another_wallet_is_asked_again_once_that_is_final(bench: Bench) -> None:
    bench.chain.is_dev = False
    bench.chain.automine = False
    await bench.submit()
    await bench.until("submitted")
    # The same phrase elsewhere gets nonce 0 mined first.
    bench.chain.pool.clear()
    foreign = bench.keyring.sign_transaction(
        OWNER,
        {
            "type": 2,
            "chainId": 31337,
            "nonce": 0,
            "to": OTHER,
            "value": 1,
            "gas": 21000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
        },
    )
    bench.chain.eth_sendRawTransaction("0x" + foreign.hex())
    bench.chain.mine()
    assert bench.operations.get(PLUGIN)[-1]["status"] == "running"
    bench.owner.mood = "wait"
    bench.owner.asked.clear()
    bench.chain.mine(2)
    again = await bench.owner.question()
    (first,) = bench.operations.get(PLUGIN)[-1]["steps"][0]["hashes"]
    assert again.details["steps"][0]["displaced"] == [first]
    assert "took its nonce" in again.summary
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"
    assert list(bench.ledger.of(OWNER)) == []
    assert await bench.deposits.of(plugin(gateways=())) == []  # nothing is on its way
    bench.owner.withdraw()  # the question dies with the process
    bench.owner.asked.clear()
    await bench.rebuild()
    await bench.owner.question()
    bench.owner.approve()
    await bench.chain.arrival()
    bench.chain.mine(3)
    done = await bench.until("done")
    assert done["steps"][0]["hashes"][0] == first
    assert [sent.nonce for sent in bench.chain.executed(GATEWAY)] == [1]


async def test_a_node_that_went_away_is_waited_for(bench: Bench) -> None:
    bench.chain.refuse_calls["eth_sendRawTransaction"] = gone()
    await bench.submit()
    for _ in range(3):
        bench.chain.mine()
    assert bench.operations.get(PLUGIN)[-1]["status"] in ("running", "awaiting_approval")
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    await bench.until("done")
    assert len(bench.chain.executed(GATEWAY)) == 1


@pytest.mark.parametrize(
    "method", ["eth_getTransactionCount", "eth_getTransactionReceipt", "eth_estimateGas", "eth_getCode"]
)
async def test_a_node_that_is_too_busy_is_waited_for(bench: Bench, method: str) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.chain.refuse_calls[method] = RpcError(-32005, "too many requests")
    bench.owner.approve()
    await bench.until("running")
    bench.chain.mine()
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    await bench.until("done")
    assert len(bench.chain.executed(GATEWAY)) == 1
    assert len(bench.owner.asked) == 1


@pytest.mark.parametrize("code", [-32005, 429, -32603])
async def test_after_an_unsure_answer_the_same_bytes_go_out_again(bench: Bench, code: int) -> None:
    bench.chain.refuse_calls["eth_sendRawTransaction"] = RpcError(code, "something went wrong")
    await bench.submit()
    async with asyncio.timeout(60):
        while not list(bench.ledger.of(OWNER)):  # noqa: ASYNC110  a database announces nothing
            await asyncio.sleep(0)
    (signed,) = bench.ledger.of(OWNER)
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    done = await bench.until("done")
    assert done["steps"][0]["hashes"] == [signed.hash]


async def test_a_node_without_old_states_does_not_end_it(bench: Bench) -> None:
    bench.chain.is_dev = False
    bench.chain.automine = False
    await bench.submit()
    await bench.until("submitted")
    bench.chain.refuse_calls["eth_getTransactionCount"] = RpcError(-32000, "missing trie node")
    bench.chain.pool.clear()
    bench.chain.mine()
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    await bench.chain.arrival()
    bench.chain.mine(3)
    await bench.until("done")


async def test_a_full_disk_moves_no_money_and_shows_no_ghost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_batch: Batch, *, synced: bool = True) -> None:
        raise StorageError("writing failed: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(bench.database, "commit", full)
        with pytest.raises(StorageError):
            await bench.submit()
    assert bench.operations.get(PLUGIN) == []
    assert bench.chain.executed() == []
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    with monkeypatch.context() as patched:
        patched.setattr(bench.database, "commit", full)
        with pytest.raises(StorageError):
            bench.owner.approve()
    assert bench.chain.executed() == []
    await bench.rebuild()
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"


async def test_refused_by_the_node_it_fails_and_its_nonce_is_free(bench: Bench) -> None:
    bench.chain.refuse_calls["eth_sendRawTransaction"] = RpcError(-32000, "transaction underpriced")
    await bench.submit()
    failed = await bench.until("failed")
    assert failed["error"]["message"] == "transaction underpriced"
    assert failed["steps"][0]["status"] == "dropped"
    assert list(bench.ledger.of(OWNER)) == []


async def test_locked_between_yes_and_signature_waits_for_unlock(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.chain.refuse_calls["eth_estimateGas"] = gone()  # hold it right before it signs
    bench.owner.approve()
    await bench.until("running")
    bench.keyring.lock()
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    assert bench.chain.executed() == []
    bench.keyring.unlock(PASSWORD)
    await bench.until("done")
    assert len(bench.chain.executed(GATEWAY)) == 1
    assert len(bench.owner.asked) == 1


async def test_an_approval_too_old_is_asked_again(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.chain.refuse_calls["eth_estimateGas"] = gone()
    bench.owner.approve()
    await bench.until("running")
    bench.now += 601
    bench.chain.refuse_calls.clear()
    bench.owner.asked.clear()
    bench.chain.mine()
    again = await bench.owner.question()
    assert bench.chain.executed() == []
    assert again.details["steps"][0]["validUntil"] == int(bench.now) + 600
    bench.owner.approve()
    await bench.until("done")


async def test_changed_code_of_the_gateway_is_asked_with_a_warning(bench: Bench) -> None:
    assert bench.plugin is not None
    await bench.gateways.check(bench.plugin.gateways[0])
    bench.chain.codes[GATEWAY] = "0x6002"
    bench.owner.mood = "wait"
    await bench.submit()
    question = await bench.owner.question()
    assert question.warnings[0].startswith("gateway_code: ")


async def test_code_changed_after_the_yes_is_asked_again(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    first = await bench.owner.question()
    assert first.warnings == ()
    bench.chain.codes[GATEWAY] = "0x6002"
    bench.owner.asked.clear()
    bench.owner.approve()
    again = await bench.owner.question()
    assert again.warnings[0].startswith("gateway_code: ")
    assert bench.chain.executed() == []


@pytest.mark.parametrize(
    "changes",
    [{"enabled": False}, {"digest": "sha256:2"}, {"owner": OTHER}, {"grants": frozenset()}, {"gateways": ()}],
)
async def test_a_plugin_changed_before_the_yes_gets_nothing(bench: Bench, changes: dict[str, object]) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.plugin = plugin(**changes)
    with pytest.raises(Unauthorized):
        bench.owner.approve()
    assert bench.chain.executed() == []
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"


async def test_a_plugin_removed_after_the_yes_gets_nothing(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.chain.refuse_calls["eth_getCode"] = gone()
    bench.owner.approve()
    await bench.until("running")
    bench.plugin = None
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    assert (await bench.until("failed"))["error"]["code"] == 4100
    assert bench.chain.executed() == []


async def test_a_token_deposit_allows_exactly_its_amount_first(bench: Bench) -> None:
    bench.chain.codes[TOKEN] = "0x6003"
    bench.chain.tokens[TOKEN] = 7
    bench.plugin = token_plugin()
    await bench.submit(function="openToken", args=[500], value=500, token=TOKEN)
    done = await bench.until("done")
    assert [step["function"] for step in done["steps"]] == [
        "approve(address,uint256)",
        "approve(address,uint256)",
        "openToken(uint256)",
    ]
    assert [step["args"] for step in done["steps"]] == [[GATEWAY, "0x0"], [GATEWAY, "0x1f4"], ["0x1f4"]]
    assert [sent.to for sent in bench.chain.executed()] == [TOKEN, TOKEN, GATEWAY]
    assert bench.chain.tokens[TOKEN] == 500
    assert [sent.nonce for sent in bench.chain.executed()] == [0, 1, 2]
    (question,) = bench.owner.asked
    assert (question.facts.asset, question.facts.value) == (TOKEN, 500)


async def test_a_token_deposit_of_more_than_there_is_costs_no_question_and_no_allowance(bench: Bench) -> None:
    bench.chain.codes[TOKEN] = "0x6003"
    bench.chain.tokens[TOKEN] = 0
    bench.chain.token_balance = 499
    bench.plugin = token_plugin()
    with pytest.raises(RpcError, match="has 499 units of token"):
        await bench.submit(function="openToken", args=[500], value=500, token=TOKEN)
    assert (bench.owner.asked, bench.operations.get(PLUGIN), bench.chain.executed()) == ([], [], [])


async def test_a_gateway_whose_events_name_no_asset_takes_no_tokens(bench: Bench) -> None:
    bench.chain.codes[TOKEN] = "0x6003"
    bench.chain.tokens[TOKEN] = 0
    with pytest.raises(Unauthorized, match="names no asset"):
        await bench.submit(function="openToken", args=[500], value=500, token=TOKEN)
    assert bench.operations.get(PLUGIN) == []


async def test_a_withdrawal_says_what_came_back(bench: Bench) -> None:
    bench.chain.balances[GATEWAY] = 5 * ETHER
    bench.chain.paid_out[GATEWAY] = 3 * ETHER
    await bench.submit("withdraw", args=["0x" + "11" * 32])
    await bench.until("done")
    (record,) = bench.operations.records_of(PLUGIN)
    assert record.steps[0].returned == 3 * ETHER
    assert bench.owner.asked[0].kind == "withdraw"


async def test_a_node_that_goes_away_before_it_said_what_came_back_is_asked_again(bench: Bench) -> None:
    bench.chain.balances[GATEWAY] = 5 * ETHER
    bench.chain.paid_out[GATEWAY] = 3 * ETHER
    shown: list[str] = []

    def go_away(method: str) -> None:
        if method == "eth_getBalance" and bench.chain.executed(GATEWAY):
            shown.extend(step["status"] for step in bench.operations.get(PLUGIN)[-1]["steps"])
            bench.chain.refuse_calls["eth_getBalance"] = gone()

    bench.chain.before = go_away
    await bench.submit("withdraw", args=["0x" + "11" * 32])
    await bench.settled(lambda: shown != [])
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.operations.get(PLUGIN)[-1]["status"] == "running"
    bench.chain.before = lambda _: None
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    await bench.until("done")
    (record,) = bench.operations.records_of(PLUGIN)
    assert record.steps[0].returned == 3 * ETHER
    assert list(bench.ledger.of(OWNER)) == []
    assert "confirmed" not in shown  # what is shown lies on disk, with what came back


@pytest.mark.parametrize("other", ["withdrawal", "payment"])
async def test_what_came_back_is_never_counted_twice(bench: Bench, other: str) -> None:
    bench.chain.balances[GATEWAY] = 9 * ETHER
    bench.chain.paid_out[GATEWAY] = 3 * ETHER
    bench.chain.automine = False
    await bench.submit("withdraw", args=["0x" + "11" * 32])
    await bench.until("submitted")
    if other == "withdrawal":
        await bench.submit("withdraw", args=["0x" + "22" * 32])
        await bench.until("submitted")
    else:
        await bench.transactions.execute(await bench.transactions.prepare(OWNER, OTHER, ETHER))
    bench.chain.mine()
    for record in bench.operations.records_of(PLUGIN):
        await bench.until("done", record.id)
    # Whose the block's gain is cannot be told: nothing provably came back.
    assert {record.steps[0].returned for record in bench.operations.records_of(PLUGIN)} == {None}


async def test_what_another_origin_caused_stays_unseen(bench: Bench) -> None:
    mine = await bench.submit(serving=SITE)
    await bench.until("done", mine)
    own = await bench.submit()
    await bench.until("done", own)
    other = Origin.web("https://other.example")

    def seen(origin: Origin | None) -> list[str]:
        return [operation["id"] for operation in bench.operations.get(PLUGIN, origin=origin)]

    assert seen(SITE) == [mine, own]
    assert seen(other) == [own]
    assert seen(None) == [mine, own]
    assert bench.operations.get(PLUGIN, mine, origin=other) == []
    assert bench.operations.get("another") == []


BAD: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("deposit", {"function": "close(bytes32)"}, Unauthorized),
    ("deposit", {"function": "nothing"}, Unauthorized),
    ("deposit", {"function": 5}, InvalidParams),
    ("deposit", {"gateway": "other"}, Unauthorized),
    ("deposit", {"gateway": 1}, InvalidParams),
    ("deposit", {"args": []}, InvalidParams),
    ("deposit", {"args": [OWNER, OWNER]}, InvalidParams),
    ("deposit", {"args": ["0x12"]}, InvalidParams),
    ("deposit", {"args": {"nobody": OWNER}}, InvalidParams),
    ("deposit", {"value": -1}, InvalidParams),
    ("deposit", {"value": 1.5}, InvalidParams),
    ("deposit", {"value": "1e18"}, InvalidParams),
    ("deposit", {"value": hex(2**256)}, InvalidParams),
    ("deposit", {"to": OTHER}, InvalidParams),
    ("deposit", {"function": None}, InvalidParams),
    ("deposit", {"function": "openToken", "args": [1], "value": 1}, InvalidParams),
    ("deposit", {"value": hex(101 * ETHER)}, RpcError),
    ("deposit", {"token": GATEWAY}, Unauthorized),
    ("deposit", {"token": OTHER}, RpcError),
    ("withdraw", {"function": "open(address)"}, Unauthorized),
    ("withdraw", {"args": ["0x" + "11" * 32], "value": 11}, Unauthorized),
    ("withdraw", {"args": ["0x" + "11" * 31]}, InvalidParams),
    ("plan", {"steps": []}, InvalidParams),
    ("transfer", {"to": OTHER, "value": 1}, Unauthorized),
    ("steal", {"to": OTHER, "value": 1}, Unsupported),
]


@pytest.mark.parametrize(("kind", "params", "error"), BAD)
async def test_a_bad_wish_is_refused_before_anything_is_stored(
    bench: Bench, kind: str, params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await bench.submit(kind, **params)
    assert bench.operations.get(PLUGIN) == []
    assert bench.owner.asked == []
    assert bench.chain.executed() == []


async def test_locked_nothing_is_even_asked(bench: Bench) -> None:
    bench.keyring.lock()
    with pytest.raises(Unauthorized, match="locked"):
        await bench.submit()
    assert bench.operations.get(PLUGIN) == []


async def test_two_deposits_at_once_get_two_nonces(bench: Bench) -> None:
    await asyncio.gather(bench.submit(), bench.submit())
    for operation in bench.operations.get(PLUGIN):
        await bench.until("done", operation["id"])
    assert [sent.nonce for sent in bench.chain.executed(GATEWAY)] == [0, 1]
    assert bench.chain.balances[GATEWAY] == 4 * ETHER


async def test_a_gateway_on_another_address_is_not_the_approved_one(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    assert bench.plugin is not None
    moved = replace(bench.plugin.gateways[0], address=OTHER)
    bench.plugin = plugin(gateways=(moved,))
    with pytest.raises(Unauthorized, match="not the approved one"):
        bench.owner.approve()


async def test_a_full_queue_fails_nothing_that_was_asked_before_the_restart(bench: Bench) -> None:
    bench.owner.mood = "wait"
    operation = await bench.submit()
    await bench.owner.question()
    bench.owner.withdraw()
    bench.owner.error = LimitExceeded("questions_per_origin", "3 questions of this plugin wait for the owner")
    await bench.rebuild()
    await bench.settled(lambda: len(bench.owner.asked) == 2)
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"
    bench.owner.error, bench.owner.mood = None, "yes"
    bench.chain.mine()
    assert (await bench.until("done"))["id"] == operation
