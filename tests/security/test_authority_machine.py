"""No spend without exactly one decision; revoked means denied for the very next call (security.md 10, 11, 15, 27).

A state machine plays owner, sites and clock against the real authority and the real chain of `l2_invoke`; the plugin at
the end of it checks, at the moment it is asked, that somebody decided exactly this call and that it is still permitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from middleware.chain import Chain
from middleware.errors import RpcError
from middleware.invocation import read_checked
from middleware.methods import MethodTable
from middleware.questions import digest_of
from middleware.waist import SOCKET, Answer, Context, Origin, Request, result
from proxy.authority.assembly import Authority, open_authority
from proxy.authority.capabilities import Budget
from proxy.storage import Database

ORIGINS = [Origin.web("https://a.example"), Origin.web("https://b.example"), SOCKET]
PERIOD = 100


@dataclass(frozen=True)
class Spec:
    name: str
    spends: dict[str, str] | None
    approval: str = "policy"
    idempotent: bool = False
    plugin: str = "paychan"
    digest: str = "0xc0de"


SPECS = {
    "pay": Spec("pay", {"param": "value", "asset": "ETH"}),
    "always": Spec("always", {"param": "value", "asset": "ETH"}, "always"),
    "vague": Spec("vague", None),
}
RULES = {
    "none": "",
    "allow": '[[rule]]\norigin="https://a.example"\naction="pay"\nmax_value=5\ndecision="allow"\n',
    "reject": '[[rule]]\norigin="https://a.example"\ndecision="reject"\n',
}


class Machine(RuleBasedStateMachine):
    """The owner, two pages, a program on the socket, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = contextlib.ExitStack()
        data = Path(self.folder.enter_context(tempfile.TemporaryDirectory()))
        self.owner = self.folder.enter_context(Database(data / "owner.db"))
        self.chain_db = self.folder.enter_context(Database(data / "chain.db"))
        self.data = data
        self.now = 1_800_000_000.0
        self.locked = False
        self.granted: dict[Origin, set[str]] = {}
        self.budgets: dict[Origin, int] = {}
        self.by_budget: list[tuple[float, Origin, int]] = []
        self.asked = 0
        self.seen = 0
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work`, and everything that becomes ready, to the end."""

        async def settled() -> Any:
            value = await work
            while await self.went_on():
                pass
            return value

        return self.loop.run_until_complete(settled())

    async def went_on(self) -> bool:
        """Let all go on that can; tell whether the log's thread had to be waited for, behind which more may go on."""
        for _ in range(60):  # no timer is near: whatever waits for no thread goes on within some turns of the loop
            await asyncio.sleep(0)
        writing = [task for task in asyncio.all_tasks() if task.get_name() == "the audit log"]
        if writing:
            await asyncio.wait(writing)
        return bool(writing)

    async def open(self) -> None:
        self.authority: Authority = open_authority(
            self.owner, self.chain_db, self.data, lambda line: None, clock=lambda: self.now
        )
        self.chain = Chain(self.authority.links(MethodTable(), self, lambda: self.locked), self.plugin)

    # -- the host

    def action_spec(self, plugin: str, action: str) -> Spec | None:
        return SPECS.get(action) if plugin == "paychan" else None

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        assert isinstance(raw, dict)
        return raw

    async def plugin(self, request: Request, context: Context) -> Answer:
        call = read_checked(request)
        assert call.action in self.granted.get(context.origin, set()), "asked without permission"
        assert not self.locked, "asked while locked"
        fresh = [entry for entry in self.authority.audit.entries(1000) if entry["n"] > self.seen]
        decided = [entry for entry in fresh if entry.get("decision") == "allow" and entry["kind"] == "invoke"]
        assert len(decided) == 1, f"{len(decided)} decisions for one spend"
        expected = {
            "kind": "invoke",
            "origin": str(context.origin),
            "code": "0xc0de",
            "idempotencyKey": call.key,
            "plugin": call.plugin,
            "action": call.action,
            "params": call.params,
        }
        assert decided[0]["digest"] == digest_of(expected), "decided for something else"
        assert decided[0]["origin"] == str(context.origin)
        self.seen = fresh[-1]["n"]
        self.asked += 1
        if decided[0]["source"] == "policy":
            value = int(call.params["value"], 16)
            self.by_budget.append((self.now, context.origin, value))
            window = [v for at, o, v in self.by_budget if o == context.origin and at > self.now - PERIOD]
            assert sum(window) <= self.budgets[context.origin], "more than the budget"
        return result({})

    # -- steps

    @initialize()
    def start(self) -> None:
        self.run(self.open())

    @rule(
        origin=st.sampled_from(ORIGINS),
        actions=st.sets(st.sampled_from(sorted(SPECS)), min_size=1),
        budget=st.sampled_from([None, 3, 10]),
    )
    def grant(self, origin: Origin, actions: set[str], budget: int | None) -> None:
        terms = None if budget is None else Budget("ETH", budget, PERIOD)
        self.authority.permissions.revoke(origin, "l2_invoke")
        self.authority.permissions.grant_invoke(origin, "paychan", sorted(actions), terms)
        self.granted[origin] = actions
        self.budgets[origin] = -1 if budget is None else budget
        self.run(asyncio.sleep(0))

    @rule(origin=st.sampled_from(ORIGINS), how=st.sampled_from(["revoke", "disconnect"]))
    def take(self, origin: Origin, how: str) -> None:
        getattr(self.authority.permissions, how)(origin)
        self.granted.pop(origin, None)
        asked = self.asked
        self.run(asyncio.sleep(0))
        task = self.invoke(origin, "pay", 1, None)
        assert task.done()
        error = task.exception()
        assert isinstance(error, RpcError)
        assert error.code == 4100
        assert self.asked == asked

    @rule(
        origin=st.sampled_from(ORIGINS),
        action=st.sampled_from(sorted(SPECS)),
        value=st.integers(0, 6),
        key=st.sampled_from([None, "k", "l"]),
    )
    def call(self, origin: Origin, action: str, value: int, key: str | None) -> None:
        self.tasks.append(self.invoke(origin, action, value, key))

    def invoke(self, origin: Origin, action: str, value: int, key: str | None) -> asyncio.Task[Any]:
        options = {} if key is None else {"idempotencyKey": key}
        params = json.dumps(["paychan", action, {"value": hex(value)}, options]).encode()
        request = Request("l2_invoke", params, b"1")
        task = self.loop.create_task(_caught(self.chain(request, Context(origin))))
        self.run(asyncio.sleep(0))
        return task

    @precondition(lambda self: self.authority.approvals.list())
    @rule(data=st.data(), yes=st.booleans())
    def answer(self, data: st.DataObject, yes: bool) -> None:
        opened = data.draw(st.sampled_from([opened.id for opened in self.authority.approvals.list()]))
        with contextlib.suppress(RpcError):
            if yes:
                self.authority.approvals.approve(opened)
            else:
                self.authority.approvals.reject(opened)
        self.run(asyncio.sleep(0))

    @rule(name=st.sampled_from(sorted(RULES)))
    def attest(self, name: str) -> None:
        self.authority.rules.attest(RULES[name])

    @rule(seconds=st.sampled_from([1, 50, 101, -1000]))
    def pass_time(self, seconds: int) -> None:
        # The model's window is only right forwards; a clock set back must merely never allow more.
        self.now += max(seconds, 0)

    @rule(locked=st.booleans())
    def lock(self, locked: bool) -> None:
        self.locked = locked
        if locked:
            self.authority.locked()
        self.run(asyncio.sleep(0))

    @rule()
    def restart(self) -> None:
        self.run(self.authority.close())
        assert all(task.done() for task in self.tasks)
        self.tasks.clear()
        self.run(self.open())

    @invariant()
    def the_log_is_whole(self) -> None:
        if hasattr(self, "authority"):
            self.authority.audit.verify()

    @invariant()
    def nothing_failed_by_mistake(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                error = task.exception()
                assert isinstance(error, RpcError), error
                assert error.code != -32603

    def teardown(self) -> None:
        if hasattr(self, "authority"):
            self.run(self.authority.close())
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.loop.close()
        self.folder.close()


async def _caught(call: Coroutine[Any, Any, Answer]) -> Answer:
    return await call


TestAuthority = Machine.TestCase
TestAuthority.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
