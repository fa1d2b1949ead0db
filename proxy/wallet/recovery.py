"""Digests and who signed them: EIP-191 messages, EIP-712 typed data, plain digests. No key is ever needed here.

Strict in one way on and off chain (peers.md A8): 65 bytes r ‖ s ‖ v, v 27 or 28, s in the lower half of the order. EIP-2098
and malleable twins are refused. Used by the host services `recover` and `hash`, and by whoever shows a signature.
"""

from __future__ import annotations

import re

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature as UnfitSignature
from eth_utils.crypto import keccak as _keccak

from middleware.errors import InvalidParams

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}", re.ASCII)


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 digest."""
    return bytes(_keccak(data))


def hash_message(data: bytes) -> bytes:
    """Return the digest that `personal_sign` signs (EIP-191 version 0x45)."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def recover(digest: bytes, signature: str) -> str:
    """Return the checksummed address that signed `digest` (32 bytes). Raise `InvalidParams` for anything not strict."""
    if len(digest) != 32:
        raise InvalidParams("digest", "32 bytes", f"{len(digest)} bytes")
    if not isinstance(signature, str) or _SIGNATURE.fullmatch(signature) is None:
        raise InvalidParams("signature", "65 bytes as 0x and 130 hex digits", signature)
    raw = bytes.fromhex(signature[2:])
    r, s, v = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
    if v not in (27, 28):
        raise InvalidParams("signature", "a last byte v of 27 or 28", str(v))
    if not 0 < s <= HALF_ORDER:
        raise InvalidParams("signature", "s in the lower half of the curve's order (EIP-2)", "another s")
    try:
        key = Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    except (UnfitSignature, ValueError) as error:
        raise InvalidParams("signature", "a signature of this digest by some key", "one of none") from error
    return str(key.to_checksum_address())
