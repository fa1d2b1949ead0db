"""The path of l2_invoke from permission to plugin: checked, recorded, reserved, decided, and asked at most once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from middleware.chain import Chain
from middleware.errors import (
    InvalidParams,
    LimitExceeded,
    PluginFailed,
    PluginTimeout,
    PluginUnavailable,
    Refused,
    RpcError,
    Unauthorized,
)
from middleware.invocation import read_checked
from middleware.methods import MethodTable
from middleware.waist import Answer, Context, Origin, Request, answered, result
from proxy.authority import invocations as invocations_module
from proxy.authority.assembly import Authority, open_authority
from proxy.authority.capabilities import Budget
from proxy.storage import Database

SITE = Origin.web("https://app.example")
ALICE = "0x" + "a1" * 20


@dataclass(frozen=True)
class Spec:
    name: str
    spends: dict[str, str] | None = None
    approval: str = "policy"
    idempotent: bool = False
    plugin: str = "paychan"
    digest: str = "0xc0de"


PAY = Spec("makePayment", {"param": "value", "asset": "ETH"})
SPECS = {
    spec.name: spec
    for spec in (
        PAY,
        Spec("look", approval="never"),
        Spec("vague"),
        Spec("careful", {"param": "value", "asset": "ETH"}, approval="always"),
        Spec("again", {"param": "value", "asset": "ETH"}, idempotent=True),
    )
}


@dataclass
class Plugin:
    """The host, in place of the terminal: says what is declared, counts what is asked."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None
    hold: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def action_spec(self, plugin: str, action: str) -> Spec | None:
        return SPECS.get(action) if plugin == "paychan" else None

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        if not isinstance(raw, dict) or raw.keys() - {"value", "toAddress"}:
            raise InvalidParams("params", "toAddress and value", raw)
        return raw

    async def __call__(self, request: Request, context: Context) -> Answer:
        call = read_checked(request)
        self.reached.set()
        self.asked.append({"action": call.action, "params": call.params, "call": call.call})
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return result({"nonce": hex(len(self.asked))})


@dataclass
class House:
    """One daemon's life over the databases of the test."""

    authority: Authority
    plugin: Plugin
    locked: bool = False

    def __post_init__(self) -> None:
        links = self.authority.links(MethodTable(), self.plugin, lambda: self.locked)
        self.chain = Chain(links, self.plugin)

    async def invoke(
        self, action: str, value: int = 1, key: str | None = None, origin: Origin = SITE, to: str = ALICE
    ) -> Any:
        options = {} if key is None else {"idempotencyKey": key}
        params = json.dumps(["paychan", action, {"toAddress": to, "value": hex(value)}, options]).encode()
        return answered(await self.chain(Request("l2_invoke", params, b"1"), Context(origin)))

    def start(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.invoke(*args, **kwargs))

    async def question(self) -> Any:
        """Wait for the next question and return it."""
        approvals = self.authority.approvals
        while not approvals.list():
            await approvals.changed(approvals.version)
        return approvals.list()[0]


@pytest.fixture
def houses(owner: Database, chain: Database, tmp_path: Path, clock: Any) -> Callable[[], House]:
    def build() -> House:
        return House(open_authority(owner, chain, tmp_path, lambda line: None, clock=clock), Plugin())

    return build


@pytest.fixture
def house(houses: Callable[[], House]) -> House:
    opened = houses()
    opened.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    return opened


def with_budget(house: House, amount: int = 100, period: int = 3600) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", amount, period))


# -- permission and params


async def test_without_permission_the_plugin_sees_nothing(house: House) -> None:
    other = Origin.web("https://other.example")
    house.authority.permissions.connect(other)
    with pytest.raises(Unauthorized):
        await house.invoke("makePayment", origin=other)
    assert house.plugin.asked == []
    assert house.authority.approvals.list() == []


async def test_wrong_params_are_refused_before_anyone_is_asked(house: House) -> None:
    request = Request("l2_invoke", b'["paychan","makePayment",{"what":1}]', b"1")
    with pytest.raises(InvalidParams):
        await house.chain(request, Context(SITE))
    assert house.plugin.asked == []
    assert house.authority.approvals.list() == []


