"""The queue: one answer each, under limits, recorded before it takes effect, gone with its asker and its right."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from middleware.errors import AlreadyPending, LimitExceeded, Refused, RpcError, Unauthorized
from middleware.questions import Decision, Facts, Question, Withdrawn, digest_of
from middleware.waist import SOCKET, Origin
from proxy.authority import queue as queue_module
from proxy.authority.assembly import Authority
from proxy.authority.queue import NoSuchQuestion
from proxy.storage import StorageError

Make = Callable[..., Question]
APP = Origin.web("https://app.example")
PLUGIN = Origin.plugin("paychan")


class Here:
    """A presence the test ends."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.returned = asyncio.Event()

    @property
    def here(self) -> bool:
        return not self.left.is_set()

    async def gone(self) -> None:
        await self.left.wait()

    async def back(self) -> None:
        await self.returned.wait()


@pytest.fixture
def connected(authority: Authority) -> Authority:
    authority.permissions.connect(APP)
    return authority


async def asking(authority: Authority, question: Question) -> tuple[asyncio.Task[Decision], str]:
    """Ask, and return the task with the id of the question it waits on."""
    before = {opened.id for opened in authority.approvals.list()}
    version = authority.approvals.version
    task = asyncio.ensure_future(authority.approvals.ask(question))
    while True:
        version = await authority.approvals.changed(version)
        new = [opened.id for opened in authority.approvals.list() if opened.id not in before]
        if new:
            return task, new[0]


async def test_a_yes_is_given_once_and_is_in_the_log(connected: Authority, question: Make) -> None:
    task, waiting = await asking(connected, question())
    connected.approvals.approve(waiting)
    decision = await task
    assert (decision.source, decision.id) == ("owner", waiting)
    [entry] = connected.audit.entries()
    assert entry["decision"] == "allow"
    assert entry["digest"] == question().digest
    assert entry["origin"] == "https://app.example"
    for again in (connected.approvals.approve, connected.approvals.reject):
        with pytest.raises(NoSuchQuestion):
            again(waiting)
    assert len(connected.audit.entries()) == 1


async def test_a_no_is_4001(connected: Authority, question: Make) -> None:
    task, waiting = await asking(connected, question())
    connected.approvals.reject(waiting)
    with pytest.raises(Refused) as refused:
        await task
    assert refused.value.code == 4001
    assert connected.audit.entries()[0]["decision"] == "reject"
    assert connected.approvals.list() == []


async def test_the_deadline_is_a_no(connected: Authority, question: Make, lines: list[str], clock: Any) -> None:
    task, _ = await asking(connected, question(deadline=clock.now + 0.01))
    with pytest.raises(Refused, match="did not answer in time"):
        await task
    assert any("REFUSED transaction" in line for line in lines)


async def test_warnings_need_a_word_of_their_own(connected: Authority, question: Make) -> None:
    task, waiting = await asking(connected, question(warnings=("chain_mismatch: another chain",)))
    with pytest.raises(Refused, match="--despite-warnings"):
        connected.approvals.approve(waiting)
    assert not task.done()
    connected.approvals.approve(waiting, despite_warnings=True)
    assert (await task).source == "owner"
    assert connected.audit.entries()[-1]["warnings"] == ["chain_mismatch: another chain"]


