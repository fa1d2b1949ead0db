"""The dapp's layer-2 methods: actions, state, invoke, deposits, operations, plugins (rpc.md, "Layer 2").

Behind the permission link and, for `l2_invoke`, behind invocation, idempotency, budget and approval: here the question is
only what to answer. Nothing of a plugin the origin is not connected to ever shows (hardening.md 9, 10).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from middleware.errors import InvalidParams
from middleware.invocation import METHOD, read_checked
from middleware.waist import Context, Handler, Request, Result, result
from proxy.host.installed import InstalledPlugin
from proxy.host.plugins import Plugins
from proxy.host.ports import Deposits, Operations, Permissions


def handlers(
    plugins: Plugins, permissions: Permissions, operations: Operations, deposits: Deposits
) -> dict[str, Handler]:
    """Return the methods of this module by name."""
    layer2 = Layer2(plugins, permissions, operations, deposits)
    return {
        "l2_actions": layer2.actions,
        "l2_plugins": layer2.plugins,
        "l2_getState": layer2.get_state,
        "l2_invoke": layer2.invoke,
        "l2_getDeposits": layer2.get_deposits,
        "l2_getOperations": layer2.get_operations,
    }


def read_already(plugins: Plugins) -> dict[str, Callable[[Request, Context], Awaitable[Result]]]:
    """Return the methods of this module whose params a link has read and checked, by name."""

    async def invoke(request: Request, context: Context) -> Result:
        asked = read_checked(request)
        return result(
            await plugins.invoke(asked.plugin, asked.action, asked.params, context.origin, asked.key, context)
        )

    return {METHOD: invoke}


class Layer2:
    """Answers them from the plugin host and the operations."""

    def __init__(self, plugins: Plugins, permissions: Permissions, operations: Operations, deposits: Deposits) -> None:
        self._plugins = plugins
        self._permissions = permissions
        self._operations = operations
        self._deposits = deposits

    async def actions(self, params: Any, context: Context) -> list[dict[str, Any]]:
        """Return the actions of one connected plugin, or of all; `[]` where there is none."""
        (wanted,) = _read(params, ("plugin",), needed=0)
        if wanted is not None and not isinstance(wanted, str):
            raise InvalidParams("plugin", "the id of a plugin", wanted)
        return [
            row for plugin in self._connected(context) if wanted in (None, plugin.id) for row in _action_rows(plugin)
        ]

    async def plugins(self, params: Any, context: Context) -> list[dict[str, Any]]:
        """Return the connected plugins with what they are doing."""
        _read(params, (), needed=0)
        return [
            {
                "id": plugin.id,
                "name": plugin.manifest.name,
                "version": plugin.version,
                "description": plugin.manifest.description,
                "status": self._plugins.status(plugin.id)["status"],
            }
            for plugin in self._connected(context)
        ]

    async def get_state(self, params: Any, context: Context) -> dict[str, Any]:
        """Return `{plugin, revision, block, state}`; `state` is null where `path` names nothing."""
        if isinstance(params, dict) and "fresh" in params and "options" not in params:
            params = {**params, "options": {"fresh": params["fresh"]}}  # by name it needs no object of its own
            del params["fresh"]
        plugin_id, path, options = _read(params, ("plugin", "path", "options"), needed=1)
        if isinstance(path, dict) and options is None:
            path, options = None, path
        if path is not None and not isinstance(path, str):
            raise InvalidParams("path", "a JSON Pointer like /balance", path)
        options = {} if options is None else options
        if not isinstance(options, dict) or not options.keys() <= {"fresh"}:
            raise InvalidParams("options", '{"fresh": true} or nothing', options)
        fresh = options.get("fresh", False)
        if not isinstance(fresh, bool):
            raise InvalidParams("options.fresh", "true or false", fresh)
        return await self._plugins.get_state(_plugin_id(plugin_id), path, fresh, context.origin)

    async def invoke(self, params: Any, context: Context) -> dict[str, Any] | None:
        """Return the action's declared results by name; null where it declares none."""
        plugin_id, action, values, options = _read(params, ("plugin", "action", "params", "options"), needed=2)
        if not isinstance(action, str):
            raise InvalidParams("action", "the name of an action", action)
        options = options if isinstance(options, dict) else {}
        checked = self._plugins.check_params(_plugin_id(plugin_id), action, values)
        key = options.get("idempotencyKey")
        return await self._plugins.invoke(plugin_id, action, checked, context.origin, key, context)

    async def get_deposits(self, params: Any, _: Context) -> list[dict[str, Any]]:
        """Return what is locked in the plugin's gateways, from operations and from L1."""
        (plugin_id,) = _read(params, ("plugin",), needed=1)
        plugin = self._plugins.get(_plugin_id(plugin_id))
        return [] if plugin is None else await self._deposits.of(plugin)

    async def get_operations(self, params: Any, context: Context) -> list[dict[str, Any]]:
        """Return the plugin's operations, without those another origin caused."""
        plugin_id, operation_id = _read(params, ("plugin", "id"), needed=1)
        if operation_id is not None and not isinstance(operation_id, str):
            raise InvalidParams("id", "the id of an operation", operation_id)
        return self._operations.get(_plugin_id(plugin_id), operation_id, context.origin)

    def _connected(self, context: Context) -> list[InstalledPlugin]:
        connected = self._permissions.plugins(context.origin)
        return [plugin for plugin in self._plugins.all() if plugin.id in connected]


def _action_rows(plugin: InstalledPlugin) -> list[dict[str, Any]]:
    rows = []
    for action in plugin.manifest.action:
        row: dict[str, Any] = {
            "plugin": plugin.id,
            "name": action.name,
            "description": action.description,
            "params": [param.to_json() for param in action.params],
            "returns": [param.to_json() for param in action.returns],
        }
        if action.spends is not None:
            row["spends"] = {"param": action.spends.param, "asset": action.spends.asset}
        rows.append(row | {"approval": action.approval})
    return rows


def _read(params: Any, names: Sequence[str], needed: int) -> list[Any]:
    """Return the params by position or by name, None for those left out. Raises InvalidParams."""
    if params is None:
        params = []
    if isinstance(params, dict):
        for name in params:
            if name not in names:
                raise InvalidParams(name, f"only {', '.join(names) or 'nothing'}", name)
        params = [params.get(name) for name in names]
    if len(params) > len(names):
        raise InvalidParams("params", f"at most {len(names)}: {', '.join(names) or 'none'}", f"{len(params)} values")
    values = [*params, *[None] * (len(names) - len(params))]
    for name, value in list(zip(names, values, strict=True))[:needed]:
        if value is None:
            raise InvalidParams(name, "a value", "nothing")
    return values


def _plugin_id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidParams("plugin", "the id of a plugin", value)
    return value
