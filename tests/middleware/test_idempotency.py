"""The idempotency and recording links against records in memory; with the real ones: tests/authority/test_invoke_path.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from middleware.errors import InvalidParams, LimitExceeded, PluginFailed, PluginTimeout, PluginUnavailable, RpcError
from middleware.idempotency import IdempotencyLink, Recorded, RecordingLink, params_digest
from middleware.invocation import ActionSpec, Invocation
from middleware.waist import SOCKET, Answer, Context, NodeReply, Origin, Request, Result, result

CALL = Invocation("paychan", "pay", {"value": "0x1"}, "k", "c1")


class Spec:
    plugin, name, spends, approval, digest = "paychan", "pay", None, "policy", "0x"

    def __init__(self, idempotent: bool) -> None:
        self.idempotent = idempotent


class Actions:
    idempotent = False

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        return Spec(self.idempotent)

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        raise AssertionError("checked before")


class Records:
    def __init__(self) -> None:
        self.known: dict[str, Recorded] = {}
        self.steps: list[str] = []
        self.full = False

    def find(self, origin: Origin, key: str) -> Recorded | None:
        return self.known.get(key)

    def check_room(self, origin: Origin) -> None:
        if self.full:
            raise LimitExceeded("idempotency_keys", "full")

    def begin(self, origin: Origin, invocation: Invocation, digest: str) -> None:
        self.steps.append("begin")

    def finish(self, origin: Origin, invocation: Invocation, digest: str, answer: Result | RpcError) -> None:
        self.steps.append(f"finish {answer.code if isinstance(answer, RpcError) else answer.json.decode()}")

    def forget(self, origin: Origin, invocation: Invocation) -> None:
        self.steps.append("forget")


def request(key: str | None = "k", value: str = "0x1") -> Request:
    options = {"call": "c1"} | ({} if key is None else {"idempotencyKey": key})
    return Request("l2_invoke", result(["paychan", "pay", {"value": value}, options]).json, b"1")


class Plugin:
    def __init__(self, outcome: Answer | BaseException | None = None) -> None:
        self.outcome = outcome or result({"nonce": "0x1"})
        self.asked = 0
        self.hold, self.reached = asyncio.Event(), asyncio.Event()
        self.hold.set()

    async def __call__(self, request: Request, context: Context) -> Answer:
        self.asked += 1
        self.reached.set()
        await self.hold.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


async def test_without_a_key_nothing_is_looked_up() -> None:
    records, plugin = Records(), Plugin()
    records.full = True
    await IdempotencyLink(records, Actions())(request(None), Context(SOCKET), plugin)
    assert plugin.asked == 1


async def test_what_is_recorded_is_answered() -> None:
    records, plugin = Records(), Plugin()
    records.known["k"] = Recorded(params_digest(CALL), Result(b'{"nonce":"0x9"}'))
    assert await IdempotencyLink(records, Actions())(request(), Context(SOCKET), plugin) == Result(b'{"nonce":"0x9"}')
    with pytest.raises(InvalidParams):
        await IdempotencyLink(records, Actions())(request(value="0x2"), Context(SOCKET), plugin)
    assert plugin.asked == 0


async def test_the_unknown_is_asked_again_only_where_declared() -> None:
    records, plugin, actions = Records(), Plugin(), Actions()
    records.known["k"] = Recorded(params_digest(CALL), None)
    with pytest.raises(PluginUnavailable) as unknown:
        await IdempotencyLink(records, actions)(request(), Context(SOCKET), plugin)
    assert unknown.value.data == {"plugin": "paychan", "outcome": "unknown"}
    assert plugin.asked == 0
    actions.idempotent = True
    await IdempotencyLink(records, actions)(request(), Context(SOCKET), plugin)
    assert plugin.asked == 1


@pytest.mark.parametrize("error", [PluginTimeout("paychan", 60), PluginUnavailable("paychan", "crashed", "unknown")])
async def test_a_silent_plugin_is_asked_again_only_where_declared(error: RpcError) -> None:
    records, plugin, actions = Records(), Plugin(), Actions()
    records.known["k"] = Recorded(params_digest(CALL), error)
    with pytest.raises(type(error)):
        await IdempotencyLink(records, actions)(request(), Context(SOCKET), plugin)
    actions.idempotent = True
    await IdempotencyLink(records, actions)(request(), Context(SOCKET), plugin)
    assert plugin.asked == 1


async def test_a_plugins_own_error_is_an_answer_even_where_it_may_be_asked_twice() -> None:
    records, plugin, actions = Records(), Plugin(), Actions()
    actions.idempotent = True
    records.known["k"] = Recorded(params_digest(CALL), PluginFailed("paychan", 1, "no", {"outcome": "unknown"}))
    with pytest.raises(PluginFailed):
        await IdempotencyLink(records, actions)(request(), Context(SOCKET), plugin)
    assert plugin.asked == 0


@pytest.mark.parametrize(
    ("late", "written"), [({"nonce": "0x1"}, 'finish {"nonce":"0x1"}'), (PluginFailed("p", 1, "no"), "finish -32010")]
)
async def test_a_late_answer_replaces_the_unknown(late: Any, written: str) -> None:
    records, answer = Records(), asyncio.get_running_loop().create_future()
    with pytest.raises(PluginTimeout):
        await RecordingLink(records)(request(), Context(SOCKET), Plugin(PluginTimeout("paychan", 60, answer)))
    assert records.steps == ["begin", "finish -32011"]
    answer.set_result(late)
    await asyncio.sleep(0)  # the callback's turn on the loop
    assert records.steps == ["begin", "finish -32011", written]


async def test_what_stays_unanswered_stays_unknown() -> None:
    records, answer = Records(), asyncio.get_running_loop().create_future()
    with pytest.raises(PluginTimeout):
        await RecordingLink(records)(request(), Context(SOCKET), Plugin(PluginTimeout("paychan", 60, answer)))
    answer.cancel()
    await asyncio.sleep(0)
    assert records.steps == ["begin", "finish -32011"]


async def test_no_room_is_no_call() -> None:
    records, plugin = Records(), Plugin()
    records.full = True
    with pytest.raises(LimitExceeded):
        await IdempotencyLink(records, Actions())(request(), Context(SOCKET), plugin)
    assert plugin.asked == 0


@pytest.mark.parametrize("outcome", [result({"nonce": "0x1"}), PluginFailed("paychan", 1, "no")])
async def test_joiners_share_the_outcome(outcome: Answer | BaseException) -> None:
    plugin = Plugin(outcome)
    plugin.hold.clear()
    link = IdempotencyLink(Records(), Actions())
    tasks = [asyncio.ensure_future(link(request(), Context(SOCKET), plugin)) for _ in range(3)]
    await plugin.reached.wait()
    with pytest.raises(InvalidParams):
        await link(request(value="0x2"), Context(SOCKET), plugin)
    plugin.hold.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == [outcome] * 3
    assert plugin.asked == 1


async def test_a_joiner_that_leaves_disturbs_nobody() -> None:
    plugin = Plugin()
    plugin.hold.clear()
    link = IdempotencyLink(Records(), Actions())
    first, second = (asyncio.ensure_future(link(request(), Context(SOCKET), plugin)) for _ in range(2))
    await plugin.reached.wait()
    second.cancel()
    plugin.hold.set()
    assert await first == result({"nonce": "0x1"})


@pytest.mark.parametrize(
    ("outcome", "steps"),
    [
        (result(5), ["begin", "finish 5"]),
        (PluginFailed("paychan", 1, "no"), ["begin", "finish -32010"]),
        (PluginTimeout("paychan", 60), ["begin", "finish -32011"]),
        (LimitExceeded("invokes_waiting", "full"), ["begin", "forget"]),
        (PluginUnavailable("paychan", "is quarantined"), ["begin", "forget"]),
        (PluginUnavailable("paychan", "crashed", "unknown"), ["begin", "finish -32012"]),
        (RuntimeError("ours"), ["begin"]),
        (asyncio.CancelledError(), ["begin"]),
        (NodeReply(b"{}"), ["begin"]),
    ],
)
async def test_what_is_written_around_the_plugin(outcome: Any, steps: list[str]) -> None:
    records = Records()
    call = RecordingLink(records)(request(), Context(SOCKET), Plugin(outcome))
    if isinstance(outcome, Result):
        await call
    else:
        with pytest.raises(type(outcome) if isinstance(outcome, BaseException) else TypeError):
            await call
    assert records.steps == steps
