"""Stuck, replaced, displaced, out of gas, out of funds: one nonce a step, and never more than was approved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middleware.errors import AlreadyPending, RpcError
from middleware.waist import Context, Origin
from proxy.wallet.fees import Wanted
from proxy.wallet.questions import transaction_question
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, Bench, running_bench, token_plugin
from tests.wallet.conftest import OWNER, PASSWORD
from tests.wallet.fake_chain import BASE_FEE

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CHANNEL = "0x" + "11" * 32


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        bench.chain.automine = False
        bench.chain.is_dev = False
        yield bench


async def more_hashes(bench: Bench, than: int) -> list[str]:
    """Mine until the newest operation has more attempts than that, or ten blocks have gone by."""
    for _ in range(10):
        bench.chain.mine()
        for _ in range(200):
            await asyncio.sleep(0)
            hashes: list[str] = bench.operations.get(PLUGIN)[-1]["steps"][0]["hashes"]
            if len(hashes) > than and hashes[-1] in bench.chain.pool:
                return hashes
    return hashes


async def test_a_stuck_one_goes_out_for_more_at_the_same_nonce_within_what_was_approved(bench: Bench) -> None:
    await bench.submit()
    first = await bench.until("submitted")
    (question,) = bench.owner.asked
    bound = int(question.details["steps"][0]["feeBound"], 16)
    bench.chain.base_fee = 5 * BASE_FEE  # above all that was approved
    hashes = await more_hashes(bench, 1)
    assert hashes[0] == first["steps"][0]["hashes"][0]
    (pending,) = bench.chain.pool.values()
    assert (pending.nonce, pending.value, pending.to) == (0, 2 * ETHER, GATEWAY)
    assert pending.hash == hashes[-1]
    while len(more := await more_hashes(bench, len(hashes))) > len(hashes):
        hashes = more
    (pending,) = bench.chain.pool.values()
    assert pending.gas * pending.max_fee <= bound  # and there it stays
    bench.chain.base_fee = BASE_FEE
    bench.chain.mine(3)
    done = await bench.until("done")
    assert done["steps"][0]["hashes"][-1] == pending.hash
    assert [sent.nonce for sent in bench.chain.executed()] == [0]
    assert len(bench.owner.asked) == 1
    assert list(bench.ledger.of(OWNER)) == []


async def test_whichever_attempt_is_mined_counts(bench: Bench) -> None:
    await bench.submit()
    await bench.until("submitted")
    (early,) = bench.chain.pool.values()
    bench.chain.base_fee = 4 * BASE_FEE
    await more_hashes(bench, 1)
    bench.chain.pool.clear()
    bench.chain.pool[early.hash] = early  # a miner far away never heard of the second
    bench.chain.base_fee = BASE_FEE
    bench.chain.mine(3)
    done = await bench.until("done")
    assert done["steps"][0]["hashes"][-1] == early.hash
    (row,) = await bench.deposits.of(token_plugin())
    assert row["deposits"][0]["hash"] == early.hash


async def test_a_higher_fee_survives_a_restart_and_needs_no_key_to_go_on(bench: Bench) -> None:
    await bench.submit()
    await bench.until("submitted")
    bench.chain.base_fee = 3 * BASE_FEE
    hashes = await more_hashes(bench, 1)
    await bench.rebuild()
    bench.keyring.lock()
    bench.chain.pool.clear()
    bench.chain.mine()
    await bench.chain.arrival()
    assert list(bench.chain.pool) == [hashes[-1]]
    assert await more_hashes(bench, len(hashes)) == hashes  # locked: no new signature
    bench.keyring.unlock(PASSWORD)
    bench.chain.base_fee = BASE_FEE
    bench.chain.mine(3)
    await bench.until("done")


async def test_a_base_fee_above_the_approved_one_is_asked_again(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    first = await bench.owner.question()
    bench.chain.base_fee = 50 * BASE_FEE
    bench.owner.asked.clear()
    bench.owner.approve()
    second = await bench.owner.question()
    assert bench.chain.pool == {}
    bounds = [int(one.details["steps"][0]["feeBound"], 16) for one in (first, second)]
    assert bounds[1] > 10 * bounds[0]


async def test_out_of_gas_is_said_and_nothing_is_tried_again(bench: Bench) -> None:
    await bench.submit()
    await bench.until("submitted")
    bench.chain.reverting.add(GATEWAY)
    bench.chain.burning.add(GATEWAY)
    bench.chain.mine(3)
    failed = await bench.until("failed")
    assert failed["error"]["data"]["reason"] == "out_of_gas"
    assert "ran out of gas" in failed["error"]["message"]
    assert failed["steps"][0]["status"] == "reverted"
    assert list(bench.ledger.of(OWNER)) == []


async def test_out_of_funds_is_said_with_what_there_is_and_what_is_needed(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.chain.balances[OWNER] = ETHER
    bench.owner.approve()
    failed = await bench.until("failed")
    assert failed["error"]["message"].startswith("insufficient funds for gas * price + value")
    assert int(failed["error"]["data"]["needed"], 16) > 2 * ETHER
    assert bench.chain.pool == {}
    assert list(bench.ledger.of(OWNER)) == []


async def replacing(bench: Bench) -> str:
    """Send a dapp's transaction with the operation's nonce, as `eth_sendTransaction` does once the owner agreed."""
    prepared = await bench.transactions.prepare(
        OWNER, OTHER, 1, nonce=0, wanted=Wanted(max_fee=20 * BASE_FEE, tip=5 * BASE_FEE)
    )
    return await bench.transactions.execute(prepared, bench.transactions.held(OWNER, 0))


async def test_a_dapp_takes_an_operations_nonce_only_in_so_many_words(bench: Bench) -> None:
    operation = await bench.submit()
    await bench.until("submitted")
    prepared = await bench.transactions.prepare(OWNER, OTHER, 1, nonce=0)
    with pytest.raises(RpcError, match=f"operation {operation}'s"):
        await bench.transactions.execute(prepared)
    context = Context(Origin.web("https://app.example"))
    held = bench.transactions.held(OWNER, 0)
    question = transaction_question(prepared, held, True, context, lambda: None)
    assert f"replaces operation {operation}" in question.summary
    assert question.details["replacesOperation"] == operation
    assert [warning.partition(":")[0] for warning in question.warnings] == ["replaces_operation"]

    taken = await replacing(bench)
    assert list(bench.chain.pool) == [taken]
    bench.chain.base_fee = 100 * BASE_FEE
    await more_hashes(bench, 1)  # neither sent again nor outbid: the owner wanted the other one
    assert list(bench.chain.pool) == [taken]
    bench.chain.base_fee = BASE_FEE
    bench.owner.mood = "wait"
    bench.owner.asked.clear()
    bench.chain.mine(4)
    again = await bench.owner.question()
    assert "took its nonce" in again.summary
    assert [(sent.to, sent.nonce) for sent in bench.chain.executed()] == [(OTHER, 0)]
    bench.owner.approve()
    await bench.chain.arrival()
    bench.chain.mine(3)
    await bench.until("done")
    assert [(sent.to, sent.nonce) for sent in bench.chain.executed()] == [(OTHER, 0), (GATEWAY, 1)]


async def test_a_replacement_that_the_node_refuses_gives_the_operation_its_nonce_back(bench: Bench) -> None:
    operation = await bench.submit()
    await bench.until("submitted")
    bench.chain.refuse_calls["eth_sendRawTransaction"] = RpcError(-32000, "replacement transaction underpriced")
    with pytest.raises(RpcError, match="underpriced"):
        await replacing(bench)
    bench.chain.refuse_calls.clear()
    held = bench.transactions.held(OWNER, 0)
    assert held is not None
    assert held.holder == operation
    bench.chain.pool.clear()
    bench.chain.mine()
    await bench.chain.arrival()
    bench.chain.mine(3)
    await bench.until("done")


async def test_a_replacement_that_got_lost_gives_the_operation_its_nonce_back(bench: Bench) -> None:
    operation = await bench.submit()
    first = await bench.until("submitted")
    await replacing(bench)
    bench.chain.pool.clear()  # the node forgets
    await bench.rebuild()
    await bench.chain.arrival()
    assert list(bench.chain.pool) == first["steps"][0]["hashes"]
    bench.chain.mine(3)
    await bench.until("done", operation)


async def test_another_wallets_replacement_is_not_fought(bench: Bench) -> None:
    await bench.submit()
    await bench.until("submitted")
    bench.chain.pool.clear()
    fields = {"type": 2, "chainId": 31337, "nonce": 0, "to": OTHER, "value": 1, "gas": 21000}
    fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10}
    foreign = bench.keyring.sign_transaction(OWNER, fields | fees)
    wanted = bench.chain.eth_sendRawTransaction("0x" + foreign.hex())
    bench.chain.base_fee = 10**11 + 1
    assert len(await more_hashes(bench, 1)) == 1
    assert list(bench.chain.pool) == [wanted]


async def test_a_refused_one_leaves_no_gap_below_the_next(bench: Bench) -> None:
    sends: list[str] = []

    def refuse_first(method: str) -> None:
        if method == "eth_sendRawTransaction":
            sends.append(method)
            if len(sends) == 1:
                raise RpcError(-32000, "transaction underpriced")

    bench.chain.before = refuse_first
    await asyncio.gather(bench.submit(), bench.submit())
    await bench.chain.arrival()
    assert sorted(sent.nonce for sent in bench.chain.pool.values()) == [0]
    bench.chain.mine(3)
    await bench.settled(lambda: {one["status"] for one in bench.operations.get(PLUGIN)} == {"done", "failed"})


async def test_what_the_node_forgot_below_it_is_sent_again(bench: Bench) -> None:
    dapp = await bench.transactions.execute(await bench.transactions.prepare(OWNER, OTHER, 1))
    await bench.submit()
    await bench.until("submitted")
    assert sorted(sent.nonce for sent in bench.chain.pool.values()) == [0, 1]
    del bench.chain.pool[dapp]
    assert len(await more_hashes(bench, 1)) == 1  # ten blocks go by
    await bench.until("done")
    assert [(sent.nonce, sent.to) for sent in bench.chain.executed()] == [(0, OTHER), (1, GATEWAY)]


async def test_a_full_queue_of_questions_fails_nothing_that_is_on_its_way(bench: Bench) -> None:
    bench.chain.automine, bench.chain.is_dev = True, True
    close = {"function": "close", "args": [CHANNEL]}
    operation = await bench.submit("plan", steps=[close, close | {"args": None}])
    await bench.until("waiting")
    bench.owner.error = AlreadyPending("plan")
    await bench.submit("plan", operation=operation, args=[CHANNEL])
    await bench.settled(lambda: len(bench.owner.asked) == 2)
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"
    bench.owner.error = None
    bench.chain.mine()
    await bench.until("done")


async def test_a_gap_that_another_wallet_left_is_said_and_waited_out(bench: Bench) -> None:
    fields = {"type": 2, "chainId": 31337, "nonce": 0, "to": OTHER, "value": 1, "gas": 21000}
    fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10}
    foreign = bench.keyring.sign_transaction(OWNER, fields | fees)
    lost = bench.chain.eth_sendRawTransaction("0x" + foreign.hex())
    await bench.submit()
    await bench.until("submitted")
    assert [sent.nonce for sent in bench.chain.pool.values()] == [0, 1]
    del bench.chain.pool[lost]
    assert len(await more_hashes(bench, 1)) == 1
    waiting = await bench.until("waiting")
    assert f"a transaction of {OWNER} with a nonce below 1" in waiting["error"]["message"]
    await bench.transactions.execute(await bench.transactions.prepare(OWNER, OTHER, 1))
    bench.chain.mine(3)
    done = await bench.until("done")
    assert "error" not in done
    assert [sent.nonce for sent in bench.chain.executed()] == [0, 1]
