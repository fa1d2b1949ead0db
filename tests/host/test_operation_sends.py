"""`send`, `transfer` and the allowance of a failed deposit: the plugin's own gas, any address, nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import InvalidParams, LimitExceeded, RpcError, Unauthorized
from proxy.host import operations
from proxy.host.deposits import locked_by_operations
from proxy.host.manifest import Manifest
from proxy.storage import Batch, StorageError
from proxy.wallet.keyring import Keyring
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, TOKEN, Bench, plugin, running_bench, token_plugin
from tests.wallet.conftest import OWNER, PASSWORD
from tests.wallet.fake_chain import gone

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CHANNEL = "0x" + "11" * 32
ANSWER: dict[str, Any] = {"function": "answer(bytes32)", "args": [CHANNEL]}


def own_address(keyring: Keyring) -> str:
    return keyring.plugin_account((7002, 0, 0, 0)).address


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        bench.chain.balances[own_address(bench.keyring)] = ETHER
        bench.keyring.open_plugin((7002, 0, 0))
        yield bench


async def test_a_dispute_is_answered_with_the_own_key_and_nobody_is_asked(bench: Bench) -> None:
    own = own_address(bench.keyring)
    operation = await bench.submit("send", **ANSWER)
    done = await bench.until("done")
    (sent,) = bench.chain.executed()
    assert (sent.sender, sent.to, sent.value, sent.nonce) == (own, GATEWAY, 0, 0)
    assert bench.owner.asked == []
    assert done["kind"] == "send"
    (event,) = bench.audited
    assert (event["event"], event["operation"], event["from"], event["to"]) == ("send", operation, own, GATEWAY)
    assert list(bench.own_ledger.of(own)) == list(bench.ledger.of(own)) == []
    await bench.submit("send", function="close", args=[CHANNEL])  # unlocked, whatever the manifest lists
    await bench.until("done", (await bench.submit("deposit")))
    assert [(sent.sender, sent.nonce) for sent in bench.chain.executed()][-2:] == [(own, 1), (OWNER, 0)]


async def test_an_answer_goes_to_changed_code_too_and_the_record_says_so(bench: Bench) -> None:
    await bench.gateways.check(plugin().gateways[0])
    bench.chain.codes[GATEWAY] = "0x6002"
    await bench.submit("send", **ANSWER)
    await bench.until("done")
    assert bench.audited[0]["warnings"][0].startswith("gateway_code: ")


async def test_while_locked_the_watch_goes_on_with_dispute_functions_alone(bench: Bench) -> None:
    bench.keyring.lock()
    with pytest.raises(Unauthorized, match="no such function"):
        await bench.submit("send", function="close", args=[CHANNEL])
    for kind in ("withdraw", "deposit", "transfer", "plan"):
        params: dict[str, Any] = {"args": [CHANNEL]} if kind == "withdraw" else {}
        params = {"to": OTHER, "value": 1} if kind == "transfer" else params
        params = {"steps": [ANSWER]} if kind == "plan" else params
        with pytest.raises(Unauthorized):
            await bench.submit(kind, **params)
    await bench.submit("send", **ANSWER)
    await bench.until("done")
    assert len(bench.chain.executed(GATEWAY)) == 1


async def test_a_send_survives_a_restart_while_locked_and_waits_for_its_key(bench: Bench) -> None:
    bench.chain.refuse_calls["eth_sendRawTransaction"] = gone()
    operation = await bench.submit("send", **ANSWER)
    bench.keyring.lock()
    bench.keyring.close_plugin((7002, 0, 0))
    await bench.rebuild()
    bench.chain.refuse_calls.clear()
    bench.chain.mine()
    bench.keyring.unlock(PASSWORD)
    await bench.until("done", operation)
    assert [sent.nonce for sent in bench.chain.executed(GATEWAY)] == [0]


async def test_a_full_disk_stops_no_dispute_as_long_as_room_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, pieces = bench.database.commit, [3]

    def full(batch: Batch, *, synced: bool = True) -> None:
        if bench.writes % 2 == 0:  # every other write finds the disk full again
            bench.writes += 1
            raise StorageError("No space left on device")
        bench.writes += 1
        commit(batch, synced=synced)

    def give() -> bool:
        pieces[0] -= 1
        return pieces[0] >= 0

    await bench.gateways.check(plugin().gateways[0])  # as at install
    bench.writes, bench.give_room = 0, give
    monkeypatch.setattr(bench.database, "commit", full)
    await bench.submit("send", **ANSWER)
    await bench.settled(lambda: pieces[0] == 0)
    monkeypatch.setattr(bench.database, "commit", commit)
    bench.chain.mine()
    await bench.until("done")
    assert len(bench.chain.executed(GATEWAY)) == 1
    bench.writes, pieces[0] = 0, 0
    monkeypatch.setattr(bench.database, "commit", full)
    with pytest.raises(StorageError):
        await bench.submit("send", **ANSWER)


async def test_a_listener_that_cannot_write_holds_nothing_up_and_hears_it_later(bench: Bench) -> None:
    heard: list[str] = []

    def listen(_plugin: str, operation: dict[str, Any]) -> None:
        if bench.writes:
            raise StorageError("No space left on device")
        heard.append(operation["status"])

    bench.writes = 1
    bench.operations.on_change(listen)
    await bench.submit("send", **ANSWER)
    await bench.settled(lambda: bench.operations.get(PLUGIN)[-1]["status"] == "done")
    assert heard == []
    bench.writes = 0
    bench.chain.mine()
    await bench.settled(lambda: heard == ["done"])


@pytest.mark.parametrize(
    ("changes", "locked"),
    [
        ({"grants": frozenset({"gateway"})}, False),
        ({"grants": frozenset({"keys"})}, False),
        ({"path": ()}, False),
        ({"enabled": False}, False),
        ({"manifest": Manifest(id=PLUGIN, name="P", version="1", runtime="python", entry="a:B")}, True),
    ],
)
async def test_who_was_not_granted_it_sends_nothing(bench: Bench, changes: dict[str, Any], locked: bool) -> None:
    bench.plugin = plugin(**changes)
    if locked:
        bench.keyring.lock()
    with pytest.raises(Unauthorized):
        await bench.submit("send", **ANSWER)
    assert bench.operations.get(PLUGIN) == []


async def test_an_own_key_without_gas_says_its_address_and_what_it_needs(bench: Bench) -> None:
    own = own_address(bench.keyring)
    bench.chain.balances[own] = 1000
    with pytest.raises(RpcError, match=f"insufficient funds.*{own} has 0.000000000000001 ETH") as caught:
        await bench.submit("send", **ANSWER)
    assert caught.value.code == -32000
    for params in (ANSWER | {"value": 1}, ANSWER | {"args": []}):
        with pytest.raises(InvalidParams):
            await bench.submit("send", **params)


async def test_open_operations_are_bounded_and_sends_have_their_own_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "MAX_OPEN", 1)
    bench.owner.mood = "wait"
    await bench.submit()
    with pytest.raises(LimitExceeded):
        await bench.submit()
    await bench.submit("send", **ANSWER)
    await bench.until("done")


async def test_a_transfer_goes_to_any_address_after_a_question_of_its_own(bench: Bench) -> None:
    bench.plugin = plugin(grants=frozenset({"transfer"}))
    await bench.submit("transfer", to=OTHER.lower(), value=hex(3 * ETHER))
    done = await bench.until("done")
    (question,) = bench.owner.asked
    assert question.kind == question.facts.method == "transfer"
    assert f"transfers 3 ETH to {OTHER}" in question.summary
    assert (question.facts.to, question.facts.asset, question.facts.calldata) == (OTHER, "ETH", False)
    assert bench.chain.balances[OTHER] == 3 * ETHER
    (step,) = done["steps"]
    assert (step["gateway"], step["function"], step["to"], step["value"]) == (None, None, OTHER, hex(3 * ETHER))


async def test_a_token_transfer_is_tried_before_it_is_asked(bench: Bench) -> None:
    bench.plugin = plugin(grants=frozenset({"transfer"}))
    bench.chain.tokens[TOKEN] = 0
    await bench.submit("transfer", to=OTHER, value=500, token=TOKEN)
    done = await bench.until("done")
    (question,) = bench.owner.asked
    assert f"500 units of token {TOKEN} to {OTHER}" in question.summary
    facts = question.facts
    assert (facts.asset, facts.value, facts.to, facts.function) == (TOKEN, 500, TOKEN, "transfer(address,uint256)")
    (sent,) = bench.chain.executed(TOKEN)
    assert sent.data[-32:] == (500).to_bytes(32, "big")
    assert done["steps"][0]["args"] == [OTHER, "0x1f4"]
    bench.chain.token_balance = 499
    with pytest.raises(RpcError, match="has 499 units"):
        await bench.submit("transfer", to=OTHER, value=500, token=TOKEN)


@pytest.mark.parametrize(
    "params",
    [
        {"to": OTHER, "value": 0},
        {"to": "0x12", "value": 1},
        {"value": 1},
        {"to": OTHER},
        {"to": OTHER, "value": 1, "data": "0x1234"},
        {"to": TOKEN, "value": 1, "token": TOKEN},
        {"to": OTHER, "value": 101 * ETHER},
    ],
)
async def test_a_bad_transfer_is_refused(bench: Bench, params: dict[str, Any]) -> None:
    bench.plugin = plugin(grants=frozenset({"transfer"}))
    params |= {"value": hex(params["value"])} if "value" in params else {}
    with pytest.raises((InvalidParams, RpcError)):
        await bench.submit("transfer", **params)
    bench.plugin = plugin()
    with pytest.raises(Unauthorized, match="not granted transfer"):
        await bench.submit("transfer", to=OTHER, value=1)
    assert bench.owner.asked == []


@pytest.fixture
def tokens(bench: Bench) -> Bench:
    bench.chain.codes[TOKEN] = "0x6003"
    bench.chain.tokens[TOKEN] = 0
    bench.plugin = token_plugin()
    return bench


DEPOSIT: dict[str, Any] = {"function": "openToken", "args": [500], "value": 500, "token": TOKEN}


async def test_the_allowance_of_a_failed_deposit_is_taken_back(tokens: Bench) -> None:
    tokens.chain.automine = False
    await tokens.submit(**DEPOSIT)
    await tokens.chain.arrival()
    tokens.chain.mine()
    tokens.chain.reverting.add(GATEWAY)
    await tokens.chain.arrival()
    (taken_back,) = tokens.operations.get(PLUGIN)
    (question,) = tokens.owner.asked
    assert "the allowance is taken back" in question.details["ifItFails"]
    assert taken_back["status"] == "running"
    (row,) = await tokens.deposits.of(token_plugin())
    assert (row["asset"], row["pending"], row["locked"]) == (TOKEN, "0x1f4", "0x0")  # until then it counts as spent
    assert locked_by_operations(tokens.operations.records_of(PLUGIN))
    await tokens.rebuild()
    tokens.chain.mine()
    failed = await tokens.until("failed")
    assert "revert" in failed["error"]["message"]
    assert [(step["function"], step["args"], step["status"]) for step in failed["steps"]] == [
        ("approve(address,uint256)", [GATEWAY, "0x1f4"], "confirmed"),
        ("openToken(uint256)", ["0x1f4"], "pending"),
        ("approve(address,uint256)", [GATEWAY, "0x0"], "confirmed"),
    ]
    assert tokens.chain.tokens[TOKEN] == 0
    assert len(tokens.owner.asked) == 1
    assert await tokens.deposits.of(token_plugin()) == []
    assert not locked_by_operations(tokens.operations.records_of(PLUGIN))


async def test_one_allowance_serves_one_deposit_at_a_time(tokens: Bench) -> None:
    tokens.owner.mood = "wait"
    first = await tokens.submit(**DEPOSIT)
    with pytest.raises(LimitExceeded, match=f"operation {first} is paying the same token"):
        await tokens.submit(**DEPOSIT)
    await tokens.submit()  # ETH needs none
    tokens.owner.mood = "yes"
    tokens.owner.approve()
    await tokens.until("done", first)
    await tokens.until("done", await tokens.submit(**DEPOSIT))


async def test_an_allowance_is_taken_back_from_a_plugin_that_is_gone(tokens: Bench) -> None:
    tokens.chain.automine = False
    await tokens.submit(**DEPOSIT)
    await tokens.chain.arrival()
    tokens.plugin = None
    tokens.chain.automine = True
    tokens.chain.mine()
    failed = await tokens.until("failed")
    assert failed["error"]["code"] == 4100
    assert tokens.chain.tokens[TOKEN] == 0


async def test_an_allowance_too_old_to_take_back_unasked_is_asked_and_no_is_said(tokens: Bench) -> None:
    tokens.chain.automine = False
    await tokens.submit(**DEPOSIT)
    await tokens.chain.arrival()
    tokens.chain.reverting.add(GATEWAY)
    tokens.chain.base_fee *= 40  # and the fee that was approved for it is long too low
    tokens.owner.asked.clear()
    tokens.owner.mood = "no"
    for sent in list(tokens.chain.pool.values()):
        tokens.chain.pool[sent.hash] = replace(sent, max_fee=sent.max_fee * 100)
    tokens.chain.automine = True
    tokens.chain.mine()
    failed = await tokens.until("failed")
    (question,) = tokens.owner.asked
    assert "takes back the allowance" in question.summary
    assert "still stands" in failed["error"]["message"]
    assert locked_by_operations(tokens.operations.records_of(PLUGIN))
