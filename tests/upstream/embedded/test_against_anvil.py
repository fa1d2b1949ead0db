"""The same jobs on the embedded L1 and on a real anvil, answers compared member by member.

Both run the same signed transactions, so most values must be equal; where they may not be (hashes, times), the kind must be. What differs
deliberately stands in DIFFERENCES with its reason, and a difference listed there that no longer exists fails too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.upstream.embedded.conftest import ETHER, GWEI, OTHER, OWNER, Probe, Rpc, sign

pytestmark = pytest.mark.node

SOMEBODY = "0x" + "5e" * 20

# Values that belong to one chain: its times, and all that hashes them.
OWN_VALUES = re.compile(
    r"(^|\.)(hash|parentHash|blockHash|stateRoot|mixHash|extraData|timestamp|blockTimestamp|size|parentBeaconBlockRoot)$"
)

# what differs, as a pattern over "job.member how" -> why the embedded L1 answers otherwise
DIFFERENCES: dict[str, str] = {
    r"^.*\.totalDifficulty missing$": "left the specification with the merge",
    r"^receipts? .*\.(blobGasPrice|blockTimestamp) missing$": "the specification has them for blob transactions, or not at all",
    r"^(block|receipts|transaction at) (safe|finalized)": "final at once, as on geth --dev; anvil counts 32 and 64 blocks back",
    r"^genesis\.result\.(extraData|baseFeePerGas) differs$": "random bytes tell one chain from the next; anvil's fee option counts there too",
    r"^(long )?history.*\.(reward missing|baseFeePerGas differs)$": "no rewards asked, none told, as geth; the genesis fee as above",
    r"^count in missing block": "null, as geth: what does not exist is no error",
    r"^[^.]+\.message differs$": "wording is go-ethereum's",
    r"^(accounts on missing block|bad raw|no funds|nonce too low|other chain|invalid opcode|out of gas)\.code differs$": (
        "go-ethereum's general code -32000"
    ),
    r"^proof\.result\.": "anvil's storage trie holds zeros that were written; test_accounts proves ours against its root",
    r"^method unknown\.code differs$": "rpc.md: 4200 for a method not served",
}


def kind(value: object) -> str:
    """Name the kind of a JSON leaf: its type, and for hex whether it is a quantity or data of a fixed length."""
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-f]*", value):
        return type(value).__name__
    digits = len(value) - 2
    if digits in (16, 40, 64, 512):
        return f"{digits // 2} bytes"
    return "quantity" if re.fullmatch(r"0x(0|[1-9a-f][0-9a-f]*)", value) else "data"


def differences(path: str, ours: object, theirs: object) -> Iterator[str]:
    """Yield every path at which two answers differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs:
                yield f"{path}.{name} {'missing' if name not in ours else 'extra'}"
            else:
                yield from differences(f"{path}.{name}", ours[name], theirs[name])
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{path} length"
        for mine, other in zip(ours, theirs, strict=False):
            yield from differences(path, mine, other)
    elif ours != theirs and not (OWN_VALUES.search(path) and kind(ours) == kind(theirs)):
        yield f"{path} differs"


async def history(rpc: Rpc, probe: Probe) -> dict[str, str]:
    """Run one transaction of every kind; returns their hashes and the contract's address."""
    deploy = await rpc.mined(sign(nonce=0, to=None, gas=900_000, gasPrice=2 * GWEI, value=5, data=probe.bytecode))
    contract = deploy["contractAddress"]
    accesses = [{"address": contract, "storageKeys": ["0x" + "00" * 32]}]
    raw = {
        "transfer": sign(nonce=1, to=SOMEBODY, value=ETHER),
        "accesses": sign(
            nonce=2, to=contract, gas=200_000, gasPrice=3 * GWEI, value=9, data=probe.store(5), accessList=accesses
        ),
        "store": sign(nonce=3, to=contract, gas=200_000, data=probe.store(6)),
        "revert": sign(nonce=4, to=contract, gas=100_000, data=probe.call("failReason")),
        "other": sign(OTHER, nonce=0, to=contract, gas=200_000, data=probe.store(7), accessList=accesses),
    }
    hashes = {name: (await rpc.mined(value))["transactionHash"] for name, value in raw.items()}
    return hashes | {"deploy": deploy["transactionHash"], "contract": contract}


