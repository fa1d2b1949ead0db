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

_PARAMS: dict[str, str] = {
    "eth_sendTransaction": "transaction",
    "personal_sign": "data address",
    "eth_signTypedData_v4": "address typedData",
    "wallet_requestPermissions": "permissions",
    "wallet_revokePermissions": "permissions",
    "wallet_switchEthereumChain": "chain",
    "wallet_addEthereumChain": "chain",
    "wallet_getCapabilities": "address chainIds?",
    "l2_actions": "plugin?",
    "l2_getState": "plugin path? options?",
    "l2_invoke": "plugin action params? options?",
    "l2_getDeposits": "plugin",
    "l2_getOperations": "plugin id?",
    "l2_addPlugin": "plugin",
    "eth_subscribe": "kind options?",
    "eth_unsubscribe": "subscription",
    "eth_newFilter": "filter",
    "eth_getFilterChanges": "filter",
    "eth_getFilterLogs": "filter",
    "eth_uninstallFilter": "filter",
}
"""Names of the params of the proxy's own methods, in their order; `?`: may be left out. The others take none."""


def handlers(
    plugins: Callable[[], list[InstalledPlugin]], permissions: Permissions, table: MethodTable
) -> dict[str, Handler]:
    """Return the method by name; `plugins` returns what is installed."""

    async def discover(params: Any, context: Context) -> dict[str, Any]:
        if params not in (None, [], {}):
            raise InvalidParams("params", "none", params)
        actions = [row for plugin in plugins() for row in _actions(plugin, permissions, context.origin)]
        methods = [_method(name) for name in sorted(_own(context.origin, permissions, bool(actions)))]
        for method in methods:
            if method["name"] == "l2_invoke":
                method["x-actions"] = actions
        passed = sorted(name for name in table.names() if table.classify(name) is MethodClass.PASS)
        methods += [{"name": name, "params": [], "result": _ANYTHING, "x-passed-to-node": True} for name in passed]
        return {"openrpc": OPENRPC, "info": {"title": "l2proxy", "version": version("l2proxy")}, "methods": methods}

    return {"rpc.discover": discover}


_ANYTHING = {"name": "result", "schema": {}}


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
            row["result"] = {"name": "result", "x-returns": [_described(param.to_json()) for param in action.returns]}
            rows.append(row | {"approval": action.approval})
    return rows


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """Return a declared value as an OpenRPC content descriptor; its ABI type stands beside the JSON one."""
    kind = "array" if row["type"].endswith("]") else {"bool": "boolean", "tuple": "object"}.get(row["type"], "string")
    shown = {"name": row["name"], "required": True, "schema": {"type": kind, "x-abi-type": row["type"]}}
    if "components" in row:
        shown["schema"]["x-components"] = row["components"]
    return shown


def _method(name: str) -> dict[str, Any]:
    params = [
        {"name": word.removesuffix("?"), "required": not word.endswith("?"), "schema": {}}
        for word in _PARAMS.get(name, "").split()
    ]
    return {"name": name, "params": params, "result": dict(_ANYTHING)}
