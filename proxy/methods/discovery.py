"""`rpc.discover`: an OpenRPC document of what the asking origin may call at this moment, actions included (rpc.md).

Says nothing of what was not granted: no method that would be refused for want of a permission, no plugin and no action beyond those
the origin may invoke. It asks nobody and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from middleware.errors import InvalidParams
from middleware.methods import OWN, MethodClass, MethodTable
from middleware.permission import ACCOUNT_METHODS, FILTERS
from middleware.waist import Context, Handler, Origin, OriginKind
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import Permissions

OPENRPC = "1.3.2"

_OWN: dict[str, tuple[str, str]] = {
    "eth_accounts": ("The accounts this origin may see.", ""),
    "eth_requestAccounts": ("Ask the owner for an account (EIP-1102).", ""),
    "eth_sendTransaction": ("Have the owner send a transaction.", "transaction:object"),
    "personal_sign": ("Have the owner sign a message.", "data:string address:string"),
    "eth_signTypedData_v4": ("Have the owner sign typed data (EIP-712).", "address:string typedData:object|string"),
    "wallet_getPermissions": ("What this origin may do (EIP-2255).", ""),
    "wallet_requestPermissions": ("Ask the owner for permissions (EIP-2255).", "!permissions:object"),
    "wallet_revokePermissions": ("Give permissions back.", "!permissions:object"),
    "wallet_switchEthereumChain": ("Null for the chain served here, else 4902.", "chain:object"),
    "wallet_addEthereumChain": ("Null for the chain served here, else 4902.", "chain:object"),
    "wallet_getCapabilities": ("What this wallet can do, by chain (EIP-5792).", "address:string chainIds?:array"),
    "l2_actions": ("The actions of the plugins this origin is connected to.", "plugin?:string"),
    "l2_plugins": ("The plugins this origin is connected to.", ""),
    "l2_getState": ("What a plugin published; path is a JSON Pointer.", "plugin:string path?:string options?:object"),
    "l2_invoke": ("Have a plugin act.", "plugin:string action:string params?:array|object options?:object"),
    "l2_getDeposits": ("What is locked in a plugin's gateways.", "plugin:string"),
    "l2_getOperations": ("A plugin's operations on L1.", "plugin:string id?:string"),
    "l2_addPlugin": ("Ask the owner to install a plugin.", "!plugin:object"),
    "eth_subscribe": ("Have news pushed, l2_state and l2_operations among them.", "!kind:string options?:object"),
    "eth_unsubscribe": ("End a subscription.", "!subscription:string"),
    "eth_newFilter": ("Collect logs until they are asked for.", "!filter:object"),
    "eth_newBlockFilter": ("Collect block hashes until they are asked for.", ""),
    "eth_newPendingTransactionFilter": ("Collect pending transactions until they are asked for.", "!whole?:boolean"),
    "eth_getFilterChanges": ("What a filter has collected since it was last asked.", "!filter:string"),
    "eth_getFilterLogs": ("All logs a filter fits.", "!filter:string"),
    "eth_uninstallFilter": ("End a filter.", "!filter:string"),
    "rpc.discover": ("This document.", ""),
}
"""The proxy's own methods: what they do, and their params in order with their JSON types; `?`: may be left out.

`!`: they are taken by position alone.
"""

_BLOCK = "block?:string|object"
_PASSED: dict[str, str] = {
    "eth_call": f"transaction:object {_BLOCK} overrides?:object",
    "eth_createAccessList": f"transaction:object {_BLOCK}",
    "eth_estimateGas": f"transaction:object {_BLOCK} overrides?:object",
    "eth_feeHistory": "blockCount:string newestBlock:string rewardPercentiles?:array",
    "eth_fillTransaction": "transaction:object",
    "eth_getAccount": f"address:string {_BLOCK}",
    "eth_getBalance": f"address:string {_BLOCK}",
    "eth_getBlockByHash": "hash:string whole:boolean",
    "eth_getBlockByNumber": "block:string whole:boolean",
    "eth_getBlockReceipts": "block:string|object",
    "eth_getBlockTransactionCountByHash": "hash:string",
    "eth_getBlockTransactionCountByNumber": "block:string",
    "eth_getCode": f"address:string {_BLOCK}",
    "eth_getLogs": "filter:object",
    "eth_getProof": f"address:string storageKeys:array {_BLOCK}",
    "eth_getStorageAt": f"address:string slot:string {_BLOCK}",
    "eth_getStorageValues": f"slots:object {_BLOCK}",
    "eth_getTransactionByBlockHashAndIndex": "hash:string index:string",
    "eth_getTransactionByBlockNumberAndIndex": "block:string index:string",
    "eth_getTransactionByHash": "hash:string",
    "eth_getTransactionCount": f"address:string {_BLOCK}",
    "eth_getTransactionReceipt": "hash:string",
    "eth_getUncleByBlockHashAndIndex": "hash:string index:string",
    "eth_getUncleByBlockNumberAndIndex": "block:string index:string",
    "eth_getUncleCountByBlockHash": "hash:string",
    "eth_getUncleCountByBlockNumber": "block:string",
    "eth_sendRawTransaction": "transaction:string",
    "eth_sendRawTransactionSync": "transaction:string timeout?:string",
    "eth_simulateV1": f"payload:object {_BLOCK}",
    "web3_sha3": "data:string",
}
"""The params of what goes to the node, as nodes take them: by position. What is not here takes none, or is the node's own."""


