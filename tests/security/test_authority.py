"""What may never happen, where the authority stands in its way; one test for each line it answers for.

The same lines are tried in depth in tests/authority and tests/middleware, and all at once by test_authority_machine.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from middleware.chain import Chain
from middleware.errors import RpcError
from middleware.methods import MethodTable
from middleware.questions import Facts, Question, digest_of
from middleware.waist import ANONYMOUS, SOCKET, Answer, Context, Origin, Request, answered, result
from proxy.authority.assembly import Authority, open_authority
from proxy.authority.audit import AuditBroken
from proxy.authority.capabilities import Budget
from proxy.methods.administration import admin_handlers
from proxy.methods.permissions import handlers
from proxy.storage import Database, StorageError

SITE = Origin.web("https://app.example")


@dataclass(frozen=True)
class Spec:
    name: str
    spends: dict[str, str] | None
    approval: str
    plugin: str = "paychan"
    idempotent: bool = False
    digest: str = "0xc0de"


SPECS = {
    "pay": Spec("pay", {"param": "value", "asset": "ETH"}, "policy"),
    "vague": Spec("vague", None, "policy"),
    "sure": Spec("sure", {"param": "value", "asset": "ETH"}, "always"),
}


@dataclass
class House:
    """The real authority and chain; the plugin is a counter."""

    folder: Path
    owner: Database
    chain_database: Database
    asked: int = 0
    looked_up: list[str] = field(default_factory=list)
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.authority = open_authority(self.owner, self.chain_database, self.folder, lambda line: None)
        self.chain = Chain(self.authority.links(MethodTable(), self, lambda: False), self.terminal)

    def action_spec(self, plugin: str, action: str) -> Spec | None:
        self.looked_up.append(plugin)
        return SPECS.get(action) if plugin == "paychan" else None

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        self.looked_up.append(plugin)
        assert isinstance(raw, dict)
        return raw

    async def terminal(self, request: Request, context: Context) -> Answer:
        self.asked += 1
        return result(None)

    async def call(self, method: str, *params: Any, origin: Origin = SITE) -> Any:
        return answered(await self.chain(Request(method, json.dumps(params).encode(), b"1"), Context(origin)))

    async def code(self, method: str, *params: Any, origin: Origin = SITE) -> int:
        with pytest.raises(RpcError) as refused:
            await self.call(method, *params, origin=origin)
        return refused.value.code

    async def must_ask(self, action: str) -> None:
        """Check that invoking `action` raises a question and reaches nobody before the answer; the answer is no."""
        before, version = self.asked, self.authority.approvals.version
        task = asyncio.ensure_future(self.call("l2_invoke", "paychan", action, {"value": "0x1"}))
        await asyncio.wait_for(self.authority.approvals.changed(version), 60)
        [opened] = self.authority.approvals.list()
        assert self.asked == before
        self.authority.approvals.reject(opened.id)
        with pytest.raises(RpcError):
            await task
        assert self.asked == before


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with Database(tmp_path / "owner.db") as owner, Database(tmp_path / "chain.db") as chain:
        house = House(tmp_path, owner, chain)
        yield house
        await house.authority.close()


async def test_security_10_no_spend_without_a_decision(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    for action in SPECS:
        await house.must_ask(action)


async def test_security_11_an_answer_is_for_what_was_shown_and_once(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    first = asyncio.ensure_future(house.call("l2_invoke", "paychan", "pay", {"value": "0x1"}))
    await house.authority.approvals.changed(0)
    [opened] = house.authority.approvals.list()
    assert await house.code("l2_invoke", "paychan", "pay", {"value": "0xffff"}) == -32002
    house.authority.approvals.approve(opened.id)
    await first
    with pytest.raises(RpcError):
        house.authority.approvals.approve(opened.id)
    assert house.asked == 1
    await house.must_ask("pay")


async def test_security_13_rules_hold_at_the_attested_digest_only(house: House, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("")
    house.authority.rules.attest(file.read_text())
    file.write_text('[[rule]]\norigin = "*"\nmethod = "l2_invoke"\ndecision = "allow"\n')
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    await house.must_ask("pay")


@pytest.mark.parametrize("what", ["audit", "permissions", "chain"])
async def test_security_14_nothing_is_allowed_unrecorded(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", 100, 60))

    def full(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    if what == "permissions":
        monkeypatch.setattr(house.owner, "commit", full)
        house.authority.doorkeeper.ask_to_connect(Origin.web("https://new.example"))
        with pytest.raises(StorageError):
            house.authority.approvals.approve(house.authority.approvals.list()[0].id)
        assert not house.authority.permissions.is_connected(Origin.web("https://new.example"))
        return
    monkeypatch.setattr(house.owner if what == "audit" else house.chain_database, "commit", full)
    with pytest.raises(StorageError):
        await house.call("l2_invoke", "paychan", "pay", {"value": "0x1"})
    assert house.asked == 0


async def test_security_15_revoked_is_denied_at_the_very_next_call(house: House) -> None:
    permissions = house.authority.permissions
    permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", 100, 60))
    await house.call("l2_invoke", "paychan", "pay", {"value": "0x1"})
    permissions.revoke(SITE, "l2_invoke", "paychan")
    assert await house.code("l2_invoke", "paychan", "pay", {"value": "0x1"}) == 4100
    assert house.asked == 1


async def test_security_27_every_decision_is_in_a_log_that_cannot_be_edited(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", 100, 60))
    await house.call("l2_invoke", "paychan", "pay", {"value": "0x1"})
    await house.must_ask("vague")
    entries = house.authority.audit.entries()
    assert [(entry["decision"], entry["source"]) for entry in entries] == [("allow", "policy"), ("reject", "owner")]
    assert all(entry["digest"].startswith("0x") and entry["origin"] == str(SITE) for entry in entries)
    space = house.owner.space("audit")
    [(key, value), *_] = space.scan(b"e")
    space.write({key: value.replace(b"allow", b"rejec")})
    with pytest.raises(AuditBroken):
        house.authority.audit.verify()


async def test_hardening_9_existence_is_not_shown(house: House) -> None:
    house.authority.permissions.connect(SITE)
    errors = []
    for plugin in ("paychan", "nothere"):
        with pytest.raises(RpcError) as refused:
            await house.call("l2_invoke", plugin, "pay", {"value": "what?"})
        errors.append(json.dumps(refused.value.to_json()).replace(plugin, "X"))
    assert errors[0] == errors[1]
    assert house.looked_up == []


async def test_hardening_10_sites_see_state_by_permission_only(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    calls: list[tuple[str, list[Any]]] = [
        ("l2_getState", ["paychan"]),
        ("l2_getOperations", ["paychan"]),
        ("l2_getDeposits", ["paychan"]),
        ("eth_subscribe", ["l2_state", {"plugin": "paychan"}]),
        ("eth_subscribe", ["l2_operations", {"plugin": "paychan"}]),
    ]
    for method, params in calls:
        assert await house.code(method, *params) == 4100
    house.authority.permissions.grant_state(SITE, ["paychan"])
    await house.call("l2_getState", "paychan")
    assert await house.code("l2_getOperations", "paychan") == 4100


async def test_hardening_14_an_undelivered_answer_is_not_run_again(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    lost = asyncio.ensure_future(house.call("l2_invoke", "paychan", "pay", {"value": "0x1"}))
    await house.authority.approvals.changed(0)
    lost.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lost
    [opened] = house.authority.approvals.list()
    house.authority.approvals.approve(opened.id)
    await house.call("l2_invoke", "paychan", "pay", {"value": "0x1"})
    assert house.asked == 1


async def test_hardening_16_what_does_not_say_what_it_costs_is_asked_within_any_budget(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", 100, 60))
    await house.must_ask("vague")


async def test_hardening_18_what_waits_ends_with_its_permission(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS)
    task = asyncio.ensure_future(house.call("l2_invoke", "paychan", "pay", {"value": "0x1"}))
    await house.authority.approvals.changed(0)
    house.authority.permissions.disconnect(SITE)
    with pytest.raises(RpcError) as refused:
        await task
    assert refused.value.code == 4100
    assert house.authority.approvals.list() == []
    assert house.asked == 0


async def test_hardening_19_summary_and_command_hold_no_foreign_text(tmp_path: Path) -> None:
    lines: list[str] = []
    with Database(tmp_path / "o") as owner, Database(tmp_path / "c") as chain:
        authority = open_authority(owner, chain, tmp_path / "a; reboot #\x1b[2J", lines.append)
        question = Question(
            SOCKET, "message", "sign a message of 9 bytes", digest_of("x"), Facts("personal_sign"),
            quoted={"message": "\x1b[2J\u202eapprove me"},
        )  # fmt: skip
        task = asyncio.ensure_future(authority.approvals.ask(question))
        await authority.approvals.changed(0)
        task.cancel()
        await authority.close()
    [line] = lines
    assert "approve me" not in line
    assert "'" in line.partition("--data ")[2]


async def test_no_admin_method_is_a_dapps(house: House) -> None:
    def nothing(plugin: str) -> None:
        return None

    admin = admin_handlers(house.authority, nothing, list, str)
    dapp = handlers(house.authority.permissions, house.authority.approvals, nothing, list)
    assert all(name.startswith("admin_") for name in admin)
    assert not admin.keys() & dapp.keys()
    assert not [name for name in dapp if name.startswith("admin_")]


async def test_anonymous_holds_nothing_whatever_is_granted(house: House) -> None:
    house.authority.permissions.grant_invoke(SITE, "paychan", SPECS, Budget("ETH", 100, 60))
    assert await house.code("l2_invoke", "paychan", "pay", {"value": "0x1"}, origin=ANONYMOUS) == 4100
