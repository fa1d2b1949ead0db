"""The hub's rules on its own ledger, without network; its door; its command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from plugins.paychan.hub.book import Book, Refused
from plugins.paychan.hub.contract import OnChain
from plugins.paychan.hub.digests import Domain, Key, order_of, recover
from plugins.paychan.hub.ledger import Ledger, Voucher
from tests.plugins.paychan.world import ETH, World, read_line, run_hub

CONTRACT = "0x" + "ab" * 20
DOMAIN = Domain(1337, CONTRACT)
HUB = Key(b"\x01" * 32)


class Side:
    """A user of the hub under test."""

    def __init__(self, book: Book, ledger: Ledger, number: int, user_in: int, hub_in: int = 0) -> None:
        self.key = Key(bytes([number]) * 32)
        self.owner = "0x" + bytes([number]).hex() * 20
        self.channel = "0x" + bytes([number]).hex() * 32
        self._book = book
        self._ledger = ledger
        self.show(user_in, hub_in)

    def show(self, user_in: int, hub_in: int = 0, user_out: int = 0, status: str = "open") -> None:
        """Let L1 show the channel so."""
        seen = OnChain(self.owner, status, 0, self.key.address, user_in, hub_in, user_out, 0, 0)
        with self._ledger.transaction():
            self._ledger.put_channel(self.channel, seen)

    def voucher(self, nonce: int, amount: int, to: str, value: int, key: Key | None = None) -> Voucher:
        order = order_of(to, value)
        digest = DOMAIN.voucher(bytes.fromhex(self.channel[2:]), self.key.address, nonce, amount, order)
        return Voucher(nonce, amount, "0x" + order.hex(), "0x" + (key or self.key).sign(digest).hex())

    def pay(self, nonce: int, amount: int, to: Side, value: int) -> dict[str, Any]:
        return self._book.pay(self.channel, self.voucher(nonce, amount, to.owner, value), to.owner, value).answer


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "hub.sqlite3")
    yield made
    made.close()


@pytest.fixture
def book(ledger: Ledger) -> Book:
    made = Book(ledger, DOMAIN, HUB)
    made.chain_time = 1000
    return made


@pytest.fixture
def alice(book: Book, ledger: Ledger) -> Side:
    return Side(book, ledger, 2, 1000)


@pytest.fixture
def bob(book: Book, ledger: Ledger) -> Side:
    return Side(book, ledger, 3, 0, 500)


def test_a_voucher_credits_the_payee_with_a_signed_promise(book: Book, alice: Side, bob: Side) -> None:
    assert alice.pay(1, 100, bob, 100) == {"nonce": 1, "outcome": "paid", "reason": ""}
    assert (book.available(alice.channel), book.available(bob.channel), book.room(bob.channel)) == (900, 100, 400)
    credit = book.newest_credit(bob.channel)
    assert credit is not None
    order = bytes.fromhex(credit["order"][2:])
    assert order == order_of(alice.owner, 100)
    digest = DOMAIN.voucher(bytes.fromhex(bob.channel[2:]), HUB.address, 1, 100, order)
    assert recover(digest, bytes.fromhex(credit["signature"][2:])) == HUB.address


def test_the_same_voucher_again_has_the_same_outcome_and_pays_nothing(
    book: Book, alice: Side, bob: Side
) -> None:  # A10
    first = alice.pay(1, 100, bob, 100)
    assert [alice.pay(1, 100, bob, 100) for _ in range(3)] == [first] * 3
    assert book.available(bob.channel) == 100


def test_two_vouchers_at_one_nonce_are_refused_and_kept(
    book: Book, ledger: Ledger, alice: Side, bob: Side
) -> None:  # A6
    alice.pay(1, 100, bob, 100)
    with pytest.raises(Refused, match="both vouchers are kept"):
        alice.pay(1, 50, bob, 50)
    rows = ledger._db.execute("select nonce, amount from evidence").fetchall()
    assert [tuple(row) for row in rows] == [(1, "50")]
    assert book.available(alice.channel) == 900


def test_what_a_voucher_must_be(book: Book, alice: Side, bob: Side) -> None:  # A7, A13
    good = alice.voucher(1, 100, bob.owner, 100)
    cases = [
        (alice.voucher(2, 100, bob.owner, 100), bob.owner, 100, "nonce 1"),
        (alice.voucher(1, 99, bob.owner, 100), bob.owner, 100, "must promise 100"),
        (alice.voucher(1, 0, bob.owner, 0), bob.owner, 0, "must promise"),
        (alice.voucher(1, 1001, bob.owner, 1001), bob.owner, 1001, "more than the 1000"),
        (alice.voucher(1, 100, bob.owner, 100, bob.key), bob.owner, 100, "did not sign"),
        (good, alice.owner, 100, "another payment"),
        (Voucher(1, 100, good.order, "0x" + "00" * 65), bob.owner, 100, "did not sign"),
    ]
    for voucher, to, value, message in cases:
        with pytest.raises(Refused, match=message):
            book.pay(alice.channel, voucher, to, value)
    assert book.available(alice.channel) == 1000
    with pytest.raises(Refused, match="did not sign"):  # somebody else's channel
        book.pay(bob.channel, good, bob.owner, 100)


def test_a_payment_that_cannot_reach_the_payee_is_given_back(book: Book, alice: Side, bob: Side) -> None:
    answer = alice.pay(1, 600, bob, 600)  # more than the hub's part in bob's channel
    assert (answer["outcome"], book.available(alice.channel), book.available(bob.channel)) == ("refunded", 1000, 0)
    credit = book.newest_credit(alice.channel)
    assert credit is not None
    assert (credit["kind"], credit["value"], credit["from"]) == ("refund", "600", alice.owner)
    bob.show(0, 500, status="closing")
    assert alice.pay(2, 700, bob, 100)["outcome"] == "refunded"
    assert book.available(alice.channel) == 1000
    assert book.room(alice.channel) == 0


def test_routes_keep_room_for_one_payment_each(book: Book, ledger: Ledger, alice: Side, bob: Side) -> None:
    carol = Side(book, ledger, 4, 1000)
    book.keep_route(alice.channel, book.payee(alice.channel, bob.owner, 400), 400)
    with pytest.raises(Refused, match="collateral"):
        book.keep_route(carol.channel, bob.channel, 200)
    book.keep_route(alice.channel, bob.channel, 100)  # instead of, not beside, the first
    book.keep_route(carol.channel, bob.channel, 200)
    assert alice.pay(1, 100, bob, 100)["outcome"] == "paid"
    assert book.room(bob.channel) == 200


def test_a_consent_counts_until_the_confirmed_chain_is_past_its_deadline(
    book: Book, alice: Side, bob: Side
) -> None:  # A12, A22
    consent = book.withdraw(alice.channel, 900)
    assert book.withdraw(alice.channel, 900) == consent
    assert book.available(alice.channel) == 100
    with pytest.raises(Refused, match="more than"):
        alice.pay(1, 101, bob, 101)
    with pytest.raises(Refused, match="more than"):
        book.withdraw(alice.channel, 1001)
    with pytest.raises(Refused, match="no more than"):
        book.withdraw(alice.channel, 800)
    book.chain_time = consent["deadline"]
    assert book.available(alice.channel) == 100
    book.chain_time = consent["deadline"] + 1
    assert book.available(alice.channel) == 1000
    again = book.withdraw(alice.channel, 500)
    alice.show(1000, user_out=500)  # executed
    book.chain_time = again["deadline"] + 1
    assert book.available(alice.channel) == 500


def test_a_close_is_signed_once_both_agree_and_ends_payments(book: Book, alice: Side, bob: Side) -> None:  # A21
    alice.pay(1, 100, bob, 100)
    book.finish(alice.channel)
    with pytest.raises(Refused, match="about to close"):
        alice.pay(2, 200, bob, 100)

    def final(sent: int, received: int, key: Key) -> str:
        return "0x" + key.sign(DOMAIN.final(bytes.fromhex(alice.channel[2:]), sent, received)).hex()

    with pytest.raises(Refused, match="not the hub's newest"):
        book.close(alice.channel, 0, 0, final(0, 0, alice.key))
    with pytest.raises(Refused, match="did not sign"):
        book.close(alice.channel, 100, 0, final(100, 0, bob.key))
    signed = book.close(alice.channel, 100, 0, final(100, 0, alice.key))
    assert book.close(alice.channel, 100, 0, final(100, 0, alice.key)) == signed
    with pytest.raises(Refused, match="about to close"):
        alice.pay(2, 200, bob, 100)
    with pytest.raises(Refused, match="about to close"):
        book.withdraw(alice.channel, 10)
    bob_pays = Book(book._ledger, DOMAIN, HUB)  # after a restart the close still holds
    with pytest.raises(Refused, match="about to close"):
        bob_pays.withdraw(alice.channel, 10)


def test_what_was_acknowledged_is_found_after_a_crash(tmp_path: Path) -> None:  # A3
    file = tmp_path / "crash.sqlite3"
    first = Ledger(file)
    book = Book(first, DOMAIN, HUB)
    alice, bob = Side(book, first, 2, 1000), Side(book, first, 3, 0, 500)
    for nonce in range(1, 11):
        alice.pay(nonce, nonce * 10, bob, 10)
    with pytest.raises(ZeroDivisionError), first.transaction():
        first.change(first.side(alice.channel), sent_amount=5)
        _ = 1 // 0
    first._db.close()
    second = Ledger(file)
    again = Book(second, DOMAIN, HUB)
    assert (again.available(alice.channel), again.available(bob.channel)) == (900, 100)
    assert len(again.sync(bob.channel)["credits"]) == 10
    again.confirm(bob.channel, 8)
    assert [row["nonce"] for row in again.sync(bob.channel)["credits"]] == [9, 10]
    second.close()


def test_a_payment_is_one_sync_and_as_little_work_however_many_there_were(
    book: Book, ledger: Ledger, alice: Side, bob: Side
) -> None:
    """Counted and not timed, for a disk may take its time: statements, and steps of the database's machine in tens."""
    statements, steps = list[str](), list[int]()

    def step() -> int:
        steps[-1] += 1
        return 0

    ledger._db.set_trace_callback(statements.append)
    ledger._db.set_progress_handler(step, 10)
    for nonce in range(1, 201):
        steps.append(0)
        alice.pay(nonce, nonce, bob, 1)
    ledger._db.set_trace_callback(None)
    ledger._db.set_progress_handler(None, 1)
    assert sum(statement.lower().startswith("commit") for statement in statements) == 200
    assert tuple(ledger._db.execute("pragma synchronous").fetchone()) == (2,)  # each commit waits for the disk
    assert len(statements) <= 200 * 25
    assert max(steps[100:]) < 1.5 * max(steps[:100])


