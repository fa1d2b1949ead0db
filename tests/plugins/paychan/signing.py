"""The typed data of the channel written a third time, independently of hub and plugin, for the tests."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
FIELDS = {
    "Voucher": [
        ("channel", "bytes32"),
        ("payer", "address"),
        ("nonce", "uint64"),
        ("amount", "uint256"),
        ("order", "bytes32"),
    ],
    "Withdrawal": [("channel", "bytes32"), ("total", "uint256"), ("deadline", "uint256")],
    "Final": [("channel", "bytes32"), ("sent", "uint256"), ("received", "uint256")],
    "Login": [("owner", "address"), ("challenge", "bytes32")],
}


def typed(kind: str, chain_id: int, contract: str, **message: Any) -> dict[str, Any]:
    """Return the EIP-712 object of one message."""
    return {
        "types": {
            "EIP712Domain": DOMAIN_FIELDS,
            kind: [{"name": name, "type": type_} for name, type_ in FIELDS[kind]],
        },
        "primaryType": kind,
        "domain": {"name": "l2proxy paychan", "version": "1", "chainId": chain_id, "verifyingContract": contract},
        "message": message,
    }


def sign(key: LocalAccount, data: dict[str, Any]) -> bytes:
    """Return the 65 bytes of a signature over typed data."""
    return bytes(Account.sign_typed_data(key.key, full_message=data).signature)
