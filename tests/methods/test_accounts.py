"""The account methods: who may, what the owner is asked, what is signed (rpc.md, "Accounts")."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from middleware.errors import InvalidParams, Refused, RpcError, Unauthorized, UnknownChain
from middleware.questions import Decision, Question
from middleware.waist import Context, Origin
from proxy.host.services.digests import warm_up
from proxy.host.services.typed_reading import TypedReading
from proxy.host.services.worker import Worker
from proxy.methods import accounts
from proxy.storage import Database
from proxy.wallet.crypto import Crypto
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore
from proxy.wallet.ledger import Ledger
from proxy.wallet.transactions import Transactions
from tests.conftest import TEST_PHRASE
from tests.wallet.fake_chain import FakeChain
from tests.wallet.test_typed_data import MAIL, slow

PASSWORD = "pw"
SITE = Origin.web("https://app.example")
STRANGER = Origin.web("https://other.example")
ETHER = 10**18


class Granted:
    """Permissions in a dictionary."""

    def __init__(self) -> None:
        self.held: dict[Origin, tuple[str, ...]] = {}

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        return self.held.get(origin, ())

    def grant_accounts(self, origin: Origin, addresses: Iterable[str]) -> None:
        self.held[origin] = tuple(addresses)


class Owner:
    """Says yes, no, or does something in between."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.says: Any = None
        self.chosen: Any = None

    async def ask(self, question: Question) -> Decision:
        self.asked.append(question)
        if isinstance(self.says, Exception):
            raise self.says
        if callable(self.says):
            self.says()
        if question.apply is not None:
            question.apply(self.chosen)
        return Decision("owner", "q", 1.0, self.chosen)


class Wallet:
    """The methods, and what stands around them."""

    def __init__(self, folder: Path, database: Database) -> None:
        keystore = Keystore(folder / "keystore.json", scrypt_n=16)
        self.account = keystore.create(TEST_PHRASE, PASSWORD).address
        self.second = keystore.add_derived(PASSWORD).address
        self.keyring = Keyring(keystore)
        self.keyring.unlock(PASSWORD)
        self.chain, self.database = FakeChain(), database
        self.chain.balances[self.account] = 10 * ETHER
        self.permissions = Granted()
        self.permissions.grant_accounts(SITE, [self.account])
        self.owner = Owner()
        transactions = Transactions(self.chain, self.keyring, Ledger(database.space("nonces")))
        self.typed = TypedReading(Crypto(), Worker(warm_up, Crypto()))
        self.handlers = accounts.handlers(
            self.keyring, transactions, self.chain, self.permissions, self.owner, self.typed.read
        )

    async def call(self, method: str, *params: Any, origin: Origin = SITE) -> Any:
        return await self.handlers[method](list(params), Context(origin))

    async def send(self, **fields: Any) -> Any:
        return await self.call("eth_sendTransaction", {"from": self.account, "to": self.second} | fields)


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Wallet]:
    with Database(tmp_path / "chain.db") as database:
        wallet = Wallet(tmp_path, database)
        yield wallet
        wallet.typed.close()


# -- who sees which account


async def test_a_stranger_sees_nothing_until_the_owner_agrees(wallet: Wallet) -> None:
    assert await wallet.call("eth_accounts", origin=STRANGER) == []
    assert await wallet.call("eth_requestAccounts", origin=STRANGER) == [wallet.account]
    (question,) = wallet.owner.asked
    assert (question.kind, question.facts.always_ask) == ("accounts", True)
    assert str(STRANGER) in question.summary
    assert await wallet.call("eth_accounts", origin=STRANGER) == [wallet.account]
    assert await wallet.call("eth_requestAccounts", origin=STRANGER) == [wallet.account]
    assert len(wallet.owner.asked) == 1


