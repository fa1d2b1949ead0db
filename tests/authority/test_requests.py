"""What origins ask for: strict reading, narrowing, and names written out."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.errors import InvalidParams
from proxy.authority.capabilities import Budget, Holdings, Invocations
from proxy.authority.requests import narrow, read_request, written_out

NOW = 1000.0
TERMS: dict[str, Any] = {
    "actions": ["makePayment"],
    "budget": {"asset": "ETH", "amount": "0xde0b6b3a7640000", "period": 86400},
    "expires": 1790000000,
}


def test_the_example_of_the_contract_is_read() -> None:
    asked = read_request({"l2_invoke": {"plugins": {"paychan": TERMS}}, "l2_getState": {"plugins": ["paychan"]}}, NOW)
    assert asked.invoke == {"paychan": Invocations(("makePayment",), Budget("ETH", 10**18, 86400), 1790000000)}
    assert asked.state == ("paychan",)
    assert asked.accounts == ()
    assert read_request({"eth_accounts": {}}, NOW).accounts == ("*",)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (None, "0"),
        ({}, "0"),
        ([], "0"),
        ({"eth_sign": {}}, "0.eth_sign"),
        ({"eth_accounts": None}, "0.eth_accounts"),
        ({"eth_accounts": {"all": True}}, "0.eth_accounts"),
        ({"l2_invoke": {}}, "0.l2_invoke.plugins"),
        ({"l2_invoke": None}, "0.l2_invoke"),
        ({"l2_invoke": {"plugins": {}}}, "0.l2_invoke.plugins"),
        ({"l2_invoke": {"plugins": ["paychan"]}}, "0.l2_invoke.plugins"),
        ({"l2_invoke": {"plugins": {"paychan": {}}}}, "0.l2_invoke.plugins.paychan.actions"),
        ({"l2_invoke": {"plugins": {"paychan": {"actions": []}}}}, "0.l2_invoke.plugins.paychan.actions"),
        ({"l2_invoke": {"plugins": {"paychan": {"actions": "*"}}}}, "0.l2_invoke.plugins.paychan.actions"),
        ({"l2_invoke": {"plugins": {"paychan": {"actions": ["*", "a"]}}}}, "0.l2_invoke.plugins.paychan.actions"),
        ({"l2_invoke": {"plugins": {"paychan": {"actions": ["a b"]}}}}, "0.l2_invoke.plugins.paychan.actions"),
        ({"l2_invoke": {"plugins": {"../x": {"actions": ["a"]}}}}, "0.l2_invoke.plugins"),
        ({"l2_invoke": {"plugins": {"*": {"actions": ["*"]}}}}, "0.l2_invoke.plugins"),
        ({"l2_invoke": {"plugins": {"paychan": {**TERMS, "expires": 999}}}}, "0.l2_invoke.plugins.paychan.expires"),
        ({"l2_invoke": {"plugins": {"paychan": {**TERMS, "expires": True}}}}, "0.l2_invoke.plugins.paychan.expires"),
        ({"l2_invoke": {"plugins": {"paychan": {**TERMS, "more": 1}}}}, "0.l2_invoke.plugins.paychan.more"),
        ({"l2_getState": {}}, "0.l2_getState.plugins"),
        ({"l2_getState": {"plugins": []}}, "0.l2_getState.plugins"),
        ({"l2_getState": {"plugins": [1]}}, "0.l2_getState.plugins"),
    ],
)
def test_what_is_not_named_is_not_asked(asked: Any, where: str) -> None:
    with pytest.raises(InvalidParams) as error:
        read_request(asked, NOW)
    assert error.value.data["param"] == where


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("asset", "eth"),
        ("asset", None),
        ("amount", 5),
        ("amount", "5"),
        ("amount", "0x" + "f" * 65),
        ("amount", "0x"),
        ("period", 0),
        ("period", 1.5),
        ("period", True),
        ("period", None),
    ],
)
def test_a_budget_is_exact(member: str, value: Any) -> None:
    terms = {**TERMS, "budget": {**TERMS["budget"], member: value}}
    with pytest.raises(InvalidParams) as error:
        read_request({"l2_invoke": {"plugins": {"paychan": terms}}}, NOW)
    assert error.value.data["param"].endswith(f"budget.{member}")


def test_a_star_is_written_out_and_what_is_not_there_falls_away() -> None:
    asked = Holdings(
        invoke={
            "paychan": Invocations(("*",)),
            "other": Invocations(("go", "gone")),
            "nothere": Invocations(("*",)),
        },
        state=("paychan", "nothere"),
    )
    there = {"paychan": ("makePayment", "close"), "other": ("go",)}
    granted = written_out(asked, there.get)
    assert granted.invoke == {"paychan": Invocations(("makePayment", "close")), "other": Invocations(("go",))}
    assert granted.state == ("paychan",)


def test_the_owner_may_narrow_and_never_widen() -> None:
    asked = Holdings(invoke={"paychan": Invocations(("a", "b"))}, state=("paychan",))
    assert narrow(asked, Holdings(invoke={"paychan": Invocations(("a",))})).invoke["paychan"].actions == ("a",)
    for wider in (
        Holdings(invoke={"paychan": Invocations(("a", "c"))}),
        Holdings(invoke={"paychan": Invocations(("*",))}),
        Holdings(invoke={"other": Invocations(("a",))}),
        Holdings(state=("other",)),
        Holdings(accounts=("*",)),
    ):
        with pytest.raises(InvalidParams):
            narrow(asked, wider)


END, BUDGET = 2000, Budget("ETH", 100, 60)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (Invocations(("a",)), Invocations(("a",), None, END)),
        (Invocations(("a",), BUDGET, END - 1), Invocations(("a",), BUDGET, END - 1)),
        (Invocations(("a",), Budget("eth", 1, 600)), Invocations(("a",), Budget("eth", 1, 600), END)),
        (Invocations(("a",), None, END + 1), "expires"),
        (Invocations(("a",), Budget("ETH", 101, 60)), "budget"),
        (Invocations(("a",), Budget("ETH", 100, 59)), "budget"),
        (Invocations(("a",), Budget("0x" + "aa" * 20, 1, 60)), "budget"),
    ],
)
def test_the_terms_may_be_narrowed_and_never_widened(chosen: Invocations, left: Invocations | str) -> None:
    asked = Holdings(invoke={"paychan": Invocations(("a",), BUDGET, END)})
    if isinstance(left, Invocations):
        assert narrow(asked, Holdings(invoke={"paychan": chosen})).invoke == {"paychan": left}
        return
    with pytest.raises(InvalidParams) as wider:
        narrow(asked, Holdings(invoke={"paychan": chosen}))
    assert wider.value.data["param"] == f"only.paychan.{left}"


def test_a_budget_nobody_asked_for_is_wider() -> None:
    asked = Holdings(invoke={"paychan": Invocations(("a",))})
    with pytest.raises(InvalidParams):
        narrow(asked, Holdings(invoke={"paychan": Invocations(("a",), BUDGET)}))
