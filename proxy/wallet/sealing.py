"""Sealing a secret under a password: scrypt, then AES-256-GCM with the secret's name as associated data (security.md 16).

The parameters of scrypt are stored beside what they sealed, so that they can be raised later. Nothing here does I/O.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

DEFAULT_N = 1 << 18  # 256 MiB with r = 8, about a second
CIPHER = "AES-256-GCM"


class SealError(Exception):
    """The sealed text or its parameters are damaged; the message says which."""


class WrongPassword(SealError):
    """The password does not open it (or the sealed text was changed)."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a password becomes a key: scrypt's parameters and the salt."""

    n: int
    r: int
    p: int
    salt: bytes

    @classmethod
    def fresh(cls, n: int = DEFAULT_N) -> Derivation:
        """Return new parameters with a random salt."""
        return cls(n, 8, 1, os.urandom(32))

    @classmethod
    def from_json(cls, value: Any) -> Derivation:
        """Return the parameters in `value`. Raise `SealError` for others than scrypt's, or for absurd ones."""
        try:
            name, n, r, p = value["name"], value["n"], value["r"], value["p"]
            salt = bytes.fromhex(value["salt"])
        except (KeyError, TypeError, ValueError) as error:
            raise SealError("the key derivation parameters are damaged") from error
        numbers = all(type(number) is int and number > 0 for number in (n, r, p))
        # The bounds keep a changed file from asking for all memory of the machine.
        if (
            name != "scrypt"
            or not numbers
            or n & (n - 1)
            or n * r > (1 << 23)
            or n < 2
            or r > 32
            or p > 4
            or len(salt) < 16
        ):
            raise SealError("the key derivation parameters are not usable scrypt parameters")
        return cls(n, r, p, salt)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return {"name": "scrypt", "n": self.n, "r": self.r, "p": self.p, "salt": self.salt.hex()}

    def key(self, password: str) -> bytes:
        """Return the 32-byte key; takes about a second and 256 MiB with the default parameters."""
        secret = unicodedata.normalize("NFC", password).encode("utf-8")
        return Scrypt(salt=self.salt, length=32, n=self.n, r=self.r, p=self.p).derive(secret)


def seal(key: bytes, name: str, secret: bytes) -> dict[str, str]:
    """Return `secret` sealed under `key` for `name`, as JSON."""
    nonce = os.urandom(12)
    text = AESGCM(key).encrypt(nonce, secret, _associated(name))
    return {"cipher": CIPHER, "nonce": nonce.hex(), "text": text.hex()}


def unseal(key: bytes, name: str, sealed: Any) -> bytes:
    """Return the secret. Raise `WrongPassword` when key, name or text do not belong together, `SealError` when damaged."""
    try:
        cipher, nonce, text = sealed["cipher"], bytes.fromhex(sealed["nonce"]), bytes.fromhex(sealed["text"])
    except (KeyError, TypeError, ValueError) as error:
        raise SealError(f"the sealed text of {name} is damaged") from error
    if cipher != CIPHER or len(nonce) != 12:
        raise SealError(f"the sealed text of {name} uses a cipher this version does not know")
    try:
        return AESGCM(key).decrypt(nonce, text, _associated(name))
    except InvalidTag:
        raise WrongPassword("the password is wrong") from None


def _associated(name: str) -> bytes:
    return b"l2proxy keystore 1\0" + name.encode("utf-8")
