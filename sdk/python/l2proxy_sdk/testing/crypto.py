"""Keys and signatures of a test: a port for real ones, and a pretence that needs no library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Protocol


class Crypto(Protocol):
    """What a test host needs to sign. `content` is `{typedData}` , `{message}` or `{digest}`."""

    def account(self, path: str) -> tuple[str, str]:
        """Return the address and public key at a path ("owner": the main account)."""

    def sign(self, path: str, content: Mapping[str, Any]) -> str:
        """Return 65 bytes of signature as 0x data."""

    def recover(self, content: Mapping[str, Any], signature: str) -> str | None:
        """Return the address that signed, None for a signature of nobody."""

    def hash(self, params: Mapping[str, Any]) -> str:
        """Return a digest as 0x data."""


class PretendCrypto:
    """Deterministic signatures that only this object can recover: enough to test a plugin's decisions."""

    def __init__(self, seed: str = "test") -> None:
        self._seed = seed
        self._signed: dict[tuple[str, str], str] = {}

    def account(self, path: str) -> tuple[str, str]:
        """Return an address made of the seed and the path."""
        digest = sha256(f"{self._seed}/{path}".encode()).hexdigest()
        return "0x" + digest[:40], "0x02" + digest

    def sign(self, path: str, content: Mapping[str, Any]) -> str:
        """Sign, and remember who did."""
        text = json.dumps(content, sort_keys=True)
        half = sha256(f"{self._seed}/{path}/{text}".encode()).hexdigest()
        signature = f"0x{half}{half}1b"
        self._signed[text, signature] = self.account(path)[0]
        return signature

    def recover(self, content: Mapping[str, Any], signature: str) -> str | None:
        """Return who signed exactly this."""
        return self._signed.get((json.dumps(content, sort_keys=True), signature))

    def hash(self, params: Mapping[str, Any]) -> str:
        """Return some digest of the params."""
        return "0x" + sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
