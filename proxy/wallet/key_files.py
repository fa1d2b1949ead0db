"""Private keys in files of other wallets: V3 keystore JSON in and out, raw hex in. Source: Web3 Secret Storage.

Passwords and keys come from the caller and go back to it; nothing here reads or writes a file.
"""

from __future__ import annotations

import json
import re
from typing import Any

from proxy.wallet.addresses import BadPrivateKey, private_key
from proxy.wallet.key_libraries import eth_account
from proxy.wallet.keystore import KeystoreError
from proxy.wallet.sealing import WrongPassword

_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)


def read_key(text: str, password: str | None) -> bytes:
    """Return the 32-byte key in V3 JSON (opened with `password`) or in 64 hex digits.

    Raise `WrongPassword`, or `KeystoreError` for anything else that stands in the way.
    """
    if match := _HEX.fullmatch(text.strip()):
        return _checked(bytes.fromhex(match[1]))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "version" not in document:
        raise KeystoreError("the file holds neither V3 keystore JSON nor a private key of 64 hex digits")
    if password is None:
        raise KeystoreError("V3 keystore JSON is opened with a password; none was given")
    return _checked(_decrypt(document, password))


def write_v3(key: bytes, password: str) -> dict[str, Any]:
    """Return V3 keystore JSON (scrypt) of a private key. Takes about a second."""
    document: dict[str, Any] = eth_account().Account.encrypt(key, password, kdf="scrypt")
    return document


def _decrypt(document: dict[str, Any], password: str) -> bytes:
    try:
        return bytes(eth_account().Account.decrypt(document, password))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise WrongPassword("the password of the key file is wrong") from None
        raise KeystoreError("the file is no V3 keystore JSON this version can read") from error
    except (KeyError, TypeError, NotImplementedError) as error:
        raise KeystoreError("the file is no V3 keystore JSON this version can read") from error


def _checked(raw: bytes) -> bytes:
    try:
        private_key(raw)
    except BadPrivateKey as error:
        raise KeystoreError(f"the file's key cannot be used: {error}") from error
    return raw
