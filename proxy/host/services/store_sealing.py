"""How the values of a plugin's store lie on disk: sealed under a key of the plugin's own path (docs/decisions 0007).

AES-256-GCM with the entry's key as associated data; keys stay in clear, for the store is ordered by them. A plugin without keys has
none to seal with: its values lie plain. The first byte says which: `t` and `b` plain text and bytes, 1 sealed. It must never take a
plain value for good where values are sealed: whoever can write to the disk would choose what the plugin reads.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.storage import StorageError

SEALED: Final = b"\x01"
_NONCE, _TAG = 12, 16
EXTRA = len(SEALED) + _NONCE + _TAG  # bytes a sealed value has more than a plain one


class Plain:
    """Values as they are."""

    digest_key = b""

    def seal(self, key: bytes, value: bytes) -> bytes:
        """Return what lies on disk for `value`, whose first byte is its kind."""
        del key
        return value

    def unseal(self, key: bytes, stored: bytes) -> bytes:
        """Return the value. Raise StorageError for what cannot be read."""
        del key
        if stored[:1] == SEALED:
            raise StorageError("a value of the store is sealed, and the plugin was granted no keys to open it with")
        return stored


class Sealing(Plain):
    """Values sealed under `secret` (32 bytes)."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(_derived(secret, b"values"))
        self.digest_key = _derived(secret, b"record")

    def seal(self, key: bytes, value: bytes) -> bytes:
        """Return the sealed value; each time another text."""
        nonce = os.urandom(_NONCE)
        return SEALED + nonce + self._cipher.encrypt(nonce, value, key)

    def unseal(self, key: bytes, stored: bytes) -> bytes:
        """Return the value. Raise StorageError where it is not what this key sealed for this entry."""
        start = len(SEALED)
        nonce = stored[start : start + _NONCE] if stored[:start] == SEALED else b""  # none opens nothing
        try:
            return self._cipher.decrypt(nonce, stored[start + _NONCE :], key)
        except (InvalidTag, ValueError):
            raise StorageError(
                "a value of the store was changed, or was sealed by another wallet: put back a copy from before"
            ) from None


def plain_size(stored: bytes) -> int:
    """Return the bytes of a value without its kind and seal."""
    return len(stored) - 1 - (EXTRA if stored[:1] == SEALED else 0)


def _derived(secret: bytes, use: bytes) -> bytes:
    return hashlib.blake2b(use, key=secret, digest_size=32, person=b"l2proxy store").digest()