async def test_the_owner_may_choose_other_accounts_but_only_own_ones(wallet: Wallet) -> None:
    wallet.owner.chosen = {"accounts": [wallet.second]}
    assert await wallet.call("eth_requestAccounts", origin=STRANGER) == [wallet.second]
    wallet.permissions.held.clear()
    wallet.owner.chosen = {"accounts": ["0x" + "11" * 20]}
    with pytest.raises(InvalidParams):
        await wallet.call("eth_requestAccounts", origin=STRANGER)
    assert await wallet.call("eth_accounts", origin=STRANGER) == []


async def test_no_grants_nothing(wallet: Wallet) -> None:
    wallet.owner.says = Refused("the owner said no")
    with pytest.raises(Refused):
        await wallet.call("eth_requestAccounts", origin=STRANGER)
    assert wallet.permissions.accounts(STRANGER) == ()


async def test_locked_is_4100_and_nothing_is_asked(wallet: Wallet) -> None:
    wallet.keyring.lock()
    calls: list[tuple[str, list[Any]]] = [
        ("eth_sendTransaction", [{"from": wallet.account, "to": wallet.second}]),
        ("personal_sign", ["0x00", wallet.account]),
        ("eth_signTypedData_v4", [wallet.account, MAIL]),
    ]
    for method, params in calls:
        with pytest.raises(Unauthorized, match="locked"):
            await wallet.call(method, *params)
    with pytest.raises(Unauthorized, match="locked"):
        await wallet.call("eth_requestAccounts", origin=STRANGER)
    assert wallet.owner.asked == []


@pytest.mark.parametrize("bad", [{}, {"from": 5}, None, "x"])
async def test_a_stranger_learns_nothing_from_params(wallet: Wallet, bad: Any) -> None:
    """Permission comes before anything is looked at: right, wrong and missing params get one and the same answer."""
    answers, grants = set(), set()
    for method, params in [
        ("eth_sendTransaction", [bad]),
        ("personal_sign", [bad, bad]),
        ("eth_signTypedData_v4", [bad, bad]),
        ("eth_signTypedData_v4", [wallet.account, MAIL]),
    ]:
        with pytest.raises(Unauthorized) as caught:
            await wallet.call(method, *params, origin=STRANGER)
        answers.add(json.dumps(caught.value.to_json()))
        grants.add(caught.value.data["grant"])
    assert grants == {f"l2proxy permission grant {STRANGER} --accounts 1"}
    assert len(answers) == 1
    assert wallet.account not in answers.pop()


async def test_an_account_that_was_not_granted_is_not_used(wallet: Wallet) -> None:
    with pytest.raises(Unauthorized, match="not granted"):
        await wallet.send(**{"from": wallet.second})
    said = set()
    for account in (
        wallet.second,
        "0x" + "11" * 20,
    ):  # the owner's own second account, and nobody's: not to be told apart
        with pytest.raises(Unauthorized, match="not granted") as refused:
            await wallet.call("personal_sign", "0x00", account)
        assert refused.value.data["grant"] == f"l2proxy permission grant {SITE} --accounts N"
        said.add(refused.value.message.replace(account, "X"))
    assert len(said) == 1
    assert wallet.owner.asked == []


# -- transactions


async def test_a_transaction_is_asked_with_its_bounds_then_sent(wallet: Wallet) -> None:
    sent = await wallet.send(value=hex(3 * ETHER))
    (question,) = wallet.owner.asked
    assert question.kind == "transaction"
    assert question.summary == f"send 3 ETH to {wallet.second} from {wallet.account}"
    assert question.details["feeText"] == "0.0001875 ETH"
    assert question.facts.value == 3 * ETHER + int(question.details["feeBound"], 16)
    assert (question.facts.to, question.facts.asset, question.facts.calldata) == (wallet.second, "ETH", False)
    (mined,) = wallet.chain.executed()
    assert (mined.hash, mined.value, mined.to) == (sent, 3 * ETHER, wallet.second)
    assert question.details["gas"] == hex(mined.gas)
    assert question.details["maxFeePerGas"] == hex(mined.max_fee)