@pytest.mark.parametrize(
    "options", [{"idempotencykey": "k"}, {"call": "x"}, {"idempotencyKey": ""}, {"idempotencyKey": 5}, [1], "k"]
)
async def test_unknown_options_are_refused(house: House, options: Any) -> None:
    params = json.dumps(["paychan", "look", {}, options]).encode()
    with pytest.raises(InvalidParams, match="options"):
        await house.chain(Request("l2_invoke", params, b"1"), Context(SITE))


async def test_params_go_on_as_checked_by_name_or_position(house: House) -> None:
    params = b'{"plugin":"paychan","params":{"value":"0x1"},"action":"look"}'
    assert answered(await house.chain(Request("l2_invoke", params, b"1"), Context(SITE))) == {"nonce": "0x1"}
    assert house.plugin.asked[0]["params"] == {"value": "0x1"}


# -- who decides


async def test_what_spends_without_a_budget_is_asked(house: House) -> None:
    task = house.start("makePayment", 10**18)
    opened = await house.question()
    assert opened.question.kind == "invoke"
    assert "1 ETH" in opened.summary
    assert ALICE not in opened.summary
    assert opened.question.quoted["toAddress"] == ALICE
    assert house.plugin.asked == []
    house.authority.approvals.approve(opened.id)
    assert await task == {"nonce": "0x1"}
    assert len(house.plugin.asked) == 1


async def test_a_no_reaches_the_caller_and_not_the_plugin(house: House) -> None:
    task = house.start("makePayment")
    house.authority.approvals.reject((await house.question()).id)
    with pytest.raises(Refused):
        await task
    assert house.plugin.asked == []


async def test_what_does_not_say_is_asked_every_time_unless_a_rule_names_it(house: House) -> None:
    task = house.start("vague")
    house.authority.approvals.approve((await house.question()).id)
    await task
    house.authority.rules.attest('[[rule]]\norigin="https://app.example"\nmethod="l2_invoke"\ndecision="allow"\n')
    task = house.start("vague", 2)
    house.authority.approvals.approve((await house.question()).id)
    await task
    house.authority.rules.attest('[[rule]]\norigin="https://app.example"\naction="vague"\ndecision="allow"\n')
    await house.invoke("vague", 3)
    assert len(house.plugin.asked) == 3


async def test_never_goes_on_and_is_recorded(house: House) -> None:
    await house.invoke("look")
    assert house.authority.audit.entries()[-1]["source"] == "policy"


async def test_always_is_asked_within_a_budget_too(house: House) -> None:
    with_budget(house)
    task = house.start("careful")
    house.authority.approvals.approve((await house.question()).id)
    await task
    with pytest.raises(Unauthorized, match="budget"):
        await house.invoke("careful", 100)


async def test_permission_is_looked_at_again_when_the_owner_answers(house: House) -> None:
    task = house.start("makePayment")
    opened = await house.question()
    house.locked = True
    with pytest.raises(Unauthorized):
        house.authority.approvals.approve(opened.id)
    with pytest.raises(Unauthorized):
        await task
    assert house.plugin.asked == []


async def test_revoking_ends_what_waits(house: House) -> None:
    task = house.start("makePayment")
    await house.question()
    house.authority.permissions.revoke(SITE, "l2_invoke")
    with pytest.raises(Unauthorized):
        await task
    with pytest.raises(Unauthorized):
        await house.invoke("look")
    assert house.plugin.asked == []


# -- budgets


async def test_a_budget_covers_up_to_its_sum_and_caps_beyond(house: House) -> None:
    with_budget(house, 100)
    await house.invoke("makePayment", 60)
    await house.invoke("makePayment", 40)
    with pytest.raises(Unauthorized, match="budget") as spent:
        await house.invoke("makePayment", 1)
    assert spent.value.code == 4100
    assert len(house.plugin.asked) == 2
    assert {entry["source"] for entry in house.authority.audit.entries()} == {"policy"}


async def test_the_owner_hears_of_a_spent_budget(owner: Database, chain: Database, tmp_path: Path, clock: Any) -> None:
    lines: list[str] = []
    house = House(open_authority(owner, chain, tmp_path, lines.append, clock=clock), Plugin())
    with_budget(house, 100)
    for amount in (101, 102, 103):  # one that asks for another sum each time buries nobody else's refusals
        with pytest.raises(Unauthorized, match=f"budget.* {amount} asked"):
            await house.invoke("makePayment", amount)
    [line] = lines
    assert line.startswith(f"l2proxy: REFUSED l2_invoke from {SITE}: the budget of {SITE} for paychan is spent: ")
    assert f" — allow: l2proxy permission grant {SITE} --allow-plugin paychan --data " in line