async def test_the_door_answers_nonsense_and_lets_nobody_act_for_another(world: World) -> None:
    alice = await world.user("alice")
    await alice.start()
    await alice.deposit(ETH)
    async with aiohttp.ClientSession() as session, session.ws_connect(world.hub.url) as socket:

        async def ask(text: str) -> Any:
            await socket.send_str(text)
            while "method" in (answer := json.loads((await socket.receive(timeout=60)).data)):
                pass  # the hub tells of the channel when it sees the deposit, which may be now
            return answer

        deep = "[" * 30_000 + "]" * 30_000
        for nonsense in (
            "",
            "{",
            "[]",
            "5",
            "null",
            "{}",
            '{"id":1,"method":"pay"}',
            '{"id":1,"method":"x","params":{}}',
            deep,
        ):
            assert (await ask(nonsense))["error"]["code"] == "request"
        hello = {"id": 1, "method": "hello", "params": {"owner": alice.address}}
        for wrong in ({}, {"owner": "0x1"}, {"owner": 5}):
            assert (await ask(json.dumps(hello | {"params": wrong})))["error"]["code"] == "request"
        for session_id in (None, "guess", 5):
            answer = await ask(json.dumps(hello | {"params": {"owner": alice.address, "session": session_id}}))
            assert answer["result"]["sync"] is None
        signature = "0x" + "11" * 64 + "1b"
        login = {"id": 2, "method": "login", "params": {"signature": signature}}
        assert (await ask(json.dumps(login)))["error"]["code"] == "signature"
        for method in ("sync", "route", "pay", "withdraw", "finish", "close", "credited"):
            params: dict[str, Any] = {
                "to": alice.address,
                "value": "1",
                "nonce": 1,
                "order": "0x" + "00" * 32,
                "amount": "1",
            }
            params |= {"signature": signature, "total": "1", "sent": "0", "received": "0"}
            assert (await ask(json.dumps({"id": 3, "method": method, "params": params})))["error"]["code"] == "login"


