"""Approvals do not outlive a restored backup, a store in doubt, or another version of their plugin (hardening.md 13, 24, 25).

Each has its control: a restart alone asks nothing again.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.host.operation_book import Book
from proxy.storage import Batch, Database
from tests.host.operations_bench import ETHER, GATEWAY, PLUGIN, Bench, running_bench
from tests.wallet.conftest import OWNER

CHANNEL = "0x" + "11" * 32
CLOSE = {"function": "close(bytes32)", "args": [CHANNEL]}
LATER = CLOSE | {"waitFor": {"blocks": 5}}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


async def half_done(bench: Bench) -> str:
    """Have a plan of two steps approved; the first is done, the second waits for blocks."""
    plan = await bench.submit("plan", steps=[CLOSE, LATER])
    await bench.until("waiting")
    bench.owner.mood = "wait"
    return plan


def copied(bench: Bench) -> Path:
    """Return a backup of the database as it is now."""
    backup = bench.path.parent / "backup"
    shutil.copytree(bench.path, backup)
    return backup


def put_back(bench: Bench, backup: Path) -> Callable[[], None]:
    def restore() -> None:
        shutil.rmtree(bench.path)
        shutil.copytree(backup, bench.path)

    return restore


def drop_counters(bench: Bench) -> None:
    shutil.rmtree(bench.path.parent / "counters")


async def asked_again(bench: Bench, warning: str) -> None:
    """Check that the owner is asked once more with the warning, that nothing is sent before, and that a yes goes on."""
    sent = len(bench.chain.executed())
    again = await bench.until("awaiting_approval")
    await bench.settled(lambda: len(bench.owner.asked) > 1)
    question = bench.owner.asked[-1]
    assert [found.partition(":")[0] for found in question.warnings] == [warning]
    bench.chain.mine(10)
    assert len(bench.chain.executed()) == sent
    bench.owner.approve()
    await bench.until("done", again["id"])
    assert len(bench.chain.executed()) == sent + 1


async def test_hardening_13_operations_of_a_restored_data_directory_are_asked_again(bench: Bench) -> None:
    await half_done(bench)
    backup = copied(bench)
    bench.chain.mine(5)
    await bench.until("done")  # what the backup does not know of
    await bench.rebuild(meanwhile=put_back(bench, backup))
    assert bench.operations.get(PLUGIN)[-1]["status"] == "awaiting_approval"
    await bench.rebuild()  # before the owner answered: it stays in doubt
    await asked_again(bench, "restored")


async def test_hardening_13_a_missing_counter_is_a_doubt_too(bench: Bench) -> None:
    await half_done(bench)
    await bench.rebuild(meanwhile=lambda: drop_counters(bench))
    await asked_again(bench, "restored")


async def test_a_question_that_was_open_says_that_it_may_have_been_answered(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    backup = copied(bench)
    bench.owner.approve()
    await bench.until("done")
    await bench.rebuild(meanwhile=put_back(bench, backup))
    await asked_again(bench, "restored")


async def test_a_restart_alone_asks_nothing_again(bench: Bench) -> None:
    await half_done(bench)
    for _ in range(3):
        await bench.rebuild()
    bench.chain.mine(5)
    await bench.until("done")
    assert len(bench.owner.asked) == 1


async def test_what_is_signed_is_followed_and_never_asked_again(bench: Bench) -> None:
    bench.chain.automine = False
    await bench.submit()
    await bench.until("submitted")
    backup = copied(bench)
    bench.chain.mine()
    await bench.until("done")
    await bench.rebuild(meanwhile=put_back(bench, backup))
    await bench.until("done")
    assert len(bench.owner.asked) == 1
    assert [sent.value for sent in bench.chain.executed(GATEWAY)] == [2 * ETHER]


async def test_nothing_is_signed_before_the_plugins_store_was_looked_at(bench: Bench) -> None:
    plan = await half_done(bench)
    await bench.rebuild(hold=True)
    bench.chain.mine(10)
    await bench.until("waiting", plan)
    bench.operations.hold("another")
    bench.operations.looked("another", "")
    assert len(bench.chain.executed()) == 1
    bench.operations.looked(PLUGIN, "")
    await bench.until("done")
    assert len(bench.owner.asked) == 1


async def test_hardening_13_a_store_in_doubt_has_its_operations_asked_again(bench: Bench) -> None:
    await half_done(bench)
    await bench.rebuild(hold=True)
    bench.operations.looked(PLUGIN, "the store was damaged and has been repaired")
    await asked_again(bench, "restored")


@pytest.mark.parametrize("restarted", [False, True])
async def test_hardening_13_another_version_of_the_plugin_is_asked_about(bench: Bench, restarted: bool) -> None:
    await half_done(bench)
    assert bench.plugin is not None
    bench.operations.hold(PLUGIN)
    bench.plugin = replace(bench.plugin, digest="sha256:2")
    if restarted:
        await bench.rebuild()
    else:
        bench.operations.exchanged(PLUGIN)
        bench.operations.looked(PLUGIN, "")
    await asked_again(bench, "plugin_code")


async def test_a_send_in_doubt_fails_for_only_the_plugin_knows_whether_it_is_due(bench: Bench) -> None:
    own = bench.keyring.plugin_account((7002, 0, 0, 0)).address
    bench.chain.balances[own] = ETHER
    bench.operations.hold(PLUGIN)
    await bench.submit("send", function="answer", args=[CHANNEL])
    bench.operations.looked(PLUGIN, "the store was damaged and has been repaired")
    failed = await bench.until("failed")
    assert failed["error"]["message"].startswith("nothing was sent")
    assert bench.chain.executed() == []


async def test_an_open_question_is_taken_back_and_asked_for_the_other_version(bench: Bench) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    assert bench.plugin is not None
    bench.plugin = replace(bench.plugin, digest="sha256:2")
    bench.operations.exchanged(PLUGIN)
    await asked_again(bench, "plugin_code")
    assert len(bench.owner.asked) == 2
    assert bench.owner.asked[0].digest != bench.owner.asked[1].digest


@pytest.mark.parametrize("why", ["", "the store was damaged and has been repaired"])
async def test_a_question_waits_until_the_store_was_looked_at_and_says_what_came_of_it(bench: Bench, why: str) -> None:
    bench.owner.mood = "wait"
    await bench.submit()
    await bench.owner.question()
    bench.owner.withdraw()
    await bench.rebuild(hold=True)
    bench.chain.mine(3)
    await asyncio.sleep(0)
    assert len(bench.owner.asked) == 1
    bench.operations.looked(PLUGIN, why)
    await bench.settled(lambda: len(bench.owner.asked) == 2)
    assert [bool(question.warnings) for question in bench.owner.asked] == [False, bool(why)]
    bench.owner.approve()
    await bench.until("done")
    assert len(bench.owner.asked) == 2


async def test_nonces_given_here_are_known(bench: Bench) -> None:
    own = bench.keyring.plugin_account((7002, 0, 0, 0)).address
    assert bench.operations.used(OWNER) == 0
    await half_done(bench)
    await bench.transactions.execute(await bench.transactions.prepare(OWNER, GATEWAY, 5))  # a dapp's
    assert (bench.operations.used(OWNER), bench.operations.used(own)) == (2, 0)
    await bench.rebuild()
    assert bench.operations.used(OWNER) == 2


def test_a_book_that_was_not_settled_goes_on_doubting(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = database.space("book")

        def write(book: Book) -> None:
            batch = Batch()
            book.put(batch)
            database.commit(batch)
            book.committed()

        first = Book(space, tmp_path / "counters")
        assert first.doubt() == ""
        first.settle()
        for _ in range(3):
            write(first)
        first.close()
        known = space.get(b"book")
        assert known is not None
        space.write({b"book": known.replace(b":3}", b":1}")})
        restored = Book(space, tmp_path / "counters")
        assert "written 1 times, and 3 times" in restored.doubt()
        write(restored)  # one of several in doubt is on disk, then the process ends
        restored.close()
        again = Book(space, tmp_path / "counters")
        assert again.doubt()
        again.settle()
        write(again)
        again.close()
        assert Book(space, tmp_path / "counters").doubt() == ""


async def test_a_send_goes_on_after_a_kill_that_lost_nothing_and_the_rest_is_asked_again(bench: Bench) -> None:
    own = bench.keyring.plugin_account((7002, 0, 0, 0)).address
    bench.chain.balances[own] = ETHER
    bench.chain.is_dev = True
    bench.operations.hold(PLUGIN)
    send = await bench.submit("send", function="answer", args=[CHANNEL])
    deposit = await bench.submit()
    bench.operations.looked(PLUGIN, "the daemon ended uncleanly, and the counters are apart", killed=True)
    await bench.until("done", send)
    await bench.until("done", deposit)
    assert [bool(question.warnings) for question in bench.owner.asked] == [True]
    assert len(bench.chain.executed()) == 2
