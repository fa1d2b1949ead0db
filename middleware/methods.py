"""The one table of methods: every name the proxy knows, with its class. Deny by default.

The door's chain, the permission link and the host's `layer1` all ask this table and nothing else. A name stands here by
itself (an exact row) or falls under a namespace row (`eth_*`, what the config allows, what `--dev` adds); a refusal beats
every row, however the name is spelled. Nothing in here may ever class a method that signs or keeps keys as PASS
(security.md 7, hardening.md 2 and 7; rpc.md, "Dapp methods").
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence


class MethodClass(enum.Enum):
    """What happens to a call of a method."""

    PASS = "pass"  # noqa: S105  goes to the L1 node
    SERVED = "served"  # answered here; needs no permission beyond being connected
    RESTRICTED = "restricted"  # answered here to origins that hold the permission for it
    APPROVAL = "approval"  # answered here; the owner is asked
    BLOCKED = "blocked"  # known or suspected, and never served or forwarded: 4200
    UNKNOWN = "unknown"  # no such method in a namespace of ours: -32601


OWN: dict[str, MethodClass] = {
    "eth_accounts": MethodClass.SERVED,
    "eth_requestAccounts": MethodClass.APPROVAL,
    "eth_sendTransaction": MethodClass.APPROVAL,
    "personal_sign": MethodClass.APPROVAL,
    "eth_signTypedData_v4": MethodClass.APPROVAL,
    "wallet_getPermissions": MethodClass.SERVED,
    "wallet_requestPermissions": MethodClass.APPROVAL,
    "wallet_revokePermissions": MethodClass.SERVED,
    "wallet_switchEthereumChain": MethodClass.SERVED,
    "wallet_addEthereumChain": MethodClass.SERVED,
    "wallet_getCapabilities": MethodClass.SERVED,
    "l2_actions": MethodClass.SERVED,
    "l2_plugins": MethodClass.SERVED,
    "l2_getState": MethodClass.RESTRICTED,
    "l2_invoke": MethodClass.RESTRICTED,
    "l2_getDeposits": MethodClass.RESTRICTED,
    "l2_getOperations": MethodClass.RESTRICTED,
    "l2_addPlugin": MethodClass.APPROVAL,
    "eth_subscribe": MethodClass.SERVED,
    "eth_unsubscribe": MethodClass.SERVED,
    "eth_newFilter": MethodClass.SERVED,
    "eth_newBlockFilter": MethodClass.SERVED,
    "eth_newPendingTransactionFilter": MethodClass.SERVED,
    "eth_getFilterChanges": MethodClass.SERVED,
    "eth_getFilterLogs": MethodClass.SERVED,
    "eth_uninstallFilter": MethodClass.SERVED,
    "rpc.discover": MethodClass.SERVED,
}
"""The methods answered by the proxy itself."""

PASSED = frozenset(
    {
        *("eth_baseFee", "eth_blobBaseFee", "eth_blockNumber", "eth_call", "eth_chainId", "eth_createAccessList"),
        *(
            "eth_estimateGas",
            "eth_feeHistory",
            "eth_fillTransaction",
            "eth_gasPrice",
            "eth_getAccount",
            "eth_getBalance",
        ),
        *("eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getBlockTransactionCountByHash"),
        *("eth_getBlockTransactionCountByNumber", "eth_getCode", "eth_getLogs", "eth_getProof", "eth_getStorageAt"),
        *(
            "eth_getTransactionByBlockHashAndIndex",
            "eth_getTransactionByBlockNumberAndIndex",
            "eth_getTransactionByHash",
        ),
        *("eth_getTransactionCount", "eth_getTransactionReceipt", "eth_getUncleByBlockHashAndIndex"),
        *("eth_getUncleByBlockNumberAndIndex", "eth_getUncleCountByBlockHash", "eth_getUncleCountByBlockNumber"),
        *("eth_getStorageValues", "eth_capabilities", "eth_config", "eth_hashrate", "eth_maxPriorityFeePerGas"),
        *("eth_mining", "eth_protocolVersion", "eth_sendRawTransaction", "eth_sendRawTransactionSync"),
        *("eth_simulateV1", "eth_syncing", "net_listening", "net_peerCount", "net_version"),
        *("web3_clientVersion", "web3_sha3"),
    }
)
"""Passed methods known by name. Others fall under the same rows; only these are worth remembering anything about."""

HANDSHAKE = frozenset(
    {
        *("eth_chainId", "net_version", "web3_clientVersion"),
        *("eth_requestAccounts", "wallet_requestPermissions", "wallet_getPermissions"),
    }
)
"""What a web origin may call before the owner connected it (rpc.md, "Identity")."""

EMPTY_FOR_STRANGERS = frozenset({"eth_accounts", "l2_actions", "l2_plugins"})
"""What answers `[]` to a web origin the owner has not connected."""

PASS_NAMESPACES = ("eth_", "net_", "web3_")
DEV_NAMESPACES = ("evm_", "anvil_", "hardhat_", "debug_", "txpool_")
OWN_NAMESPACES = ("l2_", "wallet_", "rpc.")

# Names are compared folded: a node that ignores case must not be reached by spelling. Order: what may go, then what may not.
_SENDS_SIGNED = re.compile(r"eth_send(?:rawtransaction|useroperation$)")
_REFUSED = re.compile(
    r"(?:personal|admin|engine|miner|clef|account|signer|wallet|l2)_"
    r"|rpc\."
    r"|eth_(?:sign|send|resend|decrypt|getencryptionpublickey|coinbase)"
    r"|debug_(?:sethead|chaindb|.*(?:profile|gotrace|tofile))"
    r"|[a-z0-9]+_(?:sign|sendtransaction|sendunsigned|posttransaction|unlockaccount|lockaccount|importrawkey|newaccount)"
)
_NAME = re.compile(r"[a-z][a-z0-9]*_[A-Za-z0-9_]+", re.ASCII)


class MethodTable:
    """Answers what class a method has. `allow`: rows of `[methods] allow`; `dev`: the developer's namespaces as well."""

    def __init__(self, allow: Sequence[str] = (), dev: bool = False) -> None:
        rows = [row.removesuffix("*") for row in allow if row.endswith("*")]
        self._prefixes = (*PASS_NAMESPACES, *(DEV_NAMESPACES if dev else ()), *rows)
        named = (name for name in (*PASSED, *allow) if not name.endswith("*"))
        self._rows = {name: MethodClass.PASS for name in named if not _refused(name)} | OWN

    def classify(self, method: str) -> MethodClass:
        """Return the class of `method`; any text may be asked."""
        row = self._rows.get(method)
        if row is not None:
            return row
        if method.startswith(OWN_NAMESPACES):
            return MethodClass.UNKNOWN
        if method.startswith(self._prefixes) and _NAME.fullmatch(method) and not _refused(method):
            return MethodClass.PASS
        return MethodClass.BLOCKED

    def is_known(self, method: str) -> bool:
        """Tell whether `method` has a row of its own: a closed set, so that something may be kept per method."""
        return method in self._rows

    def is_read(self, method: str) -> bool:
        """Tell whether `method` is safe for `unknown_sites = "read"`: passed, sends nothing, no developer's namespace."""
        folded = method.lower()
        return self.classify(method) is MethodClass.PASS and not folded.startswith(("eth_send", *DEV_NAMESPACES))

    def names(self) -> Iterator[str]:
        """Yield every name that has a row of its own."""
        return iter(self._rows)


def may_pass(method: str) -> bool:
    """Tell whether some table could class `method` as PASS: neither ours nor refused, whatever the config allows."""
    return method not in OWN and not _refused(method)


def in_vain(allow: Sequence[str]) -> list[str]:
    """Return the rows of `[methods] allow` that let nothing pass: names of ours, and what is never sent to a node."""
    return [row for row in allow if not may_pass(row.removesuffix("*"))]


def _refused(method: str) -> bool:
    folded = method.lower()
    return _REFUSED.match(folded) is not None and _SENDS_SIGNED.match(folded) is None
