"""From what went wrong with a plugin to what its caller may hear: text of bounded length, no traceback (security.md 26)."""

from __future__ import annotations

import json
from typing import Any

from middleware.errors import PluginFailed, RpcError, shorten
from proxy.host.channel import AnsweredError

MAX_MESSAGE = 1024  # characters
MAX_DATA = 4096  # bytes of JSON


def failed(plugin_id: str, error: AnsweredError) -> RpcError:
    """Return -32010 for a plugin's own error; `data.data` keeps `spent: false` where the plugin says so (rpc.md)."""
    data = error.data
    if not error.spent:
        data = {**data, "spent": False} if isinstance(data, dict) else _with_spent(data)
    if data is not None:
        text = json.dumps(data, ensure_ascii=True)
        if len(text) > MAX_DATA:
            data = shorten(text, MAX_DATA) if error.spent else {"spent": False}
    return PluginFailed(plugin_id, error.code, shorten(error.message, MAX_MESSAGE), data)


def _with_spent(data: Any) -> dict[str, Any]:
    return {"spent": False} if data is None else {"data": data, "spent": False}