async def test_a_budget_rolls_with_the_latest_time_ever_seen(house: House, clock: Any) -> None:
    with_budget(house, 100, 3600)
    await house.invoke("makePayment", 100)
    clock.now -= 10**6
    with pytest.raises(Unauthorized):
        await house.invoke("makePayment", 1)
    clock.now += 10**6 + 3600
    await house.invoke("makePayment", 100)


async def test_a_budget_is_spent_after_a_restart(house: House, houses: Callable[[], House]) -> None:
    with_budget(house, 100)
    await house.invoke("makePayment", 100)
    with pytest.raises(Unauthorized):
        await houses().invoke("makePayment", 1)


async def test_concurrent_calls_share_one_budget(house: House) -> None:
    with_budget(house, 100)
    house.plugin.hold = asyncio.Event()
    tasks = [house.start("makePayment", 40) for _ in range(5)]
    house.plugin.hold.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, Unauthorized) for outcome in outcomes) == 3
    assert len(house.plugin.asked) == 2


@pytest.mark.parametrize(
    ("failure", "back"),
    [
        (PluginFailed("paychan", 1, "no route", {"spent": False}), True),
        (PluginFailed("paychan", 1, "no route", '{"spent": false}'), True),
        (PluginFailed("paychan", 1, "no route"), False),
        (PluginFailed("paychan", 1, "no route", {"spent": True}), False),
        (PluginTimeout("paychan", 60), False),
        (PluginUnavailable("paychan", "crashed", "unknown"), False),
        (PluginUnavailable("paychan", "is quarantined"), True),
        (LimitExceeded("invokes_waiting", "too many"), True),
        (RuntimeError("a mistake of ours"), False),
    ],
)
async def test_a_budget_is_given_back_only_where_nothing_was_spent(
    house: House, houses: Callable[[], House], failure: Exception, back: bool
) -> None:
    with_budget(house, 100)
    house.plugin.failure = failure
    with pytest.raises(type(failure)):
        await house.invoke("makePayment", 100)
    house.plugin.failure = None
    for daemon in (house, houses()):
        if back:
            await daemon.invoke("makePayment", 100)
            return
        with pytest.raises(Unauthorized):
            await daemon.invoke("makePayment", 1)


async def test_a_budget_refused_by_a_rule_is_given_back(house: House) -> None:
    with_budget(house, 100)
    house.authority.rules.attest('[[rule]]\naction="makePayment"\ndecision="reject"\n')
    with pytest.raises(Refused):
        await house.invoke("makePayment", 100)
    house.authority.rules.attest("")
    await house.invoke("makePayment", 100)


# -- idempotency


async def test_a_recorded_result_is_returned_after_a_restart_too(house: House, houses: Callable[[], House]) -> None:
    with_budget(house)
    first = await house.invoke("makePayment", 1, "k")
    assert await house.invoke("makePayment", 1, "k") == first
    assert await houses().invoke("makePayment", 1, "k") == first
    assert len(house.plugin.asked) == 1


async def test_a_recorded_error_is_raised_again(house: House, houses: Callable[[], House]) -> None:
    with_budget(house)
    house.plugin.failure = PluginFailed("paychan", 7, "no route", {"why": "x"})
    errors = []
    for daemon in (house, house, houses()):
        with pytest.raises(RpcError) as failed:
            await daemon.invoke("makePayment", 1, "k")
        errors.append(failed.value.to_json())
    assert errors[0] == errors[1] == errors[2]
    assert len(house.plugin.asked) == 1


async def test_a_key_with_other_params_is_refused(house: House) -> None:
    with_budget(house)
    await house.invoke("makePayment", 1, "k")
    with pytest.raises(InvalidParams, match="idempotencyKey"):
        await house.invoke("makePayment", 2, "k")
    with pytest.raises(InvalidParams, match="idempotencyKey"):
        await house.invoke("again", 1, "k")


