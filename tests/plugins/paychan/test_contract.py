"""PayChan on a real EVM: what each side can get out of it, and every forged, old, foreign or repeated signature."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from web3 import EthereumTesterProvider, Web3
from web3.logs import DISCARD

from tests.plugins.paychan.signing import sign, typed

FOLDER = Path("plugins/paychan/contract")
ARTEFACT = json.loads((FOLDER / "PayChan.json").read_text())
ETH = 10**18
WINDOW = 3600
NONE = bytes(32)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass
class World:
    """A chain with the contract, its hub, a user with a main and a state key, and a stranger."""

    w3: Web3
    tester: EthereumTester
    contract: Any
    hub: LocalAccount
    user: LocalAccount
    state: LocalAccount
    stranger: LocalAccount

    def send(self, who: LocalAccount, function: Any, value: int = 0) -> Any:
        """Send a call as `who`; a revert raises TransactionFailed."""
        tx = function.build_transaction(
            {
                "from": who.address,
                "value": value,
                "nonce": self.w3.eth.get_transaction_count(who.address),
                "gas": 900_000,
            }
        )
        sent = self.w3.eth.send_raw_transaction(who.sign_transaction(tx).raw_transaction)
        receipt = self.w3.eth.get_transaction_receipt(sent)
        if receipt["status"] != 1:
            function.call({"from": who.address, "value": value})  # raises with the reason
            raise AssertionError("a transaction failed whose call does not")
        return receipt

    def call(self, name: str, *args: Any) -> Any:
        return getattr(self.contract.functions, name)(*args)

    def deposit(self, value: int, who: LocalAccount | None = None, state: LocalAccount | None = None) -> bytes:
        owner = who or self.user
        self.send(owner, self.call("open", (state or self.state).address), value)
        return bytes(self.call("channelOf", owner.address).call())

    def signed(self, key: LocalAccount, kind: str, **message: Any) -> bytes:
        return sign(key, typed(kind, self.w3.eth.chain_id, self.contract.address, **message))

    def voucher(self, key: LocalAccount, channel: bytes, amount: int, nonce: int = 1) -> tuple[Any, ...]:
        signature = self.signed(
            key, "Voucher", channel=channel, payer=key.address, nonce=nonce, amount=amount, order=NONE
        )
        return channel, key.address, nonce, amount, NONE, signature

    def start_close(self, who: LocalAccount, channel: bytes, voucher: tuple[Any, ...] | None = None) -> None:
        given = voucher or (channel, self.hub.address, 0, 0, NONE, b"")
        self.send(who, self.call("startClose", *given))

    def pass_time(self, seconds: int) -> None:
        self.tester.time_travel(self.w3.eth.get_block("latest")["timestamp"] + seconds)

    def paid_out(self, receipt: Any) -> tuple[int, int]:
        (closed,) = self.contract.events.Closed().process_receipt(receipt, errors=DISCARD)
        return closed["args"]["toUser"], closed["args"]["toHub"]

    def sums(self, name: str) -> int:
        logs = getattr(self.contract.events, name)().get_logs(from_block=0)
        return sum(log["args"]["amount"] for log in logs if log["args"]["user"] == self.user.address)


@pytest.fixture(scope="module")
def chain() -> tuple[Web3, EthereumTester, list[LocalAccount]]:
    keys = [Account.from_key(bytes([index]) * 32) for index in range(1, 6)]
    tester = EthereumTester(backend=PyEVMBackend())
    w3 = Web3(EthereumTesterProvider(tester))
    for key in keys:
        tester.send_transaction(
            {"from": tester.get_accounts()[0], "to": key.address, "value": 1000 * ETH, "gas": 21_000}
        )
    return w3, tester, keys


@pytest.fixture
def world(chain: tuple[Web3, EthereumTester, list[LocalAccount]]) -> Iterator[World]:
    w3, tester, (hub, user, state, stranger, _) = chain
    before = tester.take_snapshot()
    factory = w3.eth.contract(abi=ARTEFACT["abi"], bytecode=ARTEFACT["bytecode"])
    tx = factory.constructor(hub.address, WINDOW).build_transaction(
        {"from": hub.address, "nonce": w3.eth.get_transaction_count(hub.address), "gas": 4_000_000}
    )
    receipt = w3.eth.get_transaction_receipt(w3.eth.send_raw_transaction(hub.sign_transaction(tx).raw_transaction))
    contract = w3.eth.contract(address=receipt["contractAddress"], abi=ARTEFACT["abi"])
    yield World(w3, tester, contract, hub, user, state, stranger)
    tester.revert_to_snapshot(before)


def test_the_artefact_is_what_the_source_compiles_to(node_modules: Path, tmp_path: Path) -> None:
    output = tmp_path / "again.json"
    node = shutil.which("node")
    assert node is not None
    subprocess.run([node, FOLDER / "compile.mjs", node_modules / "solc", output], check=True, timeout=100)
    assert output.read_text() == (FOLDER / "PayChan.json").read_text()


def test_cooperative_close_pays_what_both_signed_and_a_second_time_nothing(world: World) -> None:
    channel = world.deposit(10 * ETH)
    world.send(world.hub, world.call("fund", channel), 5 * ETH)
    final = {"channel": channel, "sent": 4 * ETH, "received": 1 * ETH}
    pair = world.signed(world.state, "Final", **final), world.signed(world.hub, "Final", **final)
    close = world.call("closeTogether", channel, 4 * ETH, 1 * ETH, *pair)
    before = world.w3.eth.get_balance(world.user.address)
    receipt = world.send(world.stranger, close)
    assert world.paid_out(receipt) == (7 * ETH, 8 * ETH)
    assert world.w3.eth.get_balance(world.user.address) == before + 7 * ETH
    again = world.send(world.user, close)
    assert not again["logs"]
    assert world.w3.eth.get_balance(world.contract.address) == 0


def test_a_close_that_one_side_did_not_sign_is_refused(world: World) -> None:
    channel = world.deposit(ETH)
    final = {"channel": channel, "sent": 0, "received": 0}
    user, hub = world.signed(world.state, "Final", **final), world.signed(world.hub, "Final", **final)
    forged = world.signed(world.stranger, "Final", **final)
    for pair in ((user, forged), (forged, hub), (hub, hub), (user, user)):
        with pytest.raises(TransactionFailed, match="did not sign this close"):
            world.send(world.user, world.call("closeTogether", channel, 0, 0, *pair))


def test_a_stale_close_is_answered_in_the_window(world: World) -> None:  # A1
    channel = world.deposit(10 * ETH)
    world.start_close(world.user, channel)  # as if nothing had been paid
    world.send(world.hub, world.call("answer", *world.voucher(world.state, channel, 6 * ETH, 2)))
    world.send(
        world.stranger, world.call("answer", *world.voucher(world.state, channel, 5 * ETH, 1))
    )  # lower: no effect
    with pytest.raises(TransactionFailed, match="window is still open"):
        world.send(world.user, world.call("settle", channel))
    world.pass_time(WINDOW)
    assert world.paid_out(world.send(world.stranger, world.call("settle", channel))) == (4 * ETH, 6 * ETH)
    assert not world.send(world.user, world.call("settle", channel))["logs"]  # A18


def test_an_answer_after_the_window_is_too_late(world: World) -> None:
    channel = world.deposit(10 * ETH)
    world.start_close(world.user, channel)
    world.pass_time(WINDOW)
    with pytest.raises(TransactionFailed, match="window is over"):
        world.send(world.hub, world.call("answer", *world.voucher(world.state, channel, ETH)))


def test_what_the_hub_paid_comes_out_of_its_collateral_only(world: World) -> None:
    channel = world.deposit(1 * ETH)
    world.send(world.hub, world.call("fund", channel), 2 * ETH)
    world.start_close(world.user, channel, world.voucher(world.hub, channel, 50 * ETH))
    world.pass_time(WINDOW)
    assert world.paid_out(world.send(world.user, world.call("settle", channel))) == (3 * ETH, 0)


def test_more_sent_than_deposited_gives_the_hub_all_and_no_more(world: World) -> None:  # A13
    channel = world.deposit(1 * ETH)
    other = world.deposit(5 * ETH, world.stranger, world.stranger)
    world.start_close(world.hub, channel, world.voucher(world.state, channel, 50 * ETH))
    world.pass_time(WINDOW)
    assert world.paid_out(world.send(world.user, world.call("settle", channel))) == (0, 1 * ETH)
    assert world.w3.eth.get_balance(world.contract.address) == 5 * ETH
    assert other != channel


def test_amounts_that_would_overflow_are_refused(world: World) -> None:  # A13
    channel = world.deposit(1 * ETH)
    world.start_close(world.user, channel)
    for amount in (2**128, 2**256 - 1):
        with pytest.raises(TransactionFailed, match="no such amount"):
            world.send(world.user, world.call("answer", *world.voucher(world.hub, channel, amount)))


def test_a_voucher_of_another_channel_contract_or_chain_is_refused(world: World) -> None:  # A7
    channel = world.deposit(1 * ETH)
    other = world.deposit(1 * ETH, world.stranger, world.stranger)
    world.start_close(world.user, channel)
    message = {"channel": channel, "payer": world.hub.address, "nonce": 1, "amount": 5, "order": NONE}
    chain_id, address = world.w3.eth.chain_id, world.contract.address
    foreign = [
        sign(world.hub, typed("Voucher", chain_id, address, **{**message, "channel": other})),
        sign(world.hub, typed("Voucher", chain_id, world.stranger.address, **message)),
        sign(world.hub, typed("Voucher", 1, address, **message)),
    ]
    for signature in foreign:
        with pytest.raises(TransactionFailed, match="did not sign this voucher"):
            world.send(world.user, world.call("answer", channel, world.hub.address, 1, 5, NONE, signature))
    good = sign(world.hub, typed("Voucher", chain_id, address, **message))
    world.send(world.user, world.call("answer", channel, world.hub.address, 1, 5, NONE, good))


def test_a_reopened_channel_has_another_id_and_old_vouchers_are_worth_nothing(world: World) -> None:  # A7
    first = world.deposit(1 * ETH)
    old = world.voucher(world.state, first, ETH)
    final = {"channel": first, "sent": 0, "received": 0}
    pair = world.signed(world.state, "Final", **final), world.signed(world.hub, "Final", **final)
    world.send(world.user, world.call("closeTogether", first, 0, 0, *pair))
    second = world.deposit(1 * ETH)
    assert second != first
    world.start_close(world.user, second)
    with pytest.raises(TransactionFailed, match="did not sign this voucher"):
        world.send(world.hub, world.call("answer", second, *old[1:]))
    with pytest.raises(TransactionFailed, match="did not sign this close"):
        world.send(world.hub, world.call("closeTogether", second, 0, 0, *pair))


def test_malleable_short_and_empty_signatures_are_refused(world: World) -> None:  # A8
    channel = world.deposit(1 * ETH)
    world.start_close(world.user, channel)
    good = world.voucher(world.hub, channel, 5)
    signature = good[-1]
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    high = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    compact = r + (s | ((v - 27) << 255)).to_bytes(32, "big")  # EIP-2098
    cases = {
        "malleable": [high, signature[:64] + bytes([v - 27]), signature[:64] + b"\x1d"],
        "65 bytes": [compact, b"", signature + b"\x00"],
        "nobody": [bytes(64) + b"\x1b"],
    }
    for message, signatures in cases.items():
        for bad in signatures:
            with pytest.raises(TransactionFailed, match=message):
                world.send(world.user, world.call("answer", *good[:-1], bad))
    world.send(world.user, world.call("answer", *good))


def test_a_withdrawal_pays_once_whoever_submits_it_and_only_in_time(world: World) -> None:  # A18, A22
    channel = world.deposit(10 * ETH)
    now = world.w3.eth.get_block("latest")["timestamp"]

    def withdrawal(total: int, deadline: int, key: LocalAccount) -> Any:
        signature = world.signed(key, "Withdrawal", channel=channel, total=total, deadline=deadline)
        return world.call("withdraw", channel, total, deadline, signature)

    before = world.w3.eth.get_balance(world.user.address)
    first = withdrawal(3 * ETH, now + 1000, world.hub)
    world.send(world.stranger, first)
    world.send(world.stranger, first)
    assert world.w3.eth.get_balance(world.user.address) == before + 3 * ETH
    world.send(world.stranger, withdrawal(4 * ETH, now + 1000, world.hub))
    assert world.w3.eth.get_balance(world.user.address) == before + 4 * ETH
    with pytest.raises(TransactionFailed, match="hub did not sign"):
        world.send(world.user, withdrawal(5 * ETH, now + 1000, world.state))
    with pytest.raises(TransactionFailed, match="more than the channel holds"):
        world.send(world.user, withdrawal(11 * ETH, now + 1000, world.hub))
    world.pass_time(2000)
    with pytest.raises(TransactionFailed, match="expired"):
        world.send(world.user, withdrawal(6 * ETH, now + 1000, world.hub))


def test_locked_ends_at_zero_whatever_the_user_won_or_lost(world: World) -> None:
    channel = world.deposit(10 * ETH)
    world.send(world.hub, world.call("fund", channel), 5 * ETH)
    now = world.w3.eth.get_block("latest")["timestamp"]
    signature = world.signed(world.hub, "Withdrawal", channel=channel, total=2 * ETH, deadline=now + 1000)
    world.send(world.user, world.call("withdraw", channel, 2 * ETH, now + 1000, signature))
    assert world.sums("Deposited") - world.sums("Released") == 8 * ETH
    world.start_close(world.hub, channel, world.voucher(world.state, channel, 3 * ETH))
    world.pass_time(WINDOW)
    world.send(world.hub, world.call("settle", channel))
    assert world.sums("Deposited") - world.sums("Released") == 0
    assert world.sums("Withdrawn") == 7 * ETH


def test_who_may_do_what(world: World) -> None:
    channel = world.deposit(1 * ETH)
    with pytest.raises(TransactionFailed, match="only the hub funds"):
        world.send(world.user, world.call("fund", channel), 1)
    with pytest.raises(TransactionFailed, match="only owner, signer or hub"):
        world.start_close(world.stranger, channel)
    with pytest.raises(TransactionFailed, match="another signer"):
        world.send(world.user, world.call("open", world.stranger.address), 1)
    with pytest.raises(TransactionFailed, match="user's own key"):
        world.send(world.stranger, world.call("open", world.hub.address), 1)
    world.start_close(world.hub, channel)
    with pytest.raises(TransactionFailed, match="closing"):
        world.send(world.user, world.call("open", world.state.address), 1)
    with pytest.raises(TransactionFailed, match="no side of the channel"):
        world.send(world.stranger, world.call("answer", *world.voucher(world.stranger, channel, 1)))


def test_an_owner_who_refuses_money_blocks_nobody(world: World) -> None:  # A17
    # An owner contract: its constructor opens a channel (selector and signer appended), afterwards it reverts on everything.
    opening = bytes.fromhex(world.contract.encode_abi("open", [world.state.address])[2:])
    target = bytes.fromhex(world.contract.address[2:])
    code = bytes.fromhex("6024602d6000396000600060246000600073") + target
    code += bytes.fromhex("5af150" + "6460006000fd6000526005601bf3")
    prefix = len(code)
    code = code.replace(bytes.fromhex("6024602d6000"), bytes([0x60, 0x24, 0x60, prefix, 0x60, 0x00]), 1) + opening
    tx: Any = {"data": code, "gas": 1_000_000, "value": 0, "chainId": world.w3.eth.chain_id, "gasPrice": 10**10}
    tx["nonce"] = world.w3.eth.get_transaction_count(world.stranger.address)
    sent = world.w3.eth.send_raw_transaction(world.stranger.sign_transaction(tx).raw_transaction)
    owner = world.w3.eth.get_transaction_receipt(sent)["contractAddress"]
    channel = bytes(world.call("channelOf", owner).call())
    assert channel != NONE, "the owner contract did not open a channel"
    world.send(world.hub, world.call("fund", channel), 3 * ETH)
    world.start_close(world.state, channel, world.voucher(world.hub, channel, ETH))
    world.pass_time(WINDOW)
    assert world.paid_out(world.send(world.hub, world.call("settle", channel))) == (ETH, 2 * ETH)
    assert world.call("owed", owner).call() == ETH