async def test_the_same_wish_reads_the_same_when_fees_have_moved(
    wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wallet.send(value="0x1")
    block = {"gasLimit": hex(30_000_000), "baseFeePerGas": hex(7 * 10**9)}
    monkeypatch.setattr(wallet.chain, "eth_getBlockByNumber", lambda *_: block)
    await wallet.send(value="0x1")
    first, second = wallet.owner.asked
    assert first.summary == second.summary
    assert first.digest != second.digest


async def test_no_sends_nothing(wallet: Wallet) -> None:
    wallet.owner.says = Refused("the owner said no")
    with pytest.raises(Refused):
        await wallet.send(value="0x1")
    assert wallet.chain.pool == {}
    assert wallet.chain.executed() == []


async def test_revoked_or_locked_while_the_question_was_open_sends_nothing(wallet: Wallet) -> None:
    wallet.owner.says = wallet.permissions.held.clear
    with pytest.raises(Unauthorized, match="not granted"):
        await wallet.send(value="0x1")
    wallet.permissions.grant_accounts(SITE, [wallet.account])
    wallet.owner.says = wallet.keyring.lock
    with pytest.raises(Unauthorized, match="locked"):
        await wallet.send(value="0x1")
    assert wallet.chain.executed() == []
    assert wallet.owner.asked[0].still_allowed is not None


async def test_what_the_dapp_fixes_is_what_is_sent(wallet: Wallet) -> None:
    await wallet.send(
        value="0x05",
        gas="0x30d40",
        nonce="0x0",
        maxFeePerGas=hex(5 * 10**9),
        maxPriorityFeePerGas=hex(2 * 10**9),
        chainId="0x7a69",
        type="0x2",
        data="0x",
        input=None,
        accessList=[],
    )
    (mined,) = wallet.chain.executed()
    assert (mined.gas, mined.nonce, mined.max_fee, mined.tip, mined.value) == (200_000, 0, 5 * 10**9, 2 * 10**9, 5)
    assert "eth_estimateGas" not in wallet.chain.calls


async def test_a_nonce_ahead_of_the_next_is_said(wallet: Wallet) -> None:
    await wallet.send(value="0x1", nonce="0x0")
    assert "wait" not in wallet.owner.asked[-1].summary
    await wallet.send(value="0x1", nonce="0x4")
    assert "until 3 other transactions are mined" in wallet.owner.asked[-1].summary


async def test_a_replacement_replaces_only_what_the_owner_was_shown(wallet: Wallet) -> None:
    wallet.chain.automine = False
    fees = {"maxFeePerGas": hex(5 * 10**9), "maxPriorityFeePerGas": hex(10**9)}
    first = await wallet.send(value="0x1", nonce="0x0", **fees)

    def another() -> None:  # takes the nonce while the question is open
        wallet.owner.says = None
        ledger = Ledger(wallet.database.space("nonces"))
        ledger.write(replace(next(ledger.of(wallet.account)), hash="0x" + "11" * 32))

    wallet.owner.says = another
    with pytest.raises(InvalidParams, match="since the owner was asked"):
        await wallet.send(value="0x2", nonce="0x0", **fees)
    assert wallet.owner.asked[-1].details["replaces"] == first
    assert [sent.hash for sent in wallet.chain.pool.values()] == [first]


async def test_known_calls_are_decoded_for_the_owner(wallet: Wallet) -> None:
    token = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    wallet.chain.codes[token] = "0x60"
    transfer = "0xa9059cbb" + wallet.second[2:].lower().rjust(64, "0") + f"{500:064x}"
    await wallet.send(to=token, data=transfer)
    question = wallet.owner.asked[-1]
    assert f"transfer({wallet.second}, 500)" in question.summary
    assert (question.facts.function, question.facts.asset, question.facts.value) == (
        "transfer(address,uint256)",
        token,
        500,
    )
    assert question.warnings == ()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("0x095ea7b3" + "11" * 32 + "ff" * 32, None),  # dirty address: not a call of approve
        ("0x095ea7b3" + "00" * 12 + "11" * 20 + "ff" * 32, "unlimited_approval"),
        ("0x39509351" + "00" * 12 + "11" * 20 + "ff" * 32, "unlimited_approval"),
        ("0xa22cb465" + "00" * 12 + "11" * 20 + "00" * 31 + "01", "unlimited_approval"),
        ("0x095ea7b3" + "00" * 12 + "11" * 20 + f"{10**18:064x}", None),
        ("0x12345678", None),
    ],
)
async def test_unlimited_approvals_carry_a_warning(wallet: Wallet, data: str, code: str | None) -> None:
    token = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    wallet.chain.codes[token] = "0x60"
    await wallet.send(to=token, data=data)
    warnings = [warning.partition(":")[0] for warning in wallet.owner.asked[-1].warnings]
    assert warnings == ([code] if code else [])


