"""Every error a caller can get, and who is at fault. Codes and data are those of rpc.md, "Errors".

RpcError
 ├─ ParseError          -32700  the caller: not JSON
 ├─ InvalidRequest      -32600  the caller: not JSON-RPC
 ├─ MethodNotFound      -32601  the caller: no such method of ours
 ├─ InvalidParams       -32602  the caller: `param` is named
 ├─ InternalError       -32603  we: only an opaque id leaves, the cause is in the log
 ├─ Refused              4001   the owner said no, or did not answer in time
 ├─ Unauthorized         4100   the origin lacks a permission, a budget, or the wallet is locked
 ├─ Unsupported          4200   the method is not served here
 ├─ Disconnected         4900   no upstream, or another chain than the pinned one
 ├─ UnknownChain         4902   wallet_switchEthereumChain to another chain
 ├─ AlreadyPending     -32002   one question of this kind is open already
 ├─ LimitExceeded      -32005   a limit
 ├─ PluginFailed       -32010   the plugin answered with an error of its own
 ├─ PluginTimeout      -32011   the plugin was too slow
 └─ PluginUnavailable  -32012   the plugin crashed, is quarantined or does not run

A plain `RpcError` carries the L1 node's own code, message and data.
"""

from __future__ import annotations

import json
from asyncio import Future
from typing import Any


class RpcError(Exception):
    """A JSON-RPC error object on its way to a caller. `data` must be a JSON value (None: no data member)."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """Return the JSON-RPC error object."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class ParseError(RpcError):
    """-32700: the body is not JSON."""

    def __init__(self, message: str = "the body is not valid JSON") -> None:
        super().__init__(-32700, message)


class InvalidRequest(RpcError):
    """-32600: JSON, but not a JSON-RPC 2.0 request."""

    def __init__(self, message: str) -> None:
        super().__init__(-32600, message)


class MethodNotFound(RpcError):
    """-32601: an unknown name in `l2_`, `wallet_` or `rpc.`."""

    def __init__(self, method: str) -> None:
        super().__init__(-32601, f"there is no method {method}")


class InvalidParams(RpcError):
    """-32602: names the parameter, what was expected and what came."""

    def __init__(self, param: str, expected: str, got: Any) -> None:
        shown = shorten(got)
        super().__init__(
            -32602,
            f"parameter {param}: expected {expected}, got {shown}",
            {"param": param, "expected": expected, "got": shown},
        )


class InternalError(RpcError):
    """-32603: our fault; the caller gets `errorId` alone, the log has the cause under it."""

    def __init__(self, error_id: str) -> None:
        super().__init__(-32603, f"internal error {error_id}; the daemon's log has the cause", {"errorId": error_id})


class Refused(RpcError):
    """4001: the owner said no, or the deadline passed (EIP-1193)."""

    def __init__(self, reason: str) -> None:
        super().__init__(4001, reason, {"reason": reason})


class Unauthorized(RpcError):
    """4100: lacks the permission, the budget, or an unlocked wallet; `grant` is the command that gives it (EIP-1193)."""

    def __init__(self, reason: str, grant: str | None = None) -> None:
        data = {"reason": reason}
        message = reason
        if grant is not None:
            data["grant"] = grant
            message = f"{reason}; `{grant}`"
        super().__init__(4100, message, data)


class Unsupported(RpcError):
    """4200: this method is not served (EIP-1193)."""

    def __init__(self, method: str, why: str = "not served by l2proxy") -> None:
        super().__init__(4200, f"{method}: {why}")


class Disconnected(RpcError):
    """4900: no upstream answers, or it is another chain than the pinned one (EIP-1193)."""

    def __init__(self, message: str) -> None:
        super().__init__(4900, message)


class UnknownChain(RpcError):
    """4902: another chain than the one this proxy serves (EIP-3085, EIP-3326)."""

    def __init__(self, chain_id: str, served: str) -> None:
        super().__init__(4902, f"chain {shorten(chain_id)} is not served; this proxy serves {served}")


class AlreadyPending(RpcError):
    """-32002: one question of this kind is pending for the origin already."""

    def __init__(self, kind: str) -> None:
        super().__init__(-32002, f"a question of kind {kind} is already waiting for the owner's answer")


class LimitExceeded(RpcError):
    """-32005: a limit; `limit` is its name under [limits] in the config."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(-32005, message, {"limit": limit})


class PluginFailed(RpcError):
    """-32010: the plugin's own error, as bounded text."""

    def __init__(self, plugin: str, code: Any, message: str, data: Any = None) -> None:
        text = message[:1024]
        super().__init__(-32010, f"{plugin}: {text}", {"plugin": plugin, "code": code, "message": text, "data": data})


class PluginTimeout(RpcError):
    """-32011: the plugin did not answer in time; whether it acted is unknown.

    `late`: what it still answers, for the record under an idempotency key: a JSON value, or an `RpcError` as a value.
    """

    def __init__(self, plugin: str, seconds: float, late: Future[Any] | None = None) -> None:
        self.late = late
        super().__init__(
            -32011, f"{plugin} did not answer within {seconds:g} s", {"plugin": plugin, "outcome": "unknown"}
        )


class PluginUnavailable(RpcError):
    """-32012: the plugin crashed, is quarantined or does not run; `outcome` "unknown" when it had been asked."""

    def __init__(self, plugin: str, why: str, outcome: str | None = None) -> None:
        data = {"plugin": plugin}
        if outcome is not None:
            data["outcome"] = outcome
        super().__init__(-32012, f"{plugin} {why}", data)


def shorten(value: Any, limit: int = 80) -> str:
    """Return `value` as printable text of at most `limit` characters, for a message."""
    text = value if isinstance(value, str) else _json(value)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _json(value: Any) -> str:
    """Return `value` as the caller wrote it, as far as it is JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"