def handlers(
    plugins: Callable[[], list[InstalledPlugin]], permissions: Permissions, table: MethodTable
) -> dict[str, Handler]:
    """Return the method by name; `plugins` returns what is installed."""

    async def discover(params: Any, context: Context) -> dict[str, Any]:
        if params not in (None, [], {}):
            raise InvalidParams("params", "none", params)
        actions = [row for plugin in plugins() for row in _actions(plugin, permissions, context.origin)]
        methods = [_own_method(name) for name in sorted(_own(context.origin, permissions, bool(actions)))]
        for method in methods:
            if method["name"] == "l2_invoke":
                method["x-actions"] = actions
        passed = sorted(name for name in table.names() if table.classify(name) is MethodClass.PASS)
        methods += [_method(name, _PASSED.get(name, "")) | _TO_THE_NODE for name in passed]
        return {"openrpc": OPENRPC, "info": {"title": "l2proxy", "version": version("l2proxy")}, "methods": methods}

    return {"rpc.discover": discover}


_TO_THE_NODE = {"paramStructure": "by-position", "x-passed-to-node": True}


def described() -> frozenset[str]:
    """Return the proxy's own methods that the document can describe: all of them, or a test fails."""
    return frozenset(_OWN)


def _own(origin: Origin, permissions: Permissions, invokes: bool) -> set[str]:
    """Return the proxy's own methods that the origin may call."""
    if origin.kind is OriginKind.ANONYMOUS:
        return set(FILTERS)
    names = set(OWN)
    if not permissions.accounts(origin):
        names -= ACCOUNT_METHODS | {"wallet_getCapabilities"}
    readable = any(permissions.may_read_state(origin, plugin) for plugin in permissions.plugins(origin))
    if not readable:
        names -= {"l2_getState", "l2_getDeposits", "l2_getOperations"}
    elif not permissions.accounts(origin):
        names -= {"l2_getDeposits", "l2_getOperations"}
    return names if invokes else names - {"l2_invoke"}


def _actions(plugin: InstalledPlugin, permissions: Permissions, origin: Origin) -> list[dict[str, Any]]:
    rows = []
    for action in plugin.manifest.action:
        if permissions.may_invoke(origin, plugin.id, action.name):
            row: dict[str, Any] = {"plugin": plugin.id, "action": action.name, "summary": action.description}
            row["params"] = [_described(param.to_json()) for param in action.params]
            row["result"] = _result([param.to_json() for param in action.returns])
            rows.append(row | {"approval": action.approval})
    return rows


def _result(returns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what an action answers: an object of the declared names, null where none is declared."""
    described = [_described(row) for row in returns]
    schema: dict[str, Any] = {"type": "null"}
    if described:
        properties = {row["name"]: row["schema"] for row in described}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": "result", "schema": schema, "x-returns": described}


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """Return a declared value as an OpenRPC content descriptor; its ABI type stands beside the JSON one."""
    kind = "array" if row["type"].endswith("]") else {"bool": "boolean", "tuple": "object"}.get(row["type"], "string")
    shown = {"name": row["name"], "required": True, "schema": {"type": kind, "x-abi-type": row["type"]}}
    if "description" in row:
        shown["description"] = row["description"]
    if "components" in row:
        shown["schema"]["x-components"] = row["components"]
    return shown


def _own_method(name: str) -> dict[str, Any]:
    summary, params = _OWN[name]
    by_position = {"paramStructure": "by-position"} if params.startswith("!") else {}
    return _method(name, params.removeprefix("!")) | by_position | {"summary": summary}


def _method(name: str, params: str) -> dict[str, Any]:
    return {
        "name": name,
        "params": [_param(word) for word in params.split()],
        "result": {"name": "result", "schema": {}},
    }


def _param(word: str) -> dict[str, Any]:
    name, _, kinds = word.partition(":")
    types = kinds.split("|")
    schema = {"type": types[0] if len(types) == 1 else types}
    return {"name": name.removesuffix("?"), "required": not name.endswith("?"), "schema": schema}
