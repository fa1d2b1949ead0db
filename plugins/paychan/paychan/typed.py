"""What the channel's parties sign, as EIP-712 objects for the host's `sign` and `recover`.

The domain binds chain and contract, every message its channel. Amounts are wei and cumulative.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

_DOMAIN = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def order_of(counterparty: str, value: int) -> str:
    """Return what a voucher names as its purpose: whom (or from whom) and how much, as 0x data."""
    content = b"l2proxy paychan order" + bytes.fromhex(counterparty[2:]) + value.to_bytes(32, "big")
    return "0x" + sha256(content).hexdigest()


class Typed:
    """The messages of one contract on one chain."""

    def __init__(self, chain_id: int, contract: str) -> None:
        domain = {"name": "l2proxy paychan", "version": "1", "chainId": chain_id, "verifyingContract": contract}
        self._domain = domain

    def voucher(self, channel: str, payer: str, nonce: int, amount: int, order: str) -> dict[str, Any]:
        """A cumulative payment promise."""
        fields = "channel bytes32 payer address nonce uint64 amount uint256 order bytes32"
        message = {"channel": channel, "payer": payer, "nonce": str(nonce), "amount": str(amount), "order": order}
        return self._object("Voucher", fields, message)

    def withdrawal(self, channel: str, total: int, deadline: int) -> dict[str, Any]:
        """The hub's consent to take money out."""
        message = {"channel": channel, "total": str(total), "deadline": str(deadline)}
        return self._object("Withdrawal", "channel bytes32 total uint256 deadline uint256", message)

    def final(self, channel: str, sent: int, received: int) -> dict[str, Any]:
        """An agreed close."""
        message = {"channel": channel, "sent": str(sent), "received": str(received)}
        return self._object("Final", "channel bytes32 sent uint256 received uint256", message)

    def login(self, owner: str, challenge: str) -> dict[str, Any]:
        """Proof towards the hub that we hold the channel's key."""
        return self._object("Login", "owner address challenge bytes32", {"owner": owner, "challenge": challenge})

    def _object(self, kind: str, fields: str, message: dict[str, Any]) -> dict[str, Any]:
        words = fields.split()
        declared = [{"name": name, "type": type_} for name, type_ in zip(words[::2], words[1::2], strict=True)]
        types = {"EIP712Domain": _DOMAIN, kind: declared}
        return {"types": types, "primaryType": kind, "domain": self._domain, "message": message}
