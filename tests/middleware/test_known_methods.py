"""Every name that libraries, wallets and the specification know stands classified, and is answered with the right code.

The names are read out of web3.py, viem, ethers, web3.js and execution-apis as installed: a new one fails here until
somebody has decided what it is (security.md 7; hardening.md 2).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from web3._utils.rpc_abi import RPC

from middleware.errors import RpcError
from middleware.forward import Forward
from middleware.methods import OWN, MethodClass, MethodTable, in_vain
from middleware.waist import ANONYMOUS, Answer, Context, NodeReply, Request, result

TESTS = Path(__file__).parent.parent
CONTEXT = Context(ANONYMOUS)


def words(text: str) -> list[str]:
    return text.split()


PASSED = words("""
eth_baseFee eth_blobBaseFee eth_blockNumber eth_call eth_capabilities eth_chainId eth_compileLLL eth_compileSerpent
eth_compileSolidity eth_config eth_createAccessList eth_estimateGas eth_estimateUserOperationGas eth_feeHistory
eth_fillTransaction eth_gasPrice eth_getAccount eth_getBalance eth_getBlockByHash eth_getBlockByNumber
eth_getBlockReceipts eth_getBlockTransactionCountByHash eth_getBlockTransactionCountByNumber eth_getCode
eth_getCompilers eth_getLogs eth_getProof eth_getRawTransactionByBlockHashAndIndex
eth_getRawTransactionByBlockNumberAndIndex eth_getRawTransactionByHash eth_getStorageAt eth_getStorageValues
eth_getTransactionByBlockHashAndIndex eth_getTransactionByBlockNumberAndIndex eth_getTransactionByHash
eth_getTransactionBySenderAndNonce eth_getTransactionCount eth_getTransactionReceipt eth_getUncleByBlockHashAndIndex
eth_getUncleByBlockNumberAndIndex eth_getUncleCountByBlockHash eth_getUncleCountByBlockNumber
eth_getUserOperationByHash eth_getUserOperationReceipt eth_getWork eth_hashrate eth_maxPriorityFeePerGas eth_mining
eth_pendingTransactions eth_protocolVersion eth_sendRawTransaction eth_sendRawTransactionSync eth_sendUserOperation
eth_simulateV1 eth_submitHashrate eth_submitWork eth_subscription eth_supportedEntryPoints eth_syncing net_listening
net_peerCount net_version web3_clientVersion web3_sha3
""")

BLOCKED = words("""
eth_sign eth_signTransaction eth_signTypedData eth_signTypedData_v1 eth_signTypedData_v3 eth_signUserOperation
eth_sendUnsignedTransaction eth_sendTransactionSync eth_sendTransactionAsync eth_sendPrivateTransaction
eth_sendPrivateRawTransaction eth_sendBundle eth_resend eth_decrypt
eth_getEncryptionPublicKey eth_coinbase
personal_ecRecover personal_importRawKey personal_listAccounts personal_listWallets personal_lockAccount
personal_newAccount personal_sendTransaction personal_signTransaction personal_signTypedData personal_unlockAccount
personal_openWallet personal_deriveAccount personal_initializeWallet personal_unpair
admin_addPeer admin_addTrustedPeer admin_datadir admin_exportChain admin_importChain admin_nodeInfo admin_peers
admin_removePeer admin_sleep admin_startHTTP admin_startRPC admin_startWS admin_stopHTTP admin_stopRPC admin_stopWS
engine_exchangeCapabilities engine_forkchoiceUpdatedV3 engine_getBlobsV1 engine_getPayloadV4 engine_newPayloadV4
engine_getPayloadBodiesByHashV1 engine_getClientVersionV1
miner_setEtherbase miner_setExtra miner_setGasLimit miner_setGasPrice miner_start miner_stop
clef_list account_list account_signTransaction account_signData parity_postTransaction signer_confirmRequest
metamask_getProviderState metamask_logWeb3ShimUsage metamask_sendDomainMetadata metamask_watchAsset
""")
"""4200 whatever the config says (metamask_*: until it names them)."""

IF_ALLOWED = words("""
debug_bundler_addUserOps debug_bundler_clearState debug_bundler_dumpMempool debug_bundler_dumpReputation
debug_bundler_sendBundleNow debug_bundler_setBundlingMode debug_bundler_setReputation debug_getBadBlocks
debug_getRawBlock debug_getRawHeader debug_getRawReceipts debug_getRawTransaction debug_traceBlock
debug_traceBlockByHash debug_traceBlockByNumber debug_traceCall debug_traceTransaction
trace_block trace_call trace_filter trace_rawTransaction trace_replayBlockTransactions trace_replayTransaction
trace_transaction txpool_content txpool_contentFrom txpool_inspect txpool_status
evm_increaseTime evm_mine evm_reset evm_revert evm_setAccountBalance evm_setAccountCode evm_setAutomine
evm_setBlockGasLimit evm_setIntervalMining evm_setNextBlockTimestamp evm_snapshot
anvil_setBalance anvil_impersonateAccount hardhat_reset hardhat_mine
pm_getPaymasterData pm_getPaymasterStubData testing_buildBlockV1 testing_timeTravel
""")
"""4200 until the config (or --dev) allows their namespace."""

UNKNOWN = words("""
wallet_addSubAccount wallet_connect wallet_createSession wallet_disconnect wallet_getAllSnaps wallet_getAssets
wallet_getCallsStatus wallet_getSession wallet_getSnaps wallet_grantPermissions wallet_invokeKeyring
wallet_invokeMethod wallet_invokeSnap wallet_notify wallet_registerOnboarding wallet_requestSnaps
wallet_revokeSession wallet_scanQRCode wallet_sendCalls wallet_sendTransaction wallet_sessionChanged
wallet_showCallsStatus wallet_snap wallet_watchAsset wallet_snapAllowlist rpc.modules l2_anything
""")
"""-32601."""

_NAMESPACES = "eth|net|web3|wallet|personal|anvil|hardhat|evm|txpool|debug|engine|pm|trace|admin|miner|testing|metamask"
_NO_METHODS = {"eth_holesky", "eth_mainnet", "eth_sepolia"}  # names of networks in ethers


def quoted(file: Path) -> set[str]:
    return set(re.findall(rf"""['"]((?:{_NAMESPACES})_[A-Za-z0-9_]+)['"]""", file.read_text("utf-8", "ignore")))


