"""What calldata of an unknown contract means, as far as its selector says: the standard token functions.

For questions to the owner and for rules; never for execution. Anything that does not decode exactly is shown by its
selector alone. Sources: ERC-20, ERC-721, ERC-1155.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.wallet.recovery import keccak

UNLIMITED = 1 << 128
"""Allowances from here on are called unlimited: no token has as many units, and 2^160-1 and the like are in use."""

_KNOWN = (
    "transfer(address,uint256)",
    "transferFrom(address,address,uint256)",
    "approve(address,uint256)",
    "increaseAllowance(address,uint256)",
    "setApprovalForAll(address,bool)",
    "safeTransferFrom(address,address,uint256)",
    "safeTransferFrom(address,address,uint256,bytes)",
    "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
    "deposit()",
    "withdraw(uint256)",
)
_BY_SELECTOR = {keccak(signature.encode())[:4]: signature for signature in _KNOWN}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A call that was recognised: its signature, its arguments as JSON."""

    function: str
    args: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The call for people."""
        name = self.function.partition("(")[0]
        return f"{name}({', '.join(str(argument) for argument in self.args)})"


def decode(data: bytes) -> Decoded | None:
    """Return the standard function that `data` calls, None for any other or for arguments that do not fit exactly."""
    signature = _BY_SELECTOR.get(data[:4])
    if signature is None:
        return None
    from eth_abi.abi import decode as abi_decode
    from eth_abi.abi import encode as abi_encode
    from eth_abi.exceptions import DecodingError
    from eth_utils.address import to_checksum_address

    inner = signature.partition("(")[2].rstrip(")")
    types = inner.split(",") if inner else []
    if len(data) > 4 + 32 * (len(types) + 64):
        return None
    try:
        values = abi_decode(types, data[4:])
    except (DecodingError, OverflowError):
        return None
    if abi_encode(types, values) != data[4:]:
        return None
    shown = [
        to_checksum_address(value) if kind == "address" else "0x" + value.hex() if isinstance(value, bytes) else value
        for kind, value in zip(types, values, strict=True)
    ]
    return Decoded(signature, tuple(shown))


def function_of(data: bytes) -> str | None:
    """Return what rules call the function: its signature when known, else the selector as 0x data; None without data."""
    if not data:
        return None
    decoded = decode(data)
    return decoded.function if decoded is not None else "0x" + data[:4].hex()


def warnings_of(data: bytes) -> tuple[str, ...]:
    """Return warnings about an allowance without bounds (security.md 12)."""
    decoded = decode(data)
    if decoded is None:
        return ()
    name = decoded.function.partition("(")[0]
    amount = {"approve": 1, "increaseAllowance": 1, "permit": 2}.get(name)
    if amount is not None and decoded.args[amount] >= UNLIMITED:
        return (f"unlimited_approval: {decoded.args[amount - 1]} could take any amount of this token, at any time",)
    if name == "setApprovalForAll" and decoded.args[1]:
        return (f"unlimited_approval: {decoded.args[0]} could take every token of this collection, at any time",)
    return ()