def jobs(made: dict[str, str], probe: Probe) -> dict[str, tuple[Any, ...]]:
    """List the questions asked of both nodes by name."""
    contract, owner, stored = made["contract"], OWNER.address, "0x" + f"{6:064x}"
    listed: dict[str, tuple[Any, ...]] = {
        "chain id": ("eth_chainId",),
        "network": ("net_version",),
        "listening": ("net_listening",),
        "syncing": ("eth_syncing",),
        "sha3": ("web3_sha3", "0x68656c6c6f"),
        "number": ("eth_blockNumber",),
        "gas price": ("eth_gasPrice",),
        "tip": ("eth_maxPriorityFeePerGas",),
        "blob fee": ("eth_blobBaseFee",),
        "history": ("eth_feeHistory", "0x4", "latest", [10, 50, 90]),
        "history by number": ("eth_feeHistory", 2, "0x2", [50]),
        "history without rewards": ("eth_feeHistory", "0x2", "latest", []),
        "long history": ("eth_feeHistory", "0x400", "latest", [50]),
        "genesis": ("eth_getBlockByNumber", "earliest", True),
        "missing block": ("eth_getBlockByNumber", "0xffff", True),
        "missing hash": ("eth_getBlockByHash", "0x" + "11" * 32, True),
        "missing transaction": ("eth_getTransactionByHash", "0x" + "11" * 32),
        "missing receipt": ("eth_getTransactionReceipt", "0x" + "11" * 32),
        "missing index": ("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x5"),
        "count in block": ("eth_getBlockTransactionCountByNumber", "0x1"),
        "count in missing block": ("eth_getBlockTransactionCountByNumber", "0xffff"),
        "uncles": ("eth_getUncleCountByBlockNumber", "0x1"),
        "code": ("eth_getCode", contract, "latest"),
        "code before": ("eth_getCode", contract, "0x0"),
        "no code": ("eth_getCode", owner, "latest"),
        "storage": ("eth_getStorageAt", contract, "0x0", "latest"),
        "storage before": ("eth_getStorageAt", contract, "0x0", "0x2"),
        "balance": ("eth_getBalance", owner, "latest"),
        "balance before": ("eth_getBalance", owner, "0x0"),
        "balance of contract": ("eth_getBalance", contract, "latest"),
        "nonce": ("eth_getTransactionCount", owner, "latest"),
        "nonce pending": ("eth_getTransactionCount", owner, "pending"),
        "nonce before": ("eth_getTransactionCount", owner, "0x1"),
        "call": ("eth_call", {"to": contract, "data": probe.call("number")}, "latest"),
        "call before": ("eth_call", {"to": contract, "input": probe.call("number")}, "0x1"),
        "call pending": ("eth_call", {"to": contract, "data": probe.call("number")}, "pending"),
        "call with value": (
            "eth_call",
            {"from": owner, "to": contract, "value": "0x1", "data": probe.store(8)},
            "latest",
        ),
        "call cancun": ("eth_call", {"to": contract, "data": probe.call("transientOpcodes")}, "latest"),
        "call nobody": ("eth_call", {"to": SOMEBODY, "data": "0x1234"}, "latest"),
        "call creation": ("eth_call", {"data": "0x602a60005260206000f3"}, "latest"),
        "call override": (
            "eth_call",
            {"to": contract, "data": probe.call("number")},
            "latest",
            {contract: {"stateDiff": {"0x" + "00" * 32: "0x" + "07".rjust(64, "0")}}},
        ),
        "revert": ("eth_call", {"to": contract, "data": probe.call("failReason")}, "latest"),
        "revert empty": ("eth_call", {"to": contract, "data": probe.call("failEmpty")}, "latest"),
        "revert custom": ("eth_call", {"to": contract, "data": probe.call("failCustom")}, "latest"),
        "revert panic": ("eth_call", {"to": contract, "data": probe.call("failPanic", 0)}, "latest"),
        "invalid opcode": ("eth_call", {"to": contract, "data": probe.call("failInvalid")}, "latest"),
        "out of gas": ("eth_call", {"to": contract, "gas": "0x186a0", "data": probe.call("failOutOfGas")}, "latest"),
        "estimate transfer": ("eth_estimateGas", {"from": owner, "to": SOMEBODY, "value": "0x1"}),
        "estimate revert": ("eth_estimateGas", {"from": owner, "to": contract, "data": probe.call("failReason")}),
        "access list": ("eth_createAccessList", {"from": owner, "to": contract, "data": probe.store(9)}, "latest"),
        "logs": ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}),
        "logs of address": ("eth_getLogs", {"fromBlock": "earliest", "address": [contract, SOMEBODY]}),
        "logs of nobody": ("eth_getLogs", {"fromBlock": "0x0", "address": SOMEBODY}),
        "logs by topic": ("eth_getLogs", {"fromBlock": "0x0", "topics": [None, None, [stored, "0x" + "00" * 32]]}),
        "logs of latest": ("eth_getLogs", {}),
        "accounts on missing block": ("eth_getBalance", owner, "0xffff"),
        "method unknown": ("eth_nonsense",),
        "bad address": ("eth_getBalance", "0x12", "latest"),
        "no params": ("eth_getBalance",),
        "bad raw": ("eth_sendRawTransaction", "0x1234"),
        "nonce too low": ("eth_sendRawTransaction", sign(nonce=0, to=SOMEBODY)),
        "no funds": ("eth_sendRawTransaction", sign(nonce=5, to=SOMEBODY, value=10**24)),
        "too little gas": ("eth_sendRawTransaction", sign(nonce=5, to=SOMEBODY, gas=20_000)),
        "other chain": ("eth_sendRawTransaction", sign(nonce=5, to=SOMEBODY, chainId=1)),
        "proof": ("eth_getProof", contract, ["0x" + "00" * 32], "latest"),
    }
    for name in ("deploy", "transfer", "accesses", "store", "revert", "other"):
        listed[f"transaction {name}"] = ("eth_getTransactionByHash", made[name])
        listed[f"receipt {name}"] = ("eth_getTransactionReceipt", made[name])
    for tag in ("0x1", "0x3", "latest", "safe", "finalized"):
        listed[f"block {tag}"] = ("eth_getBlockByNumber", tag, True)
        listed[f"block {tag} hashes"] = ("eth_getBlockByNumber", tag, False)
        listed[f"receipts {tag}"] = ("eth_getBlockReceipts", tag)
        listed[f"transaction at {tag}"] = ("eth_getTransactionByBlockNumberAndIndex", tag, "0x0")
    listed["block pending"] = ("eth_getBlockByNumber", "pending", True)
    return listed


async def test_answers_are_anvils(rpc: Rpc, anvil_rpc: Rpc, probe: Probe) -> None:
    ours, theirs = await history(rpc, probe), await history(anvil_rpc, probe)
    assert ours == theirs
    found: set[str] = set()
    for name, (method, *params) in jobs(ours, probe).items():
        mine, other = await rpc.ask(method, *params), await anvil_rpc.ask(method, *params)
        if "error" in mine and "error" in other:
            found.update(differences(name, mine["error"], other["error"]))
        else:
            found.update(differences(name, mine, other))
    unexplained = {one for one in found if not any(re.search(pattern, one) for pattern in DIFFERENCES)}
    assert not unexplained
    assert not [pattern for pattern in DIFFERENCES if not any(re.search(pattern, one) for one in found)], "no longer so"
