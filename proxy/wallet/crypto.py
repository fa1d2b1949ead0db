"""What needs no key: digests, recovery, and what speaks against a signature. Handed to the plugin host by `app`."""

from __future__ import annotations

from typing import Any

from middleware.waist import Origin
from proxy.wallet import raw_transaction, recovery, sign_in, typed_data, typed_data_warnings
from proxy.wallet.raw_transaction import RawTransaction
from proxy.wallet.typed_data import TypedData


class Crypto:
    """The keyless side of the wallet. All raise `InvalidParams` for what cannot be read."""

    def parse_typed(self, value: Any) -> TypedData:
        """Return checked typed data (EIP-712)."""
        return typed_data.parse(value)

    def hash_message(self, data: bytes) -> bytes:
        """Return the EIP-191 digest of a message."""
        return recovery.hash_message(data)

    def recover(self, digest: bytes, signature: str) -> str:
        """Return the checksummed address that signed; low s and 65 bytes only."""
        return recovery.recover(digest, signature)

    def read_raw(self, raw: bytes, where: str) -> RawTransaction:
        """Return what a signed transaction says and who signed it."""
        return raw_transaction.read_raw(raw, where)

    def typed_warnings(self, typed: Any, chain_id: int) -> tuple[str, ...]:
        """Return what speaks against signing what `parse_typed` returned, each "code: sentence"."""
        return typed_data_warnings.warnings_of(typed, chain_id)

    def message_warnings(self, data: bytes, origin: Origin, account: str, chain_id: int) -> tuple[str, ...]:
        """Return what speaks against signing a message for `origin`; nothing unless it is a sign-in (ERC-4361)."""
        claims = sign_in.parse(data)
        return () if claims is None else sign_in.warnings_of(claims, origin, account, chain_id)
