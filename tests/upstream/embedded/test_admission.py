"""Which signed transactions are taken: every type, and go-ethereum's words for what is not."""

from __future__ import annotations

from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

from proxy.upstream.embedded.node import Node
from tests.upstream.embedded.conftest import ETHER, GWEI, OTHER, OWNER, Rpc, asking, sign

SOMEBODY = "0x" + "5e" * 20
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"gasPrice": 2 * GWEI}, "0x0"),
        ({"gasPrice": 2 * GWEI, "accessList": []}, "0x1"),
        ({}, "0x2"),
        ({"accessList": [{"address": SOMEBODY, "storageKeys": ["0x" + "00" * 32]}], "gas": 60_000}, "0x2"),
    ],
)
async def test_every_type_is_mined_and_read_back(rpc: Rpc, fields: dict[str, Any], kind: str) -> None:
    raw = sign(nonce=0, to=SOMEBODY, value=7, **fields)
    receipt = await rpc.mined(raw)
    transaction = await rpc.result("eth_getTransactionByHash", receipt["transactionHash"])
    assert receipt["type"] == transaction["type"] == kind
    assert receipt["transactionHash"] == "0x" + keccak(bytes.fromhex(raw[2:])).hex()
    assert await rpc.result("eth_getRawTransactionByHash", receipt["transactionHash"]) == raw
    assert transaction["chainId"] == "0x539"
    assert ("yParity" in transaction) == (kind != "0x0")
    paid = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    left = int(await rpc.result("eth_getBalance", OWNER.address, "latest"), 16)
    assert left == 10_000 * ETHER - 7 - paid


async def test_a_delegation_is_set_and_read_back(rpc: Rpc) -> None:
    authorization = OTHER.sign_authorization({"chainId": 1337, "address": SOMEBODY, "nonce": 0})
    receipt = await rpc.mined(sign(nonce=0, to=OTHER.address, gas=100_000, authorizationList=[authorization]))
    transaction = await rpc.result("eth_getTransactionByHash", receipt["transactionHash"])
    assert (transaction["type"], receipt["status"]) == ("0x4", "0x1")
    assert transaction["authorizationList"][0]["address"] == SOMEBODY
    assert await rpc.result("eth_getCode", OTHER.address, "latest") == "0xef0100" + SOMEBODY[2:]


async def test_a_transaction_from_before_eip_155_is_taken(rpc: Rpc) -> None:
    """Deterministic deployers rest on such: one transaction valid on every chain."""
    unsigned = [0, 2 * GWEI, 21_000, bytes.fromhex(SOMEBODY[2:]), 1, b""]
    signature = PrivateKey(bytes(OWNER.key)).sign_msg_hash(keccak(rlp.encode(unsigned)))
    raw = rlp.encode([*unsigned, signature.v + 27, signature.r, signature.s])
    receipt = await rpc.mined("0x" + raw.hex())
    transaction = await rpc.result("eth_getTransactionByHash", receipt["transactionHash"])
    assert transaction["from"] == OWNER.address.lower()
    assert transaction["v"] in ("0x1b", "0x1c")
    assert "chainId" not in transaction


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": 10_000 * ETHER}, "insufficient funds for gas * price + value: balance"),
        ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas": 30_000_001}, "exceeds block gas limit: gas 30000001, block gas limit 30000000"),
        ({"data": b"\xff" * 100, "gas": 24_000}, "intrinsic gas too low: gas 24000, minimum needed 25000"),
        (
            {"to": None, "data": b"\x00" * 49_153, "gas": 9_000_000},
            "max initcode size exceeded: code size 49153 limit 49152",
        ),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, "max fee per gas less than block base fee: address 0xf39fd6"),
        ({"gasPrice": 1}, "max fee per gas less than block base fee: address 0xf39fd6"),
        (
            {"maxFeePerGas": GWEI, "maxPriorityFeePerGas": 2 * GWEI},
            "max priority fee per gas higher than max fee per gas",
        ),
        ({"chainId": 1}, "invalid chain id for signer: have 1 want 1337"),
        ({"chainId": 1, "gasPrice": 2 * GWEI}, "invalid chain id for signer: have 1 want 1337"),
    ],
)
async def test_refusals_in_go_ethereums_words(rpc: Rpc, fields: dict[str, Any], message: str) -> None:
    error = await rpc.error("eth_sendRawTransaction", sign(**({"nonce": 0, "to": SOMEBODY} | fields)))
    assert error["code"] == -32000
    assert error["message"].startswith(message)
    assert await rpc.result("eth_blockNumber") == "0x0"
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "pending") == "0x0"