async def test_keys_belong_to_their_origin(house: House) -> None:
    other = Origin.token("ci")
    house.authority.tokens.new("ci")
    house.authority.permissions.grant_invoke(other, "paychan", ["look"])
    assert await house.invoke("look", 1, "k") == {"nonce": "0x1"}
    assert await house.invoke("look", 2, "k", origin=other) == {"nonce": "0x2"}


async def test_a_running_one_is_joined(house: House) -> None:
    with_budget(house)
    house.plugin.hold = asyncio.Event()
    tasks = [house.start("makePayment", 1, "k") for _ in range(3)]
    house.plugin.hold.set()
    assert [await task for task in tasks] == [{"nonce": "0x1"}] * 3
    assert len(house.plugin.asked) == 1


async def test_one_that_waits_for_the_owner_is_joined(house: House) -> None:
    tasks = [house.start("makePayment", 1, "k") for _ in range(2)]
    opened = await house.question()
    house.authority.approvals.approve(opened.id)
    assert [await task for task in tasks] == [{"nonce": "0x1"}] * 2
    assert len(house.plugin.asked) == 1


async def test_refusals_before_the_plugin_are_not_recorded(house: House) -> None:
    task = house.start("makePayment", 1, "k")
    house.authority.approvals.reject((await house.question()).id)
    with pytest.raises(Refused):
        await task
    task = house.start("makePayment", 1, "k")
    house.authority.approvals.approve((await house.question()).id)
    assert await task == {"nonce": "0x1"}


async def crash_while_asked(house: House, action: str) -> None:
    house.plugin.hold = asyncio.Event()
    task = house.start(action, 60, "k")
    await asyncio.wait_for(house.plugin.reached.wait(), 60)
    task.cancel()
    await house.authority.close()


async def test_a_crash_while_asked_is_unknown_and_stays_spent(house: House, houses: Callable[[], House]) -> None:
    with_budget(house)
    await crash_while_asked(house, "makePayment")
    after = houses()
    with pytest.raises(PluginUnavailable) as unknown:
        await after.invoke("makePayment", 60, "k")
    assert unknown.value.data == {"plugin": "paychan", "outcome": "unknown"}
    with pytest.raises(Unauthorized, match="budget"):
        await after.invoke("makePayment", 60)
    assert after.plugin.asked == []


async def test_an_idempotent_action_is_asked_again_and_counts_once(house: House, houses: Callable[[], House]) -> None:
    with_budget(house)
    await crash_while_asked(house, "again")
    after = houses()
    assert await after.invoke("again", 60, "k") == {"nonce": "0x1"}
    assert after.plugin.asked[0]["call"] == house.plugin.asked[0]["call"]
    await after.invoke("again", 40, "other")
    with pytest.raises(Unauthorized):
        await after.invoke("again", 1, "third")


async def test_a_crash_while_the_owner_thinks_leaves_nothing(house: House, houses: Callable[[], House]) -> None:
    with_budget(house)
    task = house.start("careful", 100, "k")
    await house.question()
    await house.authority.close()
    with pytest.raises((Refused, asyncio.CancelledError)):
        await task
    after = houses()
    task = after.start("careful", 100, "k")
    after.authority.approvals.approve((await after.question()).id)
    assert await task == {"nonce": "0x1"}


async def test_keys_are_limited_and_never_evicted_early(
    house: House, houses: Callable[[], House], monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    monkeypatch.setattr(invocations_module, "MOST_KEYS", 2)
    with_budget(house)
    for key in ("a", "b"):
        await house.invoke("makePayment", 1, key)
    for daemon in (house, houses()):
        with pytest.raises(LimitExceeded) as full:
            await daemon.invoke("makePayment", 1, "c")
        assert full.value.code == -32005
    assert await house.invoke("makePayment", 1, "a") == {"nonce": "0x1"}
    clock.now += 30 * 86400 + 1
    assert await house.invoke("makePayment", 1, "c") == {"nonce": "0x3"}
    assert await house.invoke("makePayment", 1, "a") == {"nonce": "0x4"}


async def test_without_a_disk_the_plugin_is_not_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with_budget(house)

    def full(batch: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(house.authority.invocations._space.database, "commit", full)
    with pytest.raises(OSError, match="disk full"):
        await house.invoke("makePayment", 100, "k")
    assert house.plugin.asked == []
    monkeypatch.undo()
    assert await house.invoke("makePayment", 100, "k") == {"nonce": "0x1"}
