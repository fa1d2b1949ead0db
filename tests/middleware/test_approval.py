"""The approval link: who decides, and what the question says."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.approval import ApprovalLink, amount_text
from middleware.errors import Unauthorized
from middleware.invocation import ActionSpec
from middleware.questions import Decision, Question
from middleware.waist import Answer, Context, Origin, Request, result

SITE = Origin.web("https://app.example")


class Spec:
    plugin, name, idempotent = "paychan", "pay", False

    def __init__(self, approval: str, spends: dict[str, str] | None, digest: str) -> None:
        self.approval, self.spends, self.digest = approval, spends, digest


class House:
    def __init__(self, approval: str = "policy", covered: bool = False) -> None:
        self.approval, self.covered = approval, covered
        self.spends: dict[str, str] | None = {"param": "value", "asset": "ETH"}
        self.code: str | None = "0xc0de"
        self.permitted, self.locked = True, False
        self.asked: list[Question] = []
        self.policies: list[str] = []
        self.reached = 0

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        return None if self.code is None else Spec(self.approval, self.spends, self.code)

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        raise AssertionError("checked before")

    async def ask(self, question: Question) -> Decision:
        self.asked.append(question)
        return Decision("owner", "q", 0)

    async def by_policy(self, question: Question, why: str) -> Decision:
        self.policies.append(why)
        return Decision("policy", why, 0)

    async def invoke(self, key: str | None = None, value: str = "0xde0b6b3a7640000", origin: Origin = SITE) -> Answer:
        async def terminal(request: Request, context: Context) -> Answer:
            self.reached += 1
            return result(None)

        link = ApprovalLink(self, self, lambda call: self.covered, lambda *who: self.permitted, lambda: self.locked)
        options = {"call": "c1"} | ({} if key is None else {"idempotencyKey": key})
        raw = result(["paychan", "pay", {"value": value, "note": "\x1b[2Jfree"}, options]).json
        return await link(Request("l2_invoke", raw), Context(origin), terminal)


@pytest.mark.parametrize(
    ("approval", "covered", "spends", "asked"),
    [
        ("always", False, True, True),
        ("always", True, True, True),
        ("policy", False, True, True),
        ("policy", True, True, False),
        ("policy", False, False, True),
        ("never", False, True, False),
        ("never", False, False, False),
        ("nonsense", True, True, True),
    ],
)
async def test_who_decides(approval: str, covered: bool, spends: bool, asked: bool) -> None:
    house = House(approval, covered)
    house.spends = house.spends if spends else None
    await house.invoke()
    assert (len(house.asked), len(house.policies)) == ((1, 0) if asked else (0, 1))
    assert house.reached == 1


async def test_the_question_holds_the_proxys_words_and_quotes_the_callers() -> None:
    house = House()
    await house.invoke()
    [question] = house.asked
    assert question.summary == "pay of plugin paychan; it costs at most 1 ETH"
    assert question.quoted["note"] == "\x1b[2Jfree"
    assert (question.facts.value, question.facts.asset, question.facts.action) == (10**18, "ETH", "pay")
    assert question.facts.always_ask is False


async def test_the_digest_binds_everything_that_will_run() -> None:
    digests = set()
    for change in ("nothing", "value", "key", "origin", "code"):
        house = House()
        house.code = "0xother" if change == "code" else house.code
        await house.invoke(
            key="k" if change == "key" else None,
            value="0x1" if change == "value" else "0x2",
            origin=Origin.token("ci") if change == "origin" else SITE,
        )
        digests.add(house.asked[0].digest)
    assert len(digests) == 5


@pytest.mark.parametrize("loss", ["permission", "lock", "update", "removal"])
async def test_an_answer_finds_what_changed_meanwhile(loss: str) -> None:
    house = House()
    await house.invoke()
    still_allowed = house.asked[0].still_allowed
    assert still_allowed is not None
    still_allowed()
    if loss == "permission":
        house.permitted = False
    elif loss == "lock":
        house.locked = True
    else:
        house.code = None if loss == "removal" else "0xnew"
    with pytest.raises(Unauthorized):
        still_allowed()


async def test_a_removed_action_is_not_permitted() -> None:
    house = House()
    house.code = None
    with pytest.raises(Unauthorized):
        await house.invoke()
    assert house.reached == 0


@pytest.mark.parametrize(
    ("amount", "asset", "text"),
    [
        (0, "ETH", "0 ETH"),
        (1, "ETH", "0.000000000000000001 ETH"),
        (15 * 10**17, "ETH", "1.5 ETH"),
        (2**256 - 1, "ETH", f"{(2**256 - 1) // 10**18}.584007913129639935 ETH"),
        (5, "0x" + "11" * 20, "5 of the smallest unit of token 0x" + "11" * 20),
    ],
)
def test_amounts_are_exact(amount: int, asset: str, text: str) -> None:
    assert amount_text(amount, asset) == text
