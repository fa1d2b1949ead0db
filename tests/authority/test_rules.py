"""Rules: exact values, no blank cheques, used up on disk, and in force only as attested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from middleware.questions import Facts, Question
from middleware.waist import Origin
from proxy.authority.rule_book import RuleBook
from proxy.authority.rules import RuleError, parse_rules
from proxy.storage import Database

Make = Callable[..., Question]
GATEWAY, TOKEN = "0x" + "11" * 20, "0x" + "22" * 20
PAYCHAN = Origin.plugin("paychan")
DEPOSIT = Facts("deposit", plugin="paychan", function="open()", to=GATEWAY, asset="ETH", value=10, calldata=True)
ALLOW = f"""[[rule]]
origin = "plugin:paychan"
method = "deposit"
function = "open()"
to = "{GATEWAY}"
asset = "ETH"
max_value = 100
decision = "allow"
"""


@pytest.fixture
def book(owner: Database, clock: Any) -> RuleBook:
    return RuleBook(owner.space("rules"), owner.space("uses"), clock)


def again(owner: Database, clock: Any) -> RuleBook:
    return RuleBook(owner.space("rules"), owner.space("uses"), clock)


@pytest.fixture
def deposit(question: Make) -> Make:
    def make(**facts: Any) -> Question:
        members = {name: getattr(DEPOSIT, name) for name in Facts.__slots__}
        return question(origin=PAYCHAN, kind="deposit", facts=Facts(**{**members, **facts}))

    return make


def test_an_exact_rule_allows(book: RuleBook, deposit: Make) -> None:
    book.attest(ALLOW)
    verdict = book.decide(deposit())
    assert verdict.decision == "allow"
    assert verdict.rule == book.rules[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"value": 101},
        {"value": None},
        {"asset": TOKEN},
        {"to": "0x" + "12" * 20},
        {"function": "open(address)"},
        {"function": None},
        {"method": "withdraw"},
        {"always_ask": True},
    ],
)
def test_anything_else_is_asked(book: RuleBook, deposit: Make, facts: dict[str, Any]) -> None:
    book.attest(ALLOW)
    assert book.decide(deposit(**facts)).decision == "ask"


def test_addresses_are_compared_without_their_checksum(book: RuleBook, deposit: Make) -> None:
    book.attest(ALLOW.replace(GATEWAY, "0x" + "aB" * 20))
    assert book.decide(deposit(to="0x" + "Ab" * 20)).decision == "allow"


@pytest.mark.parametrize("missing", ["function", "to"])
def test_calldata_needs_function_and_to(book: RuleBook, deposit: Make, missing: str) -> None:
    book.attest("".join(line + "\n" for line in ALLOW.splitlines() if not line.startswith(f"{missing} ")))
    verdict = book.decide(deposit())
    assert verdict.decision == "ask"
    assert "names function and to" in verdict.why


def test_unknown_calldata_is_calldata(book: RuleBook, question: Make) -> None:
    book.attest('[[rule]]\norigin="*"\nmethod="eth_sendTransaction"\nto="0x01"\ndecision="allow"\n')
    facts = Facts("eth_sendTransaction", to="0x01", asset="ETH", value=1)
    assert book.decide(question(facts=facts)).decision == "allow"
    data = Facts("eth_sendTransaction", to="0x01", asset="ETH", value=1, calldata=True)
    assert book.decide(question(facts=data)).decision == "ask"


def test_max_value_without_an_asset_is_ether(book: RuleBook, question: Make) -> None:
    book.attest('[[rule]]\norigin="*"\nmethod="eth_sendTransaction"\nmax_value=5\ndecision="allow"\n')
    assert book.decide(question(facts=Facts("eth_sendTransaction", asset="ETH", value=5))).decision == "allow"
    assert book.decide(question(facts=Facts("eth_sendTransaction", asset=TOKEN, value=5))).decision == "ask"


@pytest.mark.parametrize("kind", ["typed_data", "message", "sign"])
def test_signatures_need_the_contract(book: RuleBook, question: Make, kind: str) -> None:
    facts = Facts("eth_signTypedData_v4", verifying_contract=GATEWAY)
    book.attest('[[rule]]\norigin="*"\nmethod="eth_signTypedData_v4"\ndecision="allow"\n')
    assert book.decide(question(kind=kind, facts=facts)).decision == "ask"
    book.attest(
        f'[[rule]]\norigin="*"\nmethod="eth_signTypedData_v4"\nverifying_contract="{GATEWAY}"\ndecision="allow"\n'
    )
    assert book.decide(question(kind=kind, facts=facts)).decision == "allow"
    assert book.decide(question(kind=kind, facts=Facts("eth_signTypedData_v4"))).decision == "ask"


def test_a_transfer_needs_plugin_and_transfer(book: RuleBook, question: Make) -> None:
    facts = Facts("transfer", plugin="paychan", to="0x01", asset="ETH", value=1)
    book.attest('[[rule]]\norigin="*"\nmethod="transfer"\ndecision="allow"\n')
    assert book.decide(question(origin=PAYCHAN, kind="transfer", facts=facts)).decision == "ask"
    book.attest('[[rule]]\norigin="plugin:paychan"\nmethod="transfer"\ndecision="allow"\n')
    assert book.decide(question(origin=PAYCHAN, kind="transfer", facts=facts)).decision == "allow"


def test_a_warning_beats_an_allow_that_does_not_list_it(book: RuleBook, question: Make) -> None:
    rule = '[[rule]]\norigin="*"\nmethod="eth_sendTransaction"\ndecision="allow"\n'
    asked = question(warnings=("new_contract: no code there",))
    book.attest(rule)
    assert book.decide(asked).decision == "ask"
    book.attest(rule + 'warnings=["new_contract"]\n')
    assert book.decide(asked).decision == "allow"


def test_the_first_match_wins_after_reject_rules(book: RuleBook, deposit: Make) -> None:
    book.attest('[[rule]]\norigin="plugin:paychan"\ndecision="ask"\n' + ALLOW)
    assert book.decide(deposit()).decision == "ask"
    book.attest(ALLOW + '[[rule]]\norigin="plugin:paychan"\ndecision="ask"\n')
    assert book.decide(deposit()).decision == "allow"
    book.attest(ALLOW + '[[rule]]\nplugin="paychan"\ndecision="reject"\n')
    assert book.decide(deposit()).decision == "reject"


def test_a_reject_up_to_a_value_also_rejects_what_is_unknown(book: RuleBook, deposit: Make) -> None:
    book.attest('[[rule]]\nplugin="paychan"\nasset="ETH"\nmax_value=5\ndecision="reject"\n')
    assert book.decide(deposit(value=6)).decision == "ask"
    assert book.decide(deposit(value=None)).decision == "reject"


def test_a_plan_needs_every_step_and_its_sum(book: RuleBook, question: Make) -> None:
    book.attest(ALLOW.replace('"deposit"', '"plan"'))

    def plan(*values: int, to: str = GATEWAY) -> Question:
        steps = tuple(
            Facts("plan", plugin="paychan", function="open()", to=to, asset="ETH", value=value) for value in values
        )
        return question(origin=PAYCHAN, kind="plan", facts=Facts("plan", plugin="paychan", steps=steps))

    assert book.decide(plan(50, 50)).decision == "allow"
    assert book.decide(plan(50, 51)).decision == "ask"
    assert book.decide(plan(1, to=TOKEN)).decision == "ask"
    for decision in ("reject", "ask"):  # one step is enough
        book.attest(ALLOW.replace('"deposit"', '"plan"') + f'[[rule]]\nto = "{TOKEN}"\ndecision = "{decision}"\n')
        assert book.decide(plan(50, 50)).decision == "allow"
        mixed = plan(1)
        mixed = replace(mixed, facts=replace(mixed.facts, steps=(*mixed.facts.steps, *plan(1, to=TOKEN).facts.steps)))
        assert book.decide(mixed).decision == decision


def test_max_count_is_used_up_for_good(book: RuleBook, deposit: Make, owner: Database, clock: Any) -> None:
    text = ALLOW + "max_count = 2\n"
    book.attest(text)
    for _ in range(2):
        verdict = book.decide(deposit())
        assert verdict.decision == "allow"
        book.use(verdict.rule, deposit())  # type: ignore[arg-type]
    clock.now += 10**8
    for present in (book, again(owner, clock)):
        present.attest(text)
        assert present.decide(deposit()).decision == "ask"
        assert "used up" in present.decide(deposit()).why


def test_a_rolling_sum_frees_itself(book: RuleBook, deposit: Make, owner: Database, clock: Any) -> None:
    book.attest(ALLOW + "period = 3600\n")
    book.use(book.rules[0], deposit(value=60))
    assert book.decide(deposit(value=41)).decision == "ask"
    assert book.decide(deposit(value=40)).decision == "allow"
    assert again(owner, clock).decide(deposit(value=41)).decision == "ask"
    clock.now -= 7200
    assert book.decide(deposit(value=41)).decision == "ask"
    clock.now += 7200 + 3600
    assert book.decide(deposit(value=41)).decision == "allow"


def test_only_the_attested_copy_is_in_force(book: RuleBook, deposit: Make, owner: Database, clock: Any) -> None:
    digest = book.attest(ALLOW)
    assert again(owner, clock).decide(deposit()).decision == "allow"
    with pytest.raises(RuleError):
        book.attest("[[rule]]\n")
    assert book.digest == again(owner, clock).digest == digest
    book.attest("")
    assert again(owner, clock).decide(deposit()).decision == "ask"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[rule]]\norigin = "*"\nmaxvalue = 5\ndecision = "reject"', "did you mean max_value"),
        ('[[rule]]\nfoo = 5\ndecision = "reject"', "unknown key foo"),
        ("[rules]\n", "unknown key rules"),
        ('[rule]\ndecision = "ask"', "[[rule]] table"),
        ('[[rule]]\norigin = "*"', "decision"),
        ('[[rule]]\ndecision = "yes"', "yes"),
        ('[[rule]]\ndecision = "allow"', "blank cheque"),
        ('[[rule]]\nmethod = "deposit"\ndecision = "allow"', "blank cheque"),
        ('[[rule]]\norigin = "plugin:paychan"\ndecision = "allow"', "blank cheque"),
        ('[[rule]]\norigin = "*"\nmethod = "*"\ndecision = "allow"', "blank cheque"),
        ('[[rule]]\nmax_value = "1 ETH"\ndecision = "reject"', "max_value"),
        ("[[rule]]\nmax_value = -1\ndecision = 'reject'", "max_value"),
        ("[[rule]]\nmax_value = 1.5\ndecision = 'reject'", "max_value"),
        ("[[rule]]\nperiod = 5\ndecision = 'reject'", "period"),
        ("[[rule]\n", "TOML"),
        pytest.param("x = " + "[" * 5000, "TOML", id="deep"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(text: str, why: str) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules(text)
    assert why in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_amounts_may_exceed_64_bits_as_text() -> None:
    [rule] = parse_rules(f'[[rule]]\nmax_value = "{10**30}"\ndecision = "ask"')
    assert rule.most == 10**30


def test_an_action_that_changed_is_answered_by_no_allow_rule_until_rules_are_attested_again(
    book: RuleBook, owner: Database, clock: Any, question: Make
) -> None:
    allow = '[[rule]]\norigin="*"\naction="pay"\ndecision="allow"\n'
    book.attest(allow)
    facts = Facts("l2_invoke", plugin="paychan", action="pay", asset="ETH", value=1)
    asked = question(kind="invoke", facts=facts)
    other = question(kind="invoke", facts=Facts("l2_invoke", plugin="other", action="pay", asset="ETH", value=1))
    allowed = (book.decide(asked).decision, book.decide(other).decision)
    book.drop_actions("paychan", ["pay"])
    assert allowed == ("allow", "allow")
    for held in (book, again(owner, clock)):
        assert "changed since" in held.decide(asked).why
        assert held.decide(asked).decision == "ask"
        assert held.decide(other).decision == "allow"
    book.attest(allow)
    assert again(owner, clock).decide(asked).decision == "allow"
