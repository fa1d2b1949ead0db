"""What can go wrong between a plugin and the proxy, and who is at fault.

SdkError
 ├─ ActionError      the plugin's own answer to a caller: -32010 with its code, message and data (rpc.md, "Errors")
 ├─ HostError        the proxy refused a host call: 4001 the owner, 4100 outside the grant, -32602, -32005
 ├─ NotReady         own-key signing before `await self.ready()` (hardening.md 24)
 ├─ DeclarationError an action whose signature cannot be declared; raised while the class is made
 ├─ ValueMismatch    a value does not have its declared ABI type
 └─ ChannelClosed    the proxy has gone, or broke the protocol: the process ends

None of these may carry a traceback or a secret to a caller; only ActionError's and HostError's own text leaves.
"""

from __future__ import annotations

from typing import Any


class SdkError(Exception):
    """The root of the SDK's own errors."""


class ActionError(SdkError):
    """Raise it in an action: the caller gets `code`, `message` and `data` inside a -32010 error.

    `spent=False` says that nothing was spent: the proxy gives the budget reservation back. Unknown counts as spent
    (hardening.md 15), so leave it out when in doubt. `data` must be a JSON value. Raises TypeError where `code` is
    no integer that JSON can carry: such an error on the wire would end the process.
    """

    def __init__(self, code: int, message: str, data: Any = None, *, spent: bool = True) -> None:
        super().__init__(message)
        if not isinstance(code, int) or isinstance(code, bool) or abs(code) >= 2**53:
            raise TypeError("the code of an ActionError is an integer of less than 2**53")
        self.code = int(code)
        self.message = str(message)
        self.data = data
        self.spent = spent


class HostError(SdkError):
    """The proxy's answer to a host call was an error object; `spent` is its member of that name, where it has one."""

    def __init__(self, code: int, message: str, data: Any = None, spent: bool | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.spent = spent


class NotReady(SdkError):
    """Own keys sign only after `await self.ready()`: first learn the newest state from hub and L1."""


class DeclarationError(SdkError, TypeError):
    """An action's parameters or returns are not ABI types."""


class ValueMismatch(SdkError, ValueError):
    """A value does not have its declared ABI type; the message names where, what was expected and what came."""

    def __init__(self, where: str, expected: str, got: object) -> None:
        shown = repr(got)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{where}: expected {expected}, got {type(got).__name__} {shown}")
        self.where = where
        self.expected = expected


class ChannelClosed(SdkError):
    """The pipe to the proxy is closed, or what came through it is not the protocol."""