async def test_data_to_an_address_without_code_carries_a_warning(wallet: Wallet) -> None:
    await wallet.send(data="0x12345678")
    assert [warning.partition(":")[0] for warning in wallet.owner.asked[-1].warnings] == ["no_code"]


async def test_a_contract_can_be_created(wallet: Wallet) -> None:
    await wallet.call("eth_sendTransaction", {"from": wallet.account, "data": "0x6001"})
    assert "create a contract of 2 bytes" in wallet.owner.asked[0].summary
    assert wallet.owner.asked[0].facts.to is None
    (mined,) = wallet.chain.executed()
    assert mined.to == "0x" + "00" * 20  # the fake's name for none
    assert mined.data == b"\x60\x01"


BAD_TRANSACTIONS: list[tuple[dict[str, Any], str]] = [
    ({"to": "0x12"}, "to"),
    ({"to": "0x70997970c51812dc3A010C7d01b50e0d17dc79C8"}, "to"),
    ({"to": None}, "to"),
    ({"value": 5}, "value"),
    ({"value": "5"}, "value"),
    ({"value": "0x"}, "value"),
    ({"value": "-0x1"}, "value"),
    ({"value": "0x" + "f" * 65}, "value"),
    ({"data": "0x1"}, "data"),
    ({"data": "0x01", "input": "0x02"}, "input"),
    ({"data": "0x" + "00" * (128 * 1024 + 1)}, "data"),
    ({"gas": "100000"}, "gas"),
    ({"gas": "0x0"}, "gas"),
    ({"gas": "0x5207"}, "gas"),
    ({"gas": hex(30_000_001)}, "gas"),
    ({"gas": "0x" + "f" * 64}, "gas"),
    ({"nonce": "0xffffffffffffffffff"}, "nonce"),
    ({"chainId": "0x1"}, "chainId"),
    ({"type": "0x3"}, "type"),
    ({"type": "0x4"}, "type"),
    ({"type": "0x2", "gasPrice": "0xffffffffff"}, "type"),
    ({"type": "0x0", "maxFeePerGas": "0xffffffffff"}, "type"),
    ({"gasPrice": "0xffffffffff", "maxFeePerGas": "0xffffffffff"}, "gasPrice"),
    ({"authorizationList": []}, "authorizationList"),
    ({"blobVersionedHashes": []}, "blobVersionedHashes"),
    ({"accessList": [{"address": "0x12", "storageKeys": []}]}, "accessList[0].address"),
    ({"accessList": [{"address": "0x" + "11" * 20}]}, "accessList[0]"),
    ({"accessList": [{"address": "0x" + "11" * 20, "storageKeys": ["0x1"]}]}, "accessList[0].storageKeys"),
    ({"gasLimit": "0x5208"}, "gasLimit"),
    ({"from": None}, "from"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_TRANSACTIONS)
async def test_what_cannot_be_is_named_and_nobody_is_asked(wallet: Wallet, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        await wallet.send(**fields)
    assert caught.value.data["param"] == param
    assert wallet.owner.asked == []


async def test_too_poor_is_said_before_asking(wallet: Wallet) -> None:
    with pytest.raises(RpcError, match="insufficient funds") as caught:
        await wallet.send(value=hex(10 * ETHER))
    assert caught.value.code == -32000
    assert wallet.owner.asked == []


# -- signatures


async def test_messages_are_signed_as_every_library_expects(wallet: Wallet) -> None:
    for data, text in [
        ("0x" + b"hello".hex(), "hello"),
        ("hello", "hello"),
        ("0xzz", "0xzz"),
        ("0x", ""),
        ("a\x1b[31mb", "a\x1b[31mb"),
    ]:
        signature = await wallet.call("personal_sign", data, wallet.account)
        assert Account.recover_message(encode_defunct(text=text), signature=signature) == wallet.account
        assert wallet.owner.asked[-1].quoted["message"] == text


async def test_swapped_params_are_understood_where_it_is_plain(wallet: Wallet) -> None:
    expected = await wallet.call("personal_sign", "0x68690a", wallet.account)
    assert await wallet.call("personal_sign", wallet.account.lower(), "0x68690a") == expected
    both = await wallet.call("personal_sign", wallet.second, wallet.account)
    signed = encode_defunct(hexstr=wallet.second)
    assert Account.recover_message(signed, signature=both) == wallet.account


def sign_in(domain: str, account: str, chain: int = 31337) -> str:
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n{account}\n\nHello\n\n"
        f"URI: https://{domain}\nVersion: 1\nChain ID: {chain}\nNonce: 12345678\nIssued At: 2026-01-01T00:00:00Z"
    )


async def test_a_sign_in_for_the_asking_site_is_plain(wallet: Wallet) -> None:
    await wallet.call("personal_sign", sign_in("app.example", wallet.account), wallet.account)
    assert wallet.owner.asked[-1].warnings == ()
    assert "sign-in" in wallet.owner.asked[-1].summary


async def test_a_sign_in_for_anything_else_carries_warnings(wallet: Wallet) -> None:
    cases = [
        (sign_in("bank.example", wallet.account), "sign_in_domain"),
        (sign_in("app.example:8443", wallet.account), "sign_in_domain"),
        (sign_in("app.example.evil", wallet.account), "sign_in_domain"),
        ("http://" + sign_in("app.example", wallet.account), "sign_in_domain"),
        (sign_in("app.example", wallet.second), "sign_in_account"),
        (sign_in("app.example", wallet.account, chain=1), "sign_in_chain"),
        (sign_in("bank.example", wallet.account).replace("Ethereum", "ethereum"), "sign_in_domain"),
        ("\n " + sign_in("bank.example", wallet.account), "sign_in_domain"),
    ]
    for text, code in cases:
        await wallet.call("personal_sign", text, wallet.account)
        assert [warning.partition(":")[0] for warning in wallet.owner.asked[-1].warnings] == [code], text
    wallet.permissions.grant_accounts(Origin.token("bot"), [wallet.account])
    text = sign_in("app.example", wallet.account)
    await wallet.call("personal_sign", text, wallet.account, origin=Origin.token("bot"))
    assert wallet.owner.asked[-1].warnings[0].startswith("sign_in_not_a_site: ")


async def test_typed_data_is_signed_and_shown_as_hashed(wallet: Wallet) -> None:
    typed = {**MAIL, "domain": {**MAIL["domain"], "chainId": 31337}}
    for given in (typed, json.dumps(typed)):
        signature = await wallet.call("eth_signTypedData_v4", wallet.account, given)
        assert Account.recover_message(encode_typed_data(full_message=typed), signature=signature) == wallet.account
    question = wallet.owner.asked[-1]
    assert question.facts.verifying_contract == MAIL["domain"]["verifyingContract"]
    assert json.loads(question.quoted["typedData"])["message"] == MAIL["message"]
    assert "Hello, Bob!" not in question.summary
    assert question.warnings == ()


async def test_typed_data_of_another_chain_or_a_permit_carries_warnings(wallet: Wallet) -> None:
    await wallet.call("eth_signTypedData_v4", wallet.account, MAIL)
    assert [warning.partition(":")[0] for warning in wallet.owner.asked[-1].warnings] == ["typed_data_chain"]
    for name, code in [
        ("Permit", "typed_data_permit"),
        ("PermitSingle", "typed_data_permit"),
        ("OrderComponents", "typed_data_order"),
    ]:
        permit = {
            "types": {name: [{"name": "spender", "type": "address"}]},
            "primaryType": name,
            "domain": {"chainId": 31337},
            "message": {"spender": wallet.second},
        }
        await wallet.call("eth_signTypedData_v4", wallet.account, permit)
        assert [warning.partition(":")[0] for warning in wallet.owner.asked[-1].warnings] == [code]


async def test_fields_outside_types_are_refused(wallet: Wallet) -> None:
    hidden = {**MAIL, "message": {**MAIL["message"], "amount": "1000"}}
    with pytest.raises(InvalidParams, match="would not be signed"):
        await wallet.call("eth_signTypedData_v4", wallet.account, hidden)
    assert wallet.owner.asked == []


async def test_locked_while_asked_signs_nothing(wallet: Wallet) -> None:
    wallet.owner.says = wallet.keyring.lock
    with pytest.raises(Unauthorized):
        await wallet.call("personal_sign", "0x00", wallet.account)


# -- the chain


async def test_the_same_chain_is_null_another_4902(wallet: Wallet) -> None:
    for method in ("wallet_switchEthereumChain", "wallet_addEthereumChain"):
        assert await wallet.call(method, {"chainId": "0x7a69"}) is None
        assert await wallet.call(method, {"chainId": "0x7A69", "chainName": "x"}) is None
        with pytest.raises(UnknownChain) as caught:
            await wallet.call(method, {"chainId": "0x1"})
        assert caught.value.code == 4902
        for bad in ({}, {"chainId": 1}, {"chainId": "1"}, 5):
            with pytest.raises(InvalidParams):
                await wallet.call(method, bad)


async def test_capabilities_advertise_l2(wallet: Wallet) -> None:
    expected = {"0x7a69": {"l2": {"supported": True}}}
    assert await wallet.call("wallet_getCapabilities", wallet.account) == expected
    assert await wallet.call("wallet_getCapabilities", wallet.account, ["0x7A69", "0x1"]) == expected
    assert await wallet.call("wallet_getCapabilities", wallet.account, ["0x1"]) == {}
    with pytest.raises(Unauthorized):
        await wallet.call("wallet_getCapabilities", wallet.second)


async def test_params_by_name_work_as_by_position(wallet: Wallet) -> None:
    context = Context(SITE)
    by_name = {"data": "0x00", "address": wallet.account}
    expected = await wallet.call("personal_sign", "0x00", wallet.account)
    assert await wallet.handlers["personal_sign"](by_name, context) == expected
    for bad in ({"data": "0x00"}, {**by_name, "more": 1}, ["0x00"], ["0x00", wallet.account, "", 1], None):
        with pytest.raises(InvalidParams):
            await wallet.handlers["personal_sign"](bad, context)


async def test_hardening_28_typed_data_that_takes_seconds_to_hash_holds_nobody_up(wallet: Wallet) -> None:
    types: dict[str, Any] = {"EIP712Domain": [], "T": [{"name": "x", "type": "string"}]}
    large = {"types": types, "primaryType": "T", "domain": {}, "message": {"x": "a" * 9000}}
    signed = await wallet.call("eth_signTypedData_v4", wallet.account, large)
    assert Account.recover_message(encode_typed_data(full_message=large), signature=signed) == wallet.account
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    with pytest.raises(InvalidParams, match="at most 1 s"):
        await wallet.call("eth_signTypedData_v4", wallet.account, slow())
    beating.cancel()
    assert beats > 100, "the daemon stood still meanwhile"