async def test_without_a_log_there_is_no_yes(
    connected: Authority, question: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    applied: list[object] = []
    task, waiting = await asking(connected, question(apply=applied.append))
    monkeypatch.setattr(connected.audit._space, "write", broken)
    with pytest.raises(StorageError):
        connected.approvals.approve(waiting)
    assert applied == []
    assert not task.done()
    monkeypatch.undo()
    connected.approvals.approve(waiting)
    await task
    assert applied == [None]


async def test_what_applies_is_there_before_the_answer(connected: Authority, question: Make) -> None:
    applied: list[object] = []
    task, waiting = await asking(connected, question(apply=applied.append))
    connected.approvals.approve(waiting, chosen={"accounts": ["0x01"]})
    assert applied == [{"accounts": ["0x01"]}]
    assert (await task).chosen == {"accounts": ["0x01"]}


async def test_what_cannot_apply_is_told_to_owner_and_asker(connected: Authority, question: Make) -> None:
    def refuse(chosen: object) -> None:
        raise Refused("nothing of this can be granted")

    task, waiting = await asking(connected, question(apply=refuse))
    with pytest.raises(Refused):
        connected.approvals.approve(waiting)
    with pytest.raises(Refused, match="nothing of this"):
        await task


async def test_the_right_to_ask_is_looked_at_again(connected: Authority, question: Make) -> None:
    allowed = True

    def still() -> None:
        if not allowed:
            raise Unauthorized("the wallet was locked")

    task, waiting = await asking(connected, question(still_allowed=still))
    allowed = False
    with pytest.raises(Unauthorized):
        connected.approvals.approve(waiting)
    with pytest.raises(Unauthorized):
        await task
    assert connected.audit.entries() == []


async def test_the_right_is_looked_at_once_more_when_the_answer_is_executed(
    connected: Authority, question: Make
) -> None:
    allowed = True

    def still() -> None:
        if not allowed:
            raise Unauthorized("revoked in the same moment")

    task, waiting = await asking(connected, question(still_allowed=still))
    connected.approvals.approve(waiting)
    allowed = False
    with pytest.raises(Unauthorized):
        await task


@pytest.mark.parametrize("take", ["revoke", "disconnect"])
async def test_revocation_withdraws_what_waits(connected: Authority, question: Make, take: str) -> None:
    connected.permissions.grant_accounts(APP, ["0x01"])
    task, _ = await asking(connected, question())
    of_plugin, _ = await asking(connected, question(origin=PLUGIN, kind="deposit", serving=APP))
    other, _ = await asking(connected, question(origin=SOCKET))
    getattr(connected.permissions, take)(APP)
    for waiting in (task, of_plugin):
        with pytest.raises(Unauthorized):
            await waiting
    assert not other.done()
    other.cancel()


async def test_locking_withdraws_what_needs_keys(connected: Authority, question: Make) -> None:
    task, _ = await asking(connected, question())
    grant, _ = await asking(connected, question(kind="permissions"))
    connected.locked()
    with pytest.raises(Unauthorized, match="locked"):
        await task
    assert not grant.done()
    grant.cancel()


async def test_an_asker_who_stays_away_takes_the_question_along(
    connected: Authority, question: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "ASKER_GRACE", 0.02)
    presence = Here()
    task, waiting = await asking(connected, question(presence=presence))
    presence.left.set()
    with pytest.raises(Withdrawn):
        await task
    with pytest.raises(NoSuchQuestion):
        connected.approvals.approve(waiting)


async def test_an_asker_who_comes_back_in_time_keeps_it(connected: Authority, question: Make) -> None:
    presence = Here()
    task, waiting = await asking(connected, question(presence=presence))
    presence.left.set()
    presence.returned.set()
    presence.left.clear()
    connected.approvals.approve(waiting)
    assert (await task).source == "owner"


async def test_one_question_of_a_kind_and_three_in_all(connected: Authority, question: Make) -> None:
    tasks = [(await asking(connected, question()))[0]]
    with pytest.raises(AlreadyPending) as pending:
        await connected.approvals.ask(question())
    assert pending.value.code == -32002
    tasks += [(await asking(connected, question(kind=kind)))[0] for kind in ("message", "typed_data")]
    with pytest.raises(LimitExceeded) as full:
        await connected.approvals.ask(question(kind="invoke"))
    assert full.value.data == {"limit": "questions_per_origin"}
    for task in tasks:
        task.cancel()


async def test_a_plugin_has_three_slots_and_three_for_ways_out(authority: Authority, question: Make) -> None:
    tasks = [(await asking(authority, question(origin=PLUGIN, kind="deposit")))[0] for _ in range(3)]
    with pytest.raises(LimitExceeded):
        await authority.approvals.ask(question(origin=PLUGIN, kind="sign"))
    tasks += [(await asking(authority, question(origin=PLUGIN, kind="withdraw")))[0] for _ in range(3)]
    with pytest.raises(LimitExceeded):
        await authority.approvals.ask(question(origin=PLUGIN, kind="plan"))
    for task in tasks:
        task.cancel()


async def test_fifty_questions_and_five_of_strangers_beside_them(authority: Authority, question: Make) -> None:
    tasks = [(await asking(authority, question(origin=Origin.token(f"t{number}"))))[0] for number in range(50)]
    with pytest.raises(LimitExceeded) as full:
        await authority.approvals.ask(question(origin=SOCKET))
    assert full.value.data == {"limit": "questions"}
    for number in range(5):
        assert authority.doorkeeper.ask_to_connect(Origin.web(f"https://s{number}.example"))
    assert not authority.doorkeeper.ask_to_connect(Origin.web("https://s6.example"))
    for task in tasks:
        task.cancel()


async def test_strangers_have_one_question_per_host(authority: Authority) -> None:
    assert authority.doorkeeper.ask_to_connect(Origin.web("https://app.example"))
    assert not authority.doorkeeper.ask_to_connect(Origin.web("https://app.example"))
    assert not authority.doorkeeper.ask_to_connect(Origin.web("https://app.example:8443"))


async def test_a_connect_question_connects(authority: Authority, clock: Any) -> None:
    authority.doorkeeper.ask_to_connect(APP)
    [opened] = authority.approvals.list()
    assert opened.question.kind == "connect"
    authority.approvals.approve(opened.id)
    assert authority.permissions.is_connected(APP)


async def test_a_site_that_was_refused_stays_silent_for_an_hour(authority: Authority, clock: Any) -> None:
    authority.doorkeeper.ask_to_connect(APP)
    authority.approvals.reject(authority.approvals.list()[0].id)
    assert not authority.doorkeeper.ask_to_connect(APP)
    clock.now += 3601
    assert authority.doorkeeper.ask_to_connect(APP)


async def test_asking_for_more_takes_the_connect_question_along(authority: Authority, question: Make) -> None:
    authority.doorkeeper.ask_to_connect(APP)
    task, waiting = await asking(authority, question(kind="accounts"))
    assert [opened.id for opened in authority.approvals.list()] == [waiting]
    assert not authority.doorkeeper.ask_to_connect(APP)
    task.cancel()


async def test_the_same_again_says_so_first(connected: Authority, question: Make, clock: Any) -> None:
    task, waiting = await asking(connected, question())
    connected.approvals.approve(waiting)
    await task
    clock.now += 61
    alike = question(digest=digest_of("another nonce"))
    task, waiting = await asking(connected, alike)
    assert connected.approvals.get(waiting).summary.startswith("AGAIN, the same was approved 61 s ago: ")
    connected.approvals.reject(waiting)
    with pytest.raises(Refused):
        await task
    clock.now += 600
    task, waiting = await asking(connected, alike)
    assert connected.approvals.get(waiting).summary == alike.summary
    task.cancel()


async def test_the_line_for_the_owner_holds_the_command_and_no_foreign_control(
    connected: Authority, question: Make, lines: list[str]
) -> None:
    task, waiting = await asking(connected, question(summary="send \x1b[2J\u202e1 ETH"))
    [line] = lines
    assert line.startswith("l2proxy: QUESTION transaction from https://app.example: send \\u001b[2J\\u202e1 ETH")
    words = shlex.split(line.partition("answer: ")[2])
    assert words[:4] == ["l2proxy", "approval", "approve", waiting]
    assert words[4] == "--data"
    assert words[5].endswith("/my data")
    assert line.isprintable()
    task.cancel()


async def test_rules_answer_where_they_may(connected: Authority, question: Make) -> None:
    connected.rules.attest(
        '[[rule]]\norigin = "https://app.example"\nmethod = "eth_sendTransaction"\nto = "0x01"\ndecision = "allow"\n'
    )
    decision = await connected.approvals.ask(question())
    assert decision.source == "rule"
    assert decision.id == connected.rules.rules[0].id
    assert connected.audit.entries()[-1]["source"] == "rule"


async def test_a_reject_rule_beats_everything(connected: Authority, question: Make, lines: list[str]) -> None:
    connected.rules.attest(
        '[[rule]]\norigin = "*"\nmethod = "eth_sendTransaction"\ndecision = "allow"\n'
        '[[rule]]\nto = "0x01"\ndecision = "reject"\n'
    )
    with pytest.raises(Refused):
        await connected.approvals.ask(question())
    with pytest.raises(Refused):
        await connected.approvals.by_policy(question(), "budget")
    assert connected.approvals.list() == []
    assert {entry["decision"] for entry in connected.audit.entries()} == {"reject"}


@pytest.mark.parametrize("kind", ["connect", "accounts", "permissions", "plugin"])
async def test_some_kinds_are_never_decided_by_a_rule(connected: Authority, question: Make, kind: str) -> None:
    connected.rules.attest('[[rule]]\norigin = "*"\nmethod = "eth_sendTransaction"\ndecision = "allow"\n')
    task, _ = await asking(connected, question(kind=kind))
    assert not task.done()
    task.cancel()


async def test_always_means_always(connected: Authority, question: Make) -> None:
    connected.rules.attest('[[rule]]\norigin = "*"\nmethod = "l2_invoke"\naction = "pay"\ndecision = "allow"\n')
    facts = Facts("l2_invoke", plugin="paychan", action="pay", asset="ETH", value=1)
    assert (await connected.approvals.ask(question(kind="invoke", facts=facts))).source == "rule"
    always = Facts("l2_invoke", plugin="paychan", action="pay", asset="ETH", value=1, always_ask=True)
    task, _ = await asking(connected, question(kind="invoke", facts=always))
    assert not task.done()
    task.cancel()


async def test_open_questions_die_with_the_daemon(connected: Authority, question: Make) -> None:
    task, _ = await asking(connected, question())
    await connected.close()
    with pytest.raises(Withdrawn):
        await task
    with pytest.raises(RpcError):
        await connected.approvals.ask(question())


async def test_a_cancelled_asker_leaves_nothing_behind(connected: Authority, question: Make) -> None:
    task, waiting = await asking(connected, question(presence=Here()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(NoSuchQuestion):
        connected.approvals.get(waiting)
