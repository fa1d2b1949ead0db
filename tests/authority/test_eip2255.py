"""wallet_requestPermissions and its kin: one question, granted in one write, nothing looked up before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from middleware.errors import InvalidParams, Refused, RpcError, Unauthorized
from middleware.waist import Context, Handler, Origin
from proxy.authority.assembly import Authority
from proxy.methods.permissions import handlers

SITE = Origin.web("https://app.example")
ALICE, BOB = "0x" + "A1" * 20, "0x" + "B2" * 20
PAYCHAN = ("makePayment", "close")


class Lookups:
    """What is installed; remembers whether it was asked."""

    def __init__(self) -> None:
        self.installed: dict[str, Sequence[str]] = {"paychan": PAYCHAN}

    def __call__(self, plugin: str) -> Sequence[str] | None:
        return self.installed.get(plugin)


@pytest.fixture
def methods(authority: Authority, clock: Any) -> dict[str, Handler]:
    return handlers(authority.permissions, authority.approvals, Lookups(), lambda: [ALICE, BOB], clock)


@pytest.fixture
def request_permissions(authority: Authority, methods: dict[str, Handler]) -> Callable[..., Any]:
    """Ask, let the owner answer by `approve` keyword arguments (None: reject), and return what the site gets."""

    async def ask(asked: Any, answer: dict[str, Any] | None = None, yes: bool = True) -> Any:
        task = asyncio.ensure_future(methods["wallet_requestPermissions"]([asked], Context(SITE)))
        while not authority.approvals.list() and not task.done():
            await asyncio.wait(
                [task, asyncio.ensure_future(authority.approvals.changed(authority.approvals.version))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        if task.done():
            return await task
        [opened] = authority.approvals.list()
        if yes:
            authority.approvals.approve(opened.id, **(answer or {}))
        else:
            authority.approvals.reject(opened.id)
        return await task

    return ask


async def test_everything_asked_is_granted_by_name(
    request_permissions: Callable[..., Any], authority: Authority, methods: dict[str, Handler]
) -> None:
    asked = {
        "eth_accounts": {},
        "l2_invoke": {"plugins": {"paychan": {"actions": ["*"], "expires": 1_900_000_000}}},
        "l2_getState": {"plugins": ["paychan"]},
    }
    granted = await request_permissions(asked)
    assert [entry["parentCapability"] for entry in granted] == ["eth_accounts", "l2_invoke", "l2_getState"]
    caveats = {entry["parentCapability"]: entry["caveats"] for entry in granted}
    assert caveats["eth_accounts"] == [{"type": "restrictReturnedAccounts", "value": [ALICE]}]
    assert caveats["l2_invoke"] == [
        {"type": "plugins", "value": {"paychan": {"actions": list(PAYCHAN), "expires": 1_900_000_000}}}
    ]
    assert caveats["l2_getState"] == [{"type": "plugins", "value": ["paychan"]}]
    assert authority.permissions.is_connected(SITE)
    assert await methods["wallet_getPermissions"](None, Context(SITE)) == granted


async def test_a_no_grants_nothing(request_permissions: Callable[..., Any], authority: Authority) -> None:
    with pytest.raises(Refused):
        await request_permissions({"eth_accounts": {}}, yes=False)
    assert authority.permissions.objects(SITE) == []
    assert not authority.permissions.is_connected(SITE)


async def test_an_unknown_plugin_raises_the_same_question_and_ends_4001(
    request_permissions: Callable[..., Any], authority: Authority
) -> None:
    asked = {"l2_invoke": {"plugins": {"nothere": {"actions": ["*"]}}}}
    with pytest.raises(RpcError) as refused:
        await request_permissions(asked)
    assert refused.value.code == 4001
    assert authority.permissions.objects(SITE) == []


async def test_the_owner_is_told_what_is_not_installed(authority: Authority, methods: dict[str, Handler]) -> None:
    asked = {"l2_invoke": {"plugins": {"nothere": {"actions": ["*"]}, "paychan": {"actions": ["close"]}}}}
    task = asyncio.ensure_future(methods["wallet_requestPermissions"]([asked], Context(SITE)))
    await authority.approvals.changed(0)
    [opened] = authority.approvals.list()
    assert "nothere (not installed" in opened.summary
    assert "paychan (not installed" not in opened.summary
    authority.approvals.reject(opened.id)
    with pytest.raises(Refused):
        await task


async def test_the_owner_may_choose_accounts_and_narrow(
    request_permissions: Callable[..., Any], authority: Authority
) -> None:
    asked = {"eth_accounts": {}, "l2_invoke": {"plugins": {"paychan": {"actions": ["*"]}}}}
    only = {"eth_accounts": {}, "l2_invoke": {"plugins": {"paychan": {"actions": ["close"]}}}}
    granted = await request_permissions(asked, {"chosen": {"accounts": [BOB.lower()], "permissions": only}})
    assert granted[0]["caveats"][0]["value"] == [BOB]
    assert granted[1]["caveats"][0]["value"]["paychan"]["actions"] == ["close"]


@pytest.mark.parametrize(
    "chosen",
    [{"accounts": ["0x" + "c3" * 20]}, {"accounts": []}, {"permissions": {"l2_getState": {"plugins": ["x2"]}}}],
)
async def test_a_choice_beyond_what_is_there_is_an_error_of_the_owner(
    request_permissions: Callable[..., Any], authority: Authority, chosen: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParams):
        await request_permissions({"eth_accounts": {}}, {"chosen": chosen})
    assert authority.permissions.objects(SITE) == []


async def test_a_slip_of_the_owner_leaves_the_question_open(authority: Authority, methods: dict[str, Handler]) -> None:
    asked = {"l2_invoke": {"plugins": {"paychan": {"actions": ["makePayment"]}}}}
    task = asyncio.ensure_future(methods["wallet_requestPermissions"]([asked], Context(SITE)))
    await authority.approvals.changed(authority.approvals.version)
    [opened] = authority.approvals.list()
    wider = {"permissions": {"l2_invoke": {"plugins": {"paychan": {"actions": ["close"]}}}}}
    with pytest.raises(InvalidParams):
        authority.approvals.approve(opened.id, chosen=wider)
    assert not task.done()
    assert authority.permissions.plugins(SITE) == frozenset()
    assert [entry["decision"] for entry in authority.audit.entries()] == ["allow", "void"]
    authority.approvals.approve(opened.id)
    [granted] = await task
    assert granted["caveats"][0]["value"] == {"paychan": {"actions": ["makePayment"]}}


async def test_without_an_account_there_is_none_to_grant(authority: Authority) -> None:
    empty = handlers(authority.permissions, authority.approvals, Lookups(), list)
    task = asyncio.ensure_future(empty["wallet_requestPermissions"]([{"eth_accounts": {}}], Context(SITE)))
    await authority.approvals.changed(0)
    with pytest.raises(Unauthorized, match="l2proxy init"):
        authority.approvals.approve(authority.approvals.list()[0].id)
    with pytest.raises(Unauthorized):
        await task


async def test_a_site_may_give_back_what_it_holds(
    request_permissions: Callable[..., Any], authority: Authority, methods: dict[str, Handler]
) -> None:
    await request_permissions({"eth_accounts": {}, "l2_getState": {"plugins": ["paychan"]}})
    assert await methods["wallet_revokePermissions"]([{"eth_accounts": {}}], Context(SITE)) is None
    held = await methods["wallet_getPermissions"]([], Context(SITE))
    assert [entry["parentCapability"] for entry in held] == ["l2_getState"]


@pytest.mark.parametrize("params", [None, [], [{}, {}], "x", [{"eth_sign": {}}], [{}], [None], [["eth_accounts"]]])
async def test_malformed_requests_are_refused_before_anyone_is_asked(
    authority: Authority, methods: dict[str, Handler], params: Any
) -> None:
    for method in ("wallet_requestPermissions", "wallet_revokePermissions"):
        with pytest.raises(InvalidParams):
            await methods[method](params, Context(SITE))
    assert authority.approvals.list() == []
