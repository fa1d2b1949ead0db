"""Keys to addresses (EIP-55 text). The one place beside `recovery` and `keyring` that touches the curve."""

from __future__ import annotations

from eth_keys.datatypes import PrivateKey


class BadPrivateKey(ValueError):
    """The bytes are no private key of secp256k1."""


def private_key(raw: bytes) -> PrivateKey:
    """Return the key of 32 bytes. Raise `BadPrivateKey` outside 1 … n-1."""
    if len(raw) != 32 or not 0 < int.from_bytes(raw, "big") < _ORDER:
        raise BadPrivateKey("a private key is 32 bytes between 1 and the order of secp256k1")
    return PrivateKey(raw)


def address_of(raw: bytes) -> str:
    """Return the checksummed address of a 32-byte private key."""
    return str(private_key(raw).public_key.to_checksum_address())


def public_key_of(raw: bytes) -> str:
    """Return the uncompressed public key of a private key as `0x04` + 128 hex digits (SEC 1)."""
    return "0x04" + private_key(raw).public_key.to_bytes().hex()


_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
