"""Blocks hold together: hashes are those of the fields shown, parents link, roots are those of the contents."""

from __future__ import annotations

from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

from tests.upstream.embedded.conftest import ETHER, OTHER, OWNER, Probe, Rpc, sign

SOMEBODY = "0x" + "5e" * 20

# The order of a Prague header; quantities lose leading zeros in RLP, data keeps its bytes.
HEADER = [
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
]
QUANTITIES = [
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
]


def raw(name: str, value: str) -> bytes:
    if name not in QUANTITIES:
        return bytes.fromhex(value[2:])
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def root(items: list[bytes]) -> str:
    """Hash items as the trie of a block does."""
    tree = HexaryTrie({})
    for index, item in enumerate(items):
        tree[rlp.encode(index)] = item
    return "0x" + tree.root_hash.hex()


async def blocks(rpc: Rpc, full: bool = True) -> list[dict[str, Any]]:
    newest = int(await rpc.result("eth_blockNumber"), 16)
    return [await rpc.result("eth_getBlockByNumber", hex(n), full) for n in range(newest + 1)]


@pytest.fixture
async def contract(rpc: Rpc, probe: Probe) -> str:
    """A Probe after a few transactions, some of them in one block."""
    address = str((await rpc.mined(sign(nonce=0, to=None, gas=900_000, data=probe.bytecode)))["contractAddress"])
    await rpc.result("evm_setAutomine", False)
    await rpc.result("eth_sendRawTransaction", sign(nonce=1, to=SOMEBODY, value=ETHER))
    await rpc.result("eth_sendRawTransaction", sign(nonce=2, to=address, gas=200_000, data=probe.store(5)))
    await rpc.result(
        "eth_sendRawTransaction", sign(OTHER, nonce=0, to=address, gas=200_000, value=9, data=probe.store(6))
    )
    await rpc.result("evm_mine")
    await rpc.result("evm_setAutomine", True)
    await rpc.result("evm_mine")
    return address


async def test_hashes_are_those_of_the_fields(rpc: Rpc, contract: str) -> None:
    parent = "0x" + "00" * 32
    previous = -1
    for number, block in enumerate(await blocks(rpc)):
        header = [raw(name, block[name]) for name in HEADER]
        assert block["hash"] == "0x" + keccak(rlp.encode(header)).hex()
        assert (block["parentHash"], int(block["number"], 16)) == (parent, number)
        assert int(block["timestamp"], 16) > previous
        assert await rpc.result("eth_getBlockByHash", block["hash"], True) == block
        parent, previous = block["hash"], int(block["timestamp"], 16)


async def test_roots_blooms_and_gas_are_those_of_the_contents(rpc: Rpc, contract: str) -> None:
    counts = []
    for block in await blocks(rpc):
        hashes = [transaction["hash"] for transaction in block["transactions"]]
        encoded = [bytes.fromhex((await rpc.result("eth_getRawTransactionByHash", one))[2:]) for one in hashes]
        assert block["transactionsRoot"] == root(encoded)
        receipts = await rpc.result("eth_getBlockReceipts", block["hash"])
        assert [await rpc.result("eth_getTransactionReceipt", one) for one in hashes] == receipts
        assert block["receiptsRoot"] == root([encoded_receipt(receipt) for receipt in receipts])
        bloom = 0
        for receipt in receipts:
            bloom |= int(receipt["logsBloom"], 16)
        assert int(block["logsBloom"], 16) == bloom
        assert int(block["gasUsed"], 16) == sum(int(receipt["gasUsed"], 16) for receipt in receipts)
        indices = [int(log["logIndex"], 16) for receipt in receipts for log in receipt["logs"]]
        assert indices == list(range(len(indices)))
        counts.append(len(hashes))
    assert counts == [0, 1, 3, 0]


def encoded_receipt(receipt: dict[str, Any]) -> bytes:
    logs = [
        [
            bytes.fromhex(log["address"][2:]),
            [bytes.fromhex(topic[2:]) for topic in log["topics"]],
            bytes.fromhex(log["data"][2:]),
        ]
        for log in receipt["logs"]
    ]
    bloom = bytes.fromhex(receipt["logsBloom"][2:])
    body = rlp.encode([int(receipt["status"], 16), int(receipt["cumulativeGasUsed"], 16), bloom, logs])
    kind = int(receipt["type"], 16)
    return (bytes([kind]) if kind else b"") + bytes(body)


