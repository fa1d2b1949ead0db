"""A signed transaction as bytes: who signed it, for which chain, to whom. Source: EIP-155, EIP-2718, EIP-2930, EIP-1559.

For what a plugin wants broadcast (`eth_sendRawTransaction`); nothing is signed or sent here. Types that hand an account to code
(EIP-7702) or carry blobs are refused: this proxy has no part in them (security.md 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]
from eth_utils.address import to_checksum_address

from middleware.errors import InvalidParams
from proxy.wallet.key_libraries import eth_account
from proxy.wallet.recovery import keccak

_LEGACY = 0
_FIELDS = {_LEGACY: (9, 3), 1: (11, 4), 2: (12, 5)}  # by type: how many, and where the receiver stands
_EXPECTED = "a signed transaction of type 0, 1 or 2"


@dataclass(frozen=True, slots=True)
class RawTransaction:
    """What a signed transaction says. `chain_id` None: for any chain (before EIP-155); `to` None: creates a contract."""

    sender: str
    chain_id: int | None
    to: str | None
    value: int
    hash: str


def read_raw(raw: bytes, where: str) -> RawTransaction:
    """Return what the bytes say. Raise `InvalidParams` naming `where` for anything else than one whole transaction."""
    kind = raw[0] if raw and raw[0] < 0x80 else _LEGACY
    if kind not in _FIELDS or not raw:
        raise InvalidParams(where, _EXPECTED, f"type {kind}" if raw else "nothing")
    count, place = _FIELDS[kind]
    try:
        fields = rlp.decode(raw[1:] if kind else raw)
        sender = eth_account().Account.recover_transaction(raw)
    except Exception as error:  # noqa: BLE001 - the decoders below raise errors of many kinds, all of them about the bytes
        raise InvalidParams(where, _EXPECTED, f"bytes that are none ({type(error).__name__})") from None
    if not isinstance(fields, list) or len(fields) != count:
        raise InvalidParams(where, _EXPECTED, "another number of fields")
    to, value = fields[place], fields[place + 1]
    return RawTransaction(
        sender=str(to_checksum_address(sender)),
        chain_id=int.from_bytes(fields[0], "big") if kind else _chain_of(int.from_bytes(fields[6], "big")),
        to=str(to_checksum_address(to)) if to else None,
        value=int.from_bytes(value, "big"),
        hash="0x" + keccak(raw).hex(),
    )


def _chain_of(v: int) -> int | None:
    """Return the chain id in a legacy transaction's `v` (EIP-155), None where it has none."""
    return (v - 35) // 2 if v >= 35 else None
