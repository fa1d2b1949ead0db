"""One nonce sequence, bytes on disk before the node sees them, nothing sent twice, nothing sent late."""

from __future__ import annotations

import asyncio

import pytest

from middleware.errors import Disconnected, InvalidParams, RpcError, Unauthorized
from proxy.storage import Database
from proxy.wallet.fees import Wanted
from proxy.wallet.keyring import Keyring
from proxy.wallet.ledger import Ledger
from proxy.wallet.transactions import Expired, Transactions
from tests.wallet.conftest import OWNER
from tests.wallet.fake_chain import BASE_FEE, GAS_USED, FakeChain, gone

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ETHER = 10**18


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database.space("nonces"))


@pytest.fixture
def transactions(chain: FakeChain, keyring: Keyring, ledger: Ledger) -> Transactions:
    return Transactions(chain, keyring, ledger)


async def test_a_transfer_moves_exactly_its_value_and_fee(transactions: Transactions, chain: FakeChain) -> None:
    prepared = await transactions.prepare(OWNER, OTHER, 3 * ETHER + 1)
    sent = await transactions.execute(prepared)
    (mined,) = chain.executed()
    assert (mined.hash, mined.to, mined.value, mined.sender, mined.nonce) == (sent, OTHER, 3 * ETHER + 1, OWNER, 0)
    fee = GAS_USED * min(mined.max_fee, BASE_FEE + mined.tip)
    assert chain.balances[OWNER] == 97 * ETHER - 1 - fee
    assert chain.balances[OTHER] == 3 * ETHER + 1
    assert fee <= prepared.fee_bound


async def test_the_bounds_are_a_quarter_more_gas_and_twice_the_base_fee(transactions: Transactions) -> None:
    prepared = await transactions.prepare(OWNER, OTHER, data=b"\x01")
    assert (prepared.gas, prepared.max_fee, prepared.tip) == (62_500, 3 * 10**9, 10**9)
    assert prepared.cost_bound == 62_500 * 3 * 10**9


async def test_the_digest_binds_everything_that_runs(transactions: Transactions) -> None:
    digests = [
        (await transactions.prepare(OWNER, to, value, data, gas=gas, wanted=Wanted(max_fee=fee), nonce=nonce)).digest
        for to, value, data, gas, fee, nonce in [
            (OTHER, 1, b"", 50_000, 3 * 10**9, None),
            (OWNER, 1, b"", 50_000, 3 * 10**9, None),
            (OTHER, 2, b"", 50_000, 3 * 10**9, None),
            (OTHER, 1, b"\0", 50_000, 3 * 10**9, None),
            (OTHER, 1, b"", 50_001, 3 * 10**9, None),
            (OTHER, 1, b"", 50_000, 4 * 10**9, None),
            (OTHER, 1, b"", 50_000, 3 * 10**9, 0),
            (None, 1, b"", 50_000, 3 * 10**9, None),
        ]
    ]
    assert len(set(digests)) == len(digests)


async def test_concurrent_transactions_get_consecutive_nonces(transactions: Transactions, chain: FakeChain) -> None:
    chain.automine = False
    prepared = [await transactions.prepare(OWNER, OTHER, 1) for _ in range(20)]
    await asyncio.gather(*(transactions.execute(one) for one in prepared))
    assert sorted(sent.nonce for sent in chain.pool.values()) == list(range(20))


async def test_the_bytes_are_on_disk_before_the_node_sees_them(
    transactions: Transactions, chain: FakeChain, ledger: Ledger
) -> None:
    seen = []

    def before(method: str) -> None:
        if method == "eth_sendRawTransaction":
            seen.append(ledger.at(OWNER, 0))

    chain.before = before
    sent = await transactions.execute(await transactions.prepare(OWNER, OTHER, 1))
    assert [record.hash for record in seen if record is not None] == [sent]


async def test_not_sent_before_a_restart_is_dropped_and_its_nonce_used_again(
    transactions: Transactions, chain: FakeChain, keyring: Keyring, ledger: Ledger
) -> None:
    lost = await transactions.sign(await transactions.prepare(OWNER, OTHER, 5 * ETHER))
    restarted = Transactions(chain, keyring, ledger)
    await restarted.execute(await restarted.prepare(OWNER, OTHER, 1))
    (mined,) = chain.executed()
    assert (mined.nonce, mined.value) == (lost.nonce, 1)
    assert chain.calls.count("eth_sendRawTransaction") == 1


async def test_a_refused_transaction_gives_its_nonce_back(
    transactions: Transactions, chain: FakeChain, ledger: Ledger
) -> None:
    prepared = await transactions.prepare(OWNER, OTHER, 90 * ETHER)
    chain.balances[OWNER] = 5 * ETHER
    with pytest.raises(RpcError, match="insufficient funds"):
        await transactions.execute(prepared)
    assert list(ledger.of(OWNER)) == []
    await transactions.execute(await transactions.prepare(OWNER, OTHER, 1))
    assert [sent.nonce for sent in chain.executed()] == [0]