@pytest.mark.timeout(300)  # five starts
@pytest.mark.usefixtures("whole_starts")
async def test_the_command_line_deploys_serves_and_stops(anvil: Any, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    common = ("--l1", anvil.http, "--key-file", str(key_file), "--json")
    deployed = await run_hub(*common, "--deploy", "--window", "60")
    contract = await read_line(deployed)
    await deployed.communicate()
    assert deployed.returncode == 0
    assert contract["challengeWindow"] == 60
    hub = await run_hub(*common, "--gateway", contract["gateway"], "--data", str(tmp_path / "d"), "--port", "0")
    ready = await read_line(hub)
    assert ready["ready"] is True
    assert ready["url"].startswith("ws://127.0.0.1:")
    second = await refused(*common, "--gateway", contract["gateway"], "--data", str(tmp_path / "d"), "--port", "0")
    assert "does another hub run on it?" in second
    hub.terminate()
    await asyncio.wait_for(hub.communicate(), 60)
    assert hub.returncode == 0
    other = tmp_path / "other"
    other.write_text("11" * 32)
    elsewhere = (
        "--l1",
        anvil.http,
        "--key-file",
        str(other),
        "--gateway",
        contract["gateway"],
        "--data",
        str(tmp_path / "e"),
    )
    assert "belongs to the hub" in await refused(*elsewhere)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--l1", "/nowhere.ipc", "--key-file", "KEY", "--gateway", CONTRACT, "--data", "D"),
            "the node does not answer",
        ),
        (("--l1", "/nowhere.ipc", "--key-file", "/nowhere"), "cannot be read"),
        (("--l1", "/nowhere.ipc", "--key-file", "BAD"), "does not hold 32 bytes"),
        (("--l1", "/nowhere.ipc", "--key-file", "KEY"), "--gateway and --data are needed"),
        (("--l1", "/nowhere.ipc", "--key-file", "KEY", "--gateway", "0x1", "--data", "D"), "is not an address"),
    ],
)
async def test_mistakes_of_the_operator_are_one_sentence(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("11" * 32)
    (tmp_path / "bad").write_text("nonsense")
    places = {"KEY": str(tmp_path / "key"), "BAD": str(tmp_path / "bad"), "D": str(tmp_path / "d")}
    said = await refused(*(places.get(option, option) for option in options))
    assert message in said
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "1111111111" not in said


async def refused(*options: str) -> str:
    """Run the hub, expect exit status 1, return what it said."""
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "plugins.paychan.hub", *options, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 1
    return said.decode()
