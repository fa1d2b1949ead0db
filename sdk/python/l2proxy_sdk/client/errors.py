"""The proxy's errors as exceptions; codes and data are those of rpc.md, "Errors".

L2Error (code, message, data)
 ├─ InvalidParams      -32602  data names the parameter, what was expected and what came
 ├─ Refused              4001  the owner said no, or did not answer in time
 ├─ PermissionDenied     4100  the permission is missing, the budget is spent, or the wallet is locked
 ├─ AlreadyPending     -32002  a question of this kind is open already
 ├─ LimitExceeded      -32005  a limit of the proxy
 ├─ PluginError        -32010  the plugin's own error: `plugin`, `plugin_code`, `plugin_message`, `plugin_data`
 ├─ PluginTimeout      -32011  the plugin was too slow; the outcome is unknown
 └─ PluginUnavailable  -32012  the plugin crashed or does not run; `outcome` says whether it may have acted
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class L2Error(Exception):
    """An error object of the proxy."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def member(self, name: str) -> Any:
        """Return a member of `data`, None where there is none."""
        return self.data.get(name) if isinstance(self.data, Mapping) else None


class InvalidParams(L2Error):
    """-32602."""


class Refused(L2Error):
    """4001."""


class PermissionDenied(L2Error):
    """4100."""


class AlreadyPending(L2Error):
    """-32002."""


class LimitExceeded(L2Error):
    """-32005."""


class _OfPlugin(L2Error):
    @property
    def plugin(self) -> Any:
        """The plugin's id."""
        return self.member("plugin")

    @property
    def outcome(self) -> Any:
        """ "unknown" where the plugin may have acted."""
        return self.member("outcome")


class PluginError(_OfPlugin):
    """-32010."""

    @property
    def plugin_code(self) -> Any:
        """The code the plugin chose."""
        return self.member("code")

    @property
    def plugin_message(self) -> Any:
        """The plugin's own sentence."""
        return self.member("message")

    @property
    def plugin_data(self) -> Any:
        """What the plugin added."""
        return self.member("data")


class PluginTimeout(_OfPlugin):
    """-32011."""


class PluginUnavailable(_OfPlugin):
    """-32012."""


_KINDS: dict[int, type[L2Error]] = {
    -32602: InvalidParams,
    4001: Refused,
    4100: PermissionDenied,
    -32002: AlreadyPending,
    -32005: LimitExceeded,
    -32010: PluginError,
    -32011: PluginTimeout,
    -32012: PluginUnavailable,
}


def from_response(response: Any) -> L2Error | None:
    """Return the exception of a JSON-RPC response, None where it holds no error object."""
    error = response.get("error") if isinstance(response, Mapping) else None
    if not isinstance(error, Mapping) or not isinstance(error.get("code"), int):
        return None
    code, data = error["code"], plain(error.get("data"))
    return _KINDS.get(code, L2Error)(code, str(error.get("message", "")), data)


def plain(value: Any) -> Any:
    """Return a JSON value as dicts and lists (web3's middlewares make AttributeDicts of them)."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