async def test_a_lost_connection_never_leads_to_two_payments(transactions: Transactions, chain: FakeChain) -> None:
    first = await transactions.prepare(OWNER, OTHER, 1 * ETHER)
    chain.refuse_calls["eth_sendRawTransaction"] = gone()
    with pytest.raises(Disconnected, match=r"whether transaction 0x[0-9a-f]{64} arrived is unknown"):
        await transactions.execute(first)
    chain.refuse_calls.clear()
    await transactions.execute(await transactions.prepare(OWNER, OTHER, 2 * ETHER))
    assert [(sent.nonce, sent.value) for sent in chain.executed()] == [(0, 2 * ETHER)]


async def test_one_that_arrived_although_the_answer_got_lost_keeps_its_nonce(
    transactions: Transactions, chain: FakeChain
) -> None:
    chain.automine = False

    def after(method: str) -> None:
        if method == "eth_sendRawTransaction":
            raise gone()

    chain.after = after
    with pytest.raises(Disconnected):
        await transactions.execute(await transactions.prepare(OWNER, OTHER, 1))
    chain.after = lambda _: None
    await transactions.execute(await transactions.prepare(OWNER, OTHER, 2))
    assert sorted((sent.nonce, sent.value) for sent in chain.pool.values()) == [(0, 1), (1, 2)]


async def test_sending_again_what_the_node_has_is_fine(transactions: Transactions, chain: FakeChain) -> None:
    signed = await transactions.sign(await transactions.prepare(OWNER, OTHER, 1))
    for _ in range(3):
        await transactions.send(signed)
    assert len(chain.executed()) == 1


async def test_the_nonce_of_an_operation_is_nobodys_else(
    transactions: Transactions, chain: FakeChain, keyring: Keyring, ledger: Ledger
) -> None:
    chain.automine = False
    operation = await transactions.sign(await transactions.prepare(OWNER, OTHER, 1), holder="op")
    restarted = Transactions(chain, keyring, ledger)
    with pytest.raises(InvalidParams, match="operation op"):
        await restarted.execute(await restarted.prepare(OWNER, OTHER, 2, nonce=operation.nonce))
    await restarted.execute(await restarted.prepare(OWNER, OTHER, 2))
    assert [sent.nonce for sent in chain.pool.values()] == [1]


async def test_a_lost_replacement_does_not_give_the_operations_nonce_away(
    transactions: Transactions, chain: FakeChain, keyring: Keyring, ledger: Ledger
) -> None:
    chain.automine = False
    operation = await transactions.sign(await transactions.prepare(OWNER, OTHER, 1), holder="op")
    await transactions.execute(await transactions.prepare(OWNER, OTHER, 2, nonce=0), operation)
    chain.pool.clear()  # the node forgets the dapp's
    restarted = Transactions(chain, keyring, ledger)
    await restarted.execute(await restarted.prepare(OWNER, OTHER, 3))
    assert [sent.nonce for sent in chain.pool.values()] == [1]
    assert restarted.held(OWNER, 0) == operation


async def test_a_nonce_of_the_past_is_refused(transactions: Transactions, chain: FakeChain) -> None:
    await transactions.execute(await transactions.prepare(OWNER, OTHER, 1))
    with pytest.raises(InvalidParams, match="nonce"):
        await transactions.prepare(OWNER, OTHER, 1, nonce=0)


async def test_too_poor_is_said_before_anybody_is_asked(transactions: Transactions, chain: FakeChain) -> None:
    with pytest.raises(
        RpcError, match=r"insufficient funds.* has 100 ETH, this takes up to 100\.0001875 ETH"
    ) as caught:
        await transactions.prepare(OWNER, OTHER, 100 * ETHER)
    assert caught.value.code == -32000


async def test_a_revert_is_the_nodes_own_error(transactions: Transactions, chain: FakeChain) -> None:
    chain.reverting.add(OTHER)
    with pytest.raises(RpcError, match="execution reverted") as caught:
        await transactions.prepare(OWNER, OTHER, 1)
    assert caught.value.code == 3


async def test_an_approval_that_came_too_late_sends_nothing(chain: FakeChain, keyring: Keyring, ledger: Ledger) -> None:
    now = [1000.0]
    transactions = Transactions(chain, keyring, ledger, clock=lambda: now[0])
    prepared = await transactions.prepare(OWNER, OTHER, 1)
    assert prepared.valid_until == 1600
    now[0] = 1601
    with pytest.raises(Expired):
        await transactions.execute(prepared)
    assert chain.executed() == []
    assert list(ledger.of(OWNER)) == []


async def test_locked_signs_nothing(transactions: Transactions, keyring: Keyring, chain: FakeChain) -> None:
    prepared = await transactions.prepare(OWNER, OTHER, 1)
    keyring.lock()
    with pytest.raises(Unauthorized, match="locked"):
        await transactions.execute(prepared)
    assert chain.executed() == []


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        (Wanted(gas_price=10**9, max_fee=10**9), "gasPrice"),
        (Wanted(max_fee=BASE_FEE - 1), "maxFeePerGas"),
        (Wanted(gas_price=BASE_FEE - 1), "gasPrice"),
        (Wanted(max_fee=2 * 10**9, tip=3 * 10**9), "maxPriorityFeePerGas"),
    ],
)
async def test_fees_that_cannot_be_are_refused(transactions: Transactions, wanted: Wanted, param: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        await transactions.prepare(OWNER, OTHER, 1, wanted=wanted)
    assert caught.value.data["param"] == param