async def test_nonces_and_repetitions(rpc: Rpc) -> None:
    raw = sign(nonce=0, to=SOMEBODY, value=1)
    await rpc.mined(raw)
    assert await rpc.error("eth_sendRawTransaction", raw) == {"code": -32000, "message": "already known"}
    again = await rpc.error("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY, value=2))
    assert again == {"code": -32000, "message": "nonce too low: next nonce 1, tx nonce 0"}


async def test_an_account_without_funds_is_told_so(rpc: Rpc) -> None:
    error = await rpc.error("eth_sendRawTransaction", sign(Account.create(), nonce=0, to=SOMEBODY, value=1))
    assert error["message"].startswith("insufficient funds for gas * price + value: balance 0, tx cost")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("0x", -32602),
        ("0x00", -32602),
        ("0xc0", -32602),
        ("0x02", -32602),
        ("0x02c0", -32602),
        ("0x01f8", -32602),
        ("0xf86c", -32602),
        ("0x04c0", -32602),
        ("0xff" * 1, -32602),
        ("0x03f8", -32000),
        ("0x7f00", -32000),
        ("0x80", -32000),
        ("1234", -32602),
    ],
)
async def test_what_is_no_transaction(rpc: Rpc, raw: str, code: int) -> None:
    assert (await rpc.error("eth_sendRawTransaction", raw))["code"] == code


def spoiled(position: int, change: Any) -> str:
    """Sign a legacy transaction and change one of its fields afterwards."""
    raw = bytes.fromhex(sign(nonce=0, to=SOMEBODY, value=1, gasPrice=2 * GWEI)[2:])
    fields = rlp.decode(raw)
    fields[position] = change(int.from_bytes(fields[position], "big"))
    return "0x" + bytes(rlp.encode(fields)).hex()


@pytest.mark.parametrize(
    ("position", "change"),
    [
        (8, lambda s: CURVE_ORDER - s),
        (8, lambda s: 0),
        (7, lambda r: 0),
        (7, lambda r: CURVE_ORDER),
        (6, lambda v: 5),
        (6, lambda v: 0),
    ],
)
async def test_signature_values_out_of_range(rpc: Rpc, position: int, change: Any) -> None:
    error = await rpc.error("eth_sendRawTransaction", spoiled(position, change))
    assert error == {"code": -32000, "message": "invalid transaction v, r, s values"}


async def test_a_signature_that_recovers_nobody(rpc: Rpc) -> None:
    # 5 is the abscissa of no point of the curve.
    assert "invalid sender" in (await rpc.error("eth_sendRawTransaction", spoiled(7, lambda r: 5)))["message"]


async def test_every_byte_flipped_is_refused_or_another_senders(node: Node) -> None:
    raw = bytes.fromhex(sign(nonce=0, to=SOMEBODY, value=1)[2:])
    rpc = asking(node)
    for position in range(len(raw)):
        for bit in (1, 0x80):
            changed = raw[:position] + bytes([raw[position] ^ bit]) + raw[position + 1 :]
            error = await rpc.error("eth_sendRawTransaction", "0x" + changed.hex())
            assert error["code"] in (-32602, -32000), (position, error)
