"""The method table: deny by default, and no spelling reaches a signer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.methods import EMPTY_FOR_STRANGERS, HANDSHAKE, OWN, PASSED, MethodClass, MethodTable

PASS, BLOCKED, UNKNOWN = MethodClass.PASS, MethodClass.BLOCKED, MethodClass.UNKNOWN
EVERYTHING = [
    "debug_*",
    "txpool_*",
    "admin_*",
    "personal_*",
    "engine_*",
    "miner_*",
    "eth_*",
    "l2_*",
    "wallet_*",
    "foo_*",
]


@pytest.mark.parametrize(
    "method",
    ["eth_call", "eth_somethingNew", "net_version", "web3_sha3", "eth_sendRawTransaction", "eth_sendUserOperation"],
)
def test_the_three_namespaces_pass(method: str) -> None:
    assert MethodTable().classify(method) is PASS


@pytest.mark.parametrize(
    "method",
    [
        *("eth_sign", "eth_signTransaction", "eth_signTypedData", "eth_signTypedData_v3", "eth_signUserOperation"),
        *("eth_sendTransactionSync", "eth_sendUnsignedTransaction", "eth_sendPrivateTransaction", "eth_sendBundle"),
        *("eth_resend", "eth_decrypt", "eth_getEncryptionPublicKey", "eth_coinbase", "eth_sendUserOperationX"),
        *("personal_unlockAccount", "personal_importRawKey", "admin_exportChain", "engine_newPayloadV4", "miner_start"),
        *("debug_setHead", "debug_chaindbCompact", "debug_chaindbProperty", "debug_startCPUProfile", "debug_goTrace"),
        *("debug_writeMemProfile", "debug_startGoTrace", "debug_stopGoTrace", "debug_traceBlockToFile"),
        *("debug_standardTraceBlockToFile", "foo_signTransaction", "foo_sendTransaction", "foo_unlockAccount"),
    ],
)
def test_what_signs_is_blocked_whatever_the_config_says(method: str) -> None:
    for table in (MethodTable(), MethodTable(EVERYTHING, dev=True), MethodTable([*EVERYTHING, method], dev=True)):
        for spelled in (method, method.upper(), method.title(), method.swapcase()):
            assert table.classify(spelled) is BLOCKED, spelled
            assert not table.is_read(spelled)


@pytest.mark.parametrize("method", ["l2_nothing", "wallet_nothing", "rpc.nothing", "rpc.", "wallet_sendCalls"])
def test_unknown_names_in_our_namespaces(method: str) -> None:
    assert MethodTable(EVERYTHING, dev=True).classify(method) is UNKNOWN


@pytest.mark.parametrize(
    "method",
    [
        "",
        "eth",
        "eth_",
        "ETH_chainId",
        "Eth_call",
        "eth_call ",
        " eth_call",
        "eth_call\n",
        "eth_ca\x00ll",
        "eth_café",
        "foo_bar",
    ],
)
def test_everything_else_is_blocked(method: str) -> None:
    assert MethodTable().classify(method) is BLOCKED


def test_rows_of_the_config() -> None:
    table = MethodTable(["debug_traceTransaction", "txpool_*"])
    assert table.classify("debug_traceTransaction") is PASS
    assert table.classify("debug_traceCall") is BLOCKED
    assert table.classify("txpool_content") is PASS
    assert not table.is_read("txpool_content")


def test_developers_namespaces_only_with_dev() -> None:
    for method in ("evm_mine", "anvil_setBalance", "hardhat_reset", "debug_traceCall", "txpool_status"):
        assert MethodTable().classify(method) is BLOCKED
        assert MethodTable(dev=True).classify(method) is PASS
        assert not MethodTable(dev=True).is_read(method)


def test_read_is_pass_without_sends() -> None:
    table = MethodTable()
    assert table.is_read("eth_call")
    assert not table.is_read("eth_sendRawTransaction")
    assert not any(table.is_read(method) for method in OWN)


def test_the_named_sets_stand_in_the_table() -> None:
    table = MethodTable()
    assert all(table.classify(method) is PASS for method in PASSED)
    assert set(table.names()) >= HANDSHAKE | EMPTY_FOR_STRANGERS
    assert {table.classify(method) for method in OWN} <= {
        MethodClass.SERVED,
        MethodClass.RESTRICTED,
        MethodClass.APPROVAL,
    }


@given(st.text(max_size=40) | st.from_regex(r"(?i)(eth|debug|personal|wallet)_[a-z]{1,20}", fullmatch=True))
def test_any_text_has_a_class_and_pass_never_signs(method: str) -> None:
    kind = MethodTable(EVERYTHING, dev=True).classify(method)
    folded = method.lower()
    if kind is PASS:
        assert method.isascii()
        assert "_sign" not in folded
        assert not folded.startswith(("personal_", "wallet_", "l2_", "admin_", "engine_", "miner_"))
        assert not folded.startswith("eth_send") or folded.startswith(("eth_sendraw", "eth_senduser"))