def libraries(modules: Path) -> list[Path]:
    viem = [modules / "viem/_types/types/eip1193.d.ts", *(modules / "viem/_esm/actions").rglob("*.js")]
    web3 = [file for folder in modules.glob("web3-*") for file in folder.glob("lib/esm/**/*.js")]
    return [*viem, *(modules / "ethers/lib.esm/providers").rglob("*.js"), *web3]


def test_what_libraries_and_the_specification_know_is_decided(node_modules: Path) -> None:
    known = {name for file in libraries(node_modules) for name in quoted(file)}
    known |= {text for text in vars(RPC).values() if isinstance(text, str) and re.fullmatch(r"[a-z0-9]+_\w+", text)}
    known |= {folder.name for folder in (TESTS / "conformance" / "execution-apis").iterdir() if folder.is_dir()}
    assert len(known) > 140
    decided = {*PASSED, *BLOCKED, *IF_ALLOWED, *UNKNOWN, *OWN, *_NO_METHODS}
    anvils = {name for name in known if name.startswith(("anvil_", "hardhat_"))}
    assert sorted(known - decided - anvils) == []


class Node:
    """Remembers what reached it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def forward(self, request: Request) -> NodeReply:
        self.seen.append(request.method)
        return NodeReply(b'{"jsonrpc":"2.0","id":1,"result":true}')


async def answered(table: MethodTable, method: str) -> int:
    """Return 0 when the node answered, 1 when we did, else the error's code; the node sees what it answers alone."""

    async def own(request: Request, context: Context) -> Answer:
        return result(None)

    node = Node()
    try:
        answer = await Forward(table, node, frozenset(OWN), own)(Request(method, b"[]", b"1"), CONTEXT)
    except RpcError as error:
        assert node.seen == []
        return error.code
    assert node.seen == ([method] if isinstance(answer, NodeReply) else [])
    return 0 if isinstance(answer, NodeReply) else 1


ALL = MethodTable(
    [f"{name}_*" for name in ("debug", "txpool", "trace", "pm", "testing", "admin", "personal", "engine", "miner")]
    + [f"{name}_*" for name in ("clef", "account", "parity", "signer", "eth", "wallet", "l2", "foo")]
    + [name for name in BLOCKED if not name.startswith("metamask_")],
    dev=True,
)


async def test_each_is_answered_as_decided() -> None:
    default = MethodTable()
    assert {name: await answered(default, name) for name in PASSED} == dict.fromkeys(PASSED, 0)
    assert {name: await answered(default, name) for name in OWN} == dict.fromkeys(OWN, 1)
    refused = [*BLOCKED, *IF_ALLOWED]
    assert {name: await answered(default, name) for name in refused} == dict.fromkeys(refused, 4200)
    assert {name: await answered(default, name) for name in UNKNOWN} == dict.fromkeys(UNKNOWN, -32601)


async def test_no_config_and_no_spelling_opens_what_is_blocked() -> None:
    for name in BLOCKED:
        for spelled in {name, name.upper(), name.capitalize(), name.swapcase(), f"{name} ", f" {name}", f"{name}\n"}:
            assert await answered(ALL, spelled) in (4200, -32601), spelled
    for name in ("debug_setHead", "debug_SETHEAD", "debug_chaindbCompact", "debug_cpuProfile", "debug_startGoTrace"):
        assert await answered(ALL, name) == 4200, name
    for name in ("debug_traceBlockToFile", "debug_standardTraceBadBlockToFile", "debug_writeMutexProfile"):
        assert await answered(ALL, name) == 4200, name
    assert {await answered(ALL, name) for name in IF_ALLOWED} == {0}
    assert {await answered(ALL, name) for name in UNKNOWN} == {-32601}


@pytest.mark.parametrize(
    "method",
    [
        *(
            "",
            " ",
            "eth",
            "eth_",
            "_",
            "eth_call\u200b",
            "eth_ca\u0131l",
            "ＥＴＨ_call",
            "eth_\u0338call",
            "eth_call\x00",
        ),
        *("eth_call;eth_sign", "eth.call", "eth-call", "ETH_CALL", "eth_\ud800", "eth_" + "a" * 100_000 + "!"),
    ],
)
async def test_what_only_looks_like_a_name_is_refused(method: str) -> None:
    assert await answered(ALL, method) == 4200


def test_rows_in_vain_are_told() -> None:
    rows = [
        "debug_*",
        "eth_newThing",
        "personal_*",
        "eth_sign",
        "wallet_*",
        "debug_setHead",
        "eth_accounts",
        "trace_call",
    ]
    assert in_vain(rows) == ["personal_*", "eth_sign", "wallet_*", "debug_setHead", "eth_accounts"]


def test_a_row_of_the_config_and_the_namespaces_it_lies_in() -> None:
    table = MethodTable(["debug_traceCall", "trace_*"])
    kinds: dict[str, Any] = {name: table.classify(name) for name in ("debug_traceCall", "debug_stacks", "trace_block")}
    assert kinds == {
        "debug_traceCall": MethodClass.PASS,
        "debug_stacks": MethodClass.BLOCKED,
        "trace_block": MethodClass.PASS,
    }
