"""The owner's admin methods: what they grant and take, what they refuse, and that all of it is in the log first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from middleware.errors import RpcError
from middleware.questions import Question
from middleware.waist import OWNER, SOCKET, Context, Origin
from proxy.authority.assembly import Authority
from proxy.methods.administration import admin_handlers
from proxy.storage import StorageError

ALICE, BOB = "0x" + "A1" * 20, "0x" + "B2" * 20
SITE = Origin.web("https://app.example")
Call = Callable[..., Any]


@pytest.fixture
def call(authority: Authority) -> Call:
    installed = {"paychan": ("makePayment", "close"), "idle": ()}
    handlers = admin_handlers(authority, installed.get, lambda: [ALICE, BOB], lambda: "http://127.0.0.1:8645")

    async def admin(method: str, **params: Any) -> Any:
        return await handlers[method](params, Context(OWNER))

    return admin


async def refusal(call: Call, method: str, **params: Any) -> str:
    with pytest.raises(RpcError) as refused:
        await call(method, **params)
    assert "\n" not in refused.value.message
    return refused.value.message


async def test_a_token_holds_what_its_flags_say(call: Call, authority: Authority) -> None:
    made = await call("admin_tokenNew", name="ci", allowPlugins=[{"plugin": "paychan"}], accounts=1)
    assert made["url"] == f"http://127.0.0.1:8645/{made['token']}"
    origin = Origin.token("ci")
    assert authority.permissions.accounts(origin) == (ALICE,)
    assert authority.permissions.may_read_state(origin, "paychan")
    assert authority.permissions.may_invoke(origin, "paychan", "close")
    assert authority.tokens.verify(made["token"]) is not None
    listed = await call("admin_tokenList")
    assert made["token"] not in str(listed)
    assert made["token"] not in str(authority.audit.entries())


async def test_actions_by_name_grant_these_alone(call: Call, authority: Authority) -> None:
    await call("admin_tokenNew", name="ci", allowPlugins=[{"plugin": "paychan", "actions": ["close"]}])
    origin = Origin.token("ci")
    assert authority.permissions.may_invoke(origin, "paychan", "close")
    assert not authority.permissions.may_invoke(origin, "paychan", "makePayment")
    assert not authority.permissions.may_read_state(origin, "paychan")
    assert authority.permissions.accounts(origin) == ()


async def test_a_token_without_flags_holds_nothing(call: Call, authority: Authority) -> None:
    await call("admin_tokenNew", name="ci")
    assert authority.permissions.objects(Origin.token("ci")) == []


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"name": "a b"}, "no name"),
        ({"name": "ci", "allowPlugins": [{"plugin": "nothere"}]}, "not installed"),
        ({"name": "ci", "allowPlugins": [{"plugin": "paychan", "actions": ["nope"]}]}, "no action nope"),
        ({"name": "ci", "accounts": 3}, "2 accounts"),
        ({"name": "ci", "accounts": -1}, "accounts"),
        ({"name": "ci", "origin": "app.example"}, "no origin"),
        ({"name": "ci", "origin": "http://app.example"}, "https"),
        ({"name": "ci", "expires": 0}, "expires"),
        ({"name": "ci", "scope": "all"}, "scope"),
        ({}, "name"),
    ],
)
async def test_a_token_that_cannot_be_made_is_not_made(
    call: Call, authority: Authority, params: dict[str, Any], says: str
) -> None:
    assert says in await refusal(call, "admin_tokenNew", **params)
    assert authority.tokens.all() == []
    assert authority.audit.entries() == []


async def test_a_revoked_token_leaves_nothing_to_its_successor(call: Call, authority: Authority) -> None:
    await call("admin_tokenNew", name="ci", accounts=2)
    await call("admin_tokenRevoke", name="ci")
    assert authority.permissions.accounts(Origin.token("ci")) == ()
    await call("admin_tokenNew", name="ci")
    assert authority.permissions.accounts(Origin.token("ci")) == ()
    assert "no token other" in await refusal(call, "admin_tokenRevoke", name="other")


async def test_an_expired_token_leaves_nothing_to_its_successor(call: Call, authority: Authority, clock: Any) -> None:
    await call("admin_tokenNew", name="ci", accounts=2, expires=60)
    clock.now += 61
    await call("admin_tokenNew", name="ci")
    assert authority.permissions.accounts(Origin.token("ci")) == ()


async def test_sites_come_and_go(call: Call, authority: Authority) -> None:
    await call("admin_siteConnect", origin="https://app.example")
    assert authority.permissions.is_connected(SITE)
    assert [entry["origin"] for entry in await call("admin_siteList")] == ["https://app.example"]
    await call("admin_siteDisconnect", origin="https://app.example")
    assert not authority.permissions.is_connected(SITE)
    assert "not connected" in await refusal(call, "admin_siteDisconnect", origin="https://app.example")
    for origin in ("token:ci", "socket", "null", "http://shop.example", "https://app.example/path"):
        await refusal(call, "admin_siteConnect", origin=origin)


async def test_connecting_by_command_answers_the_question(call: Call, authority: Authority) -> None:
    authority.doorkeeper.ask_to_connect(SITE)
    await call("admin_siteConnect", origin="https://app.example")
    assert authority.approvals.list() == []


async def test_permissions_are_granted_listed_and_revoked(call: Call, authority: Authority) -> None:
    await call("admin_permissionGrant", origin="socket", allowPlugins=[{"plugin": "paychan"}], accounts=1)
    held = await call("admin_permissionList")
    assert {entry["parentCapability"] for entry in held} == {"eth_accounts", "l2_invoke", "l2_getState"}
    invoke = next(entry for entry in held if entry["parentCapability"] == "l2_invoke")
    left = await call("admin_permissionRevoke", target=invoke["id"])
    assert {entry["parentCapability"] for entry in left["left"]} == {"eth_accounts", "l2_getState"}
    await call("admin_permissionRevoke", target="socket", plugin="paychan")
    assert [entry["parentCapability"] for entry in await call("admin_permissionList")] == ["eth_accounts"]
    await call("admin_permissionRevoke", target="socket", capability="eth_accounts")
    assert authority.permissions.accounts(SOCKET) == ()
    assert "holds nothing" in await refusal(call, "admin_permissionRevoke", target="socket")
    assert "no capability" in await refusal(call, "admin_permissionRevoke", target="socket", capability="eth_sign")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"origin": "socket"}, "nothing is granted"),
        ({"origin": "plugin:paychan", "accounts": 1}, "at install"),
        ({"origin": "token:ci", "accounts": 1}, "no token ci"),
        ({"origin": "nonsense", "accounts": 1}, "no origin"),
        ({"origin": "http://shop.example", "accounts": 1}, "https"),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(call: Call, params: dict[str, Any], says: str) -> None:
    assert says in await refusal(call, "admin_permissionGrant", **params)


async def test_without_a_log_nothing_is_granted(
    call: Call, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call("admin_siteConnect", origin="https://app.example")

    def broken(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(authority.audit._space, "write", broken)
    for method, params in (
        ("admin_tokenNew", {"name": "ci", "accounts": 1}),
        ("admin_siteConnect", {"origin": "https://new.example"}),
        ("admin_permissionGrant", {"origin": "socket", "accounts": 1}),
        ("admin_ruleAttest", {"text": ""}),
    ):
        with pytest.raises(StorageError):
            await call(method, **params)
    assert authority.tokens.all() == []
    assert authority.permissions.accounts(SOCKET) == ()
    assert [name for name, _ in authority.permissions.sites()] == ["https://app.example"]
    assert authority.rules.digest is None


async def test_questions_are_listed_in_the_contracts_shape(
    call: Call, authority: Authority, question: Callable[..., Question]
) -> None:
    authority.permissions.connect(SITE)
    asked = question(warnings=("code: why",), quoted={"data": "\x1b[2J"}, details={"to": "0x01"})
    task = asyncio.ensure_future(authority.approvals.ask(asked))
    state = await call("admin_approvalWait", since=authority.approvals.version)
    [row] = state["questions"]
    assert await call("admin_approvalList") == [row]
    assert row == {
        "id": row["id"],
        "origin": "https://app.example",
        "kind": "transaction",
        "summary": asked.summary,
        "digest": asked.digest,
        "expires": row["expires"],
        "warnings": ["code: why"],
    }
    shown = await call("admin_approvalShow", id=row["id"])
    assert shown["details"] == {"to": "0x01"}
    assert shown["quoted"] == {"data": "\x1b[2J"}
    assert "--despite-warnings" in await refusal(call, "admin_approvalApprove", id=row["id"])
    done = await call("admin_approvalApprove", id=row["id"], despiteWarnings=True)
    assert done == {"id": row["id"], "decision": "approved", "digest": asked.digest}
    assert (await task).source == "owner"
    assert "no open question" in await refusal(call, "admin_approvalReject", id=row["id"])
    assert (await call("admin_approvalWait", since=state["version"], seconds=0.01))["questions"] == []


async def test_waiting_ends_with_its_time(call: Call, authority: Authority) -> None:
    version = authority.approvals.version
    assert await call("admin_approvalWait", since=version, seconds=0.01) == {"version": version, "questions": []}


async def test_rules_are_attested_listed_and_tested(call: Call, authority: Authority) -> None:
    text = '[[rule]]\norigin = "token:ci"\nmethod = "eth_sendTransaction"\nmax_value = "5"\ndecision = "allow"\n'
    attested = await call("admin_ruleAttest", text=text)
    listed = await call("admin_ruleList")
    assert listed["digest"] == attested["digest"] == authority.audit.entries()[-1]["digest"]
    example = {
        "origin": "token:ci",
        "kind": "transaction",
        "method": "eth_sendTransaction",
        "asset": "ETH",
        "value": "5",
    }
    verdict = await call("admin_ruleTest", question=example)
    assert (verdict["decision"], verdict["rule"]["max_value"]) == ("allow", 5)
    assert (await call("admin_ruleTest", question={**example, "value": 6}))["decision"] == "ask"
    assert "blank cheque" in await refusal(call, "admin_ruleAttest", text='[[rule]]\ndecision = "allow"\n')
    assert (await call("admin_ruleList"))["digest"] == attested["digest"]
    for wrong in ({}, {"id": "x"}, {"question": {**example, "value": "1 ETH"}}, {"question": {**example, "kind": "x"}}):
        await refusal(call, "admin_ruleTest", **wrong)


async def test_the_log_is_shown_and_verified(call: Call, authority: Authority) -> None:
    for name in ("a", "b", "c"):
        await call("admin_tokenNew", name=name)
    assert [entry["token"] for entry in await call("admin_auditShow", limit=2)] == ["b", "c"]
    head = await call("admin_auditHead")
    assert await call("admin_auditVerify", head=head["head"]) == {"ok": True, "entries": 3, "head": head["head"]}
    assert "changed" in await refusal(call, "admin_auditVerify", head="3:" + "0" * 64)
    assert "no head" in await refusal(call, "admin_auditVerify", head="nonsense")