async def test_money_is_neither_made_nor_lost(rpc: Rpc, contract: str) -> None:
    holders = (OWNER.address, OTHER.address, SOMEBODY, contract, "0x" + "00" * 20)
    held = sum([int(await rpc.result("eth_getBalance", holder, "latest"), 16) for holder in holders])
    burnt = sum(int(block["baseFeePerGas"], 16) * int(block["gasUsed"], 16) for block in await blocks(rpc))
    assert held + burnt == 20_000 * ETHER


async def test_proofs_lead_from_the_roots_to_the_values(rpc: Rpc, contract: str) -> None:
    state = (await rpc.result("eth_getBlockByNumber", "latest", False))["stateRoot"]
    absent = "0x" + "07" * 32
    for account, slots in ((contract, ["0x0", absent]), (OWNER.address, [absent]), ("0x" + "99" * 20, [absent])):
        proof = await rpc.result("eth_getProof", account, slots, "latest")
        leaf = from_proof(state, bytes.fromhex(account[2:]), proof["accountProof"])
        fields = [int(proof["nonce"], 16), int(proof["balance"], 16)]
        hashes = [bytes.fromhex(proof[name][2:]) for name in ("storageHash", "codeHash")]
        assert leaf == (b"" if account == "0x" + "99" * 20 else rlp.encode([*fields, *hashes]))
        for entry, slot in zip(proof["storageProof"], slots, strict=True):
            assert int(entry["key"], 16) == int(slot, 16)
            word = from_proof(proof["storageHash"], int(slot, 16).to_bytes(32, "big"), entry["proof"])
            value = int(entry["value"], 16)
            assert word == (rlp.encode(value) if value else b"")
            assert value == int(await rpc.result("eth_getStorageAt", account, slot, "latest"), 16)


def from_proof(state_root: str, key: bytes, nodes: list[str]) -> bytes:
    decoded = [rlp.decode(bytes.fromhex(node[2:])) for node in nodes]
    if not decoded:
        assert state_root == "0x" + keccak(rlp.encode(b"")).hex()
        return b""
    found = HexaryTrie.get_from_proof(bytes.fromhex(state_root[2:]), keccak(key), decoded)  # type: ignore[no-untyped-call]
    return bytes(found)


async def test_blocks_are_named_in_every_way(rpc: Rpc, contract: str) -> None:
    newest = await rpc.result("eth_getBlockByNumber", "latest", False)
    first = await rpc.result("eth_getBlockByNumber", "earliest", False)
    for name in ("latest", "safe", "finalized", newest["number"]):
        assert await rpc.result("eth_getBlockByNumber", name, False) == newest
    now = await rpc.result("eth_getBalance", OWNER.address, "latest")
    for ref in (newest["hash"], {"blockHash": newest["hash"]}, {"blockNumber": newest["number"]}, "pending", None):
        assert await rpc.result("eth_getBalance", OWNER.address, ref) == now
    assert await rpc.result("eth_getBalance", OWNER.address, first["hash"]) == hex(10_000 * ETHER)
    for missing in ("0x63", "0x" + "11" * 32, {"blockHash": "0x" + "11" * 32}):
        for method, params in (
            ("eth_getBalance", [OWNER.address]),
            ("eth_getTransactionCount", [OWNER.address]),
            ("eth_getCode", [contract]),
            ("eth_getStorageAt", [contract, "0x0"]),
            ("eth_getProof", [contract, []]),
            ("eth_call", [{"to": contract}]),
            ("eth_estimateGas", [{"to": contract}]),
        ):
            assert await rpc.error(method, *params, missing) == {"code": -32000, "message": "header not found"}
    assert await rpc.result("eth_getBlockReceipts", "0x63") is None
    assert await rpc.result("eth_getBlockTransactionCountByHash", "0x" + "11" * 32) is None


async def test_a_contract_reads_older_block_hashes(rpc: Rpc, contract: str, probe: Probe) -> None:
    await rpc.result("anvil_mine", "0x104")
    newest = int(await rpc.result("eth_blockNumber"), 16)
    for back, known in ((1, True), (255, True), (256, True), (257, False), (0, False)):
        code = f"0x61{newest - back:04x}4060005260206000f3"
        seen = await rpc.result("eth_call", {"data": code}, "latest")
        expected = (
            (await rpc.result("eth_getBlockByNumber", hex(newest - back), False))["hash"] if known else "0x" + "00" * 32
        )
        assert seen == expected, back
