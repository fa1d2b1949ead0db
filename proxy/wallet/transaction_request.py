"""The transaction object of `eth_sendTransaction`, read strictly: unknown members are errors, nothing is guessed.

Source: execution-apis GenericTransaction, less what this wallet does not sign: blobs, and EIP-7702 authorisations, which
hand an account to code and are refused (security.md 12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_checksum_address, to_checksum_address

from middleware.errors import InvalidParams
from proxy.wallet.fees import Wanted
from proxy.wallet.prepared import AccessList

MAX_DATA = 128 * 1024  # what nodes take in one transaction
MAX_ACCESS = 1024  # addresses and storage keys of an access list

_LOOSE = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_WORD = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)

_MEMBERS = frozenset(
    {"from", "to", "value", "data", "input", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "nonce"}
    | {"chainId", "type", "accessList"}
)
_REFUSED = {
    "authorizationList": "no EIP-7702 authorisation: it would hand the account to foreign code, and this wallet signs none",
    "blobVersionedHashes": "no blobs: this wallet signs no EIP-4844 transactions",
    "maxFeePerBlobGas": "no blobs: this wallet signs no EIP-4844 transactions",
    "blobs": "no blobs: this wallet signs no EIP-4844 transactions",
}


@dataclass(frozen=True, slots=True)
class TransactionRequest:
    """What a dapp asks to send; None where it leaves the choice to the wallet. `to` None: create a contract."""

    sender: str
    to: str | None
    value: int
    data: bytes
    gas: int | None
    wanted: Wanted
    nonce: int | None
    access_list: AccessList


def parse(given: Any, chain_id: int) -> TransactionRequest:
    """Return the request. Raise `InvalidParams` naming the member that cannot be."""
    if not isinstance(given, dict):
        raise InvalidParams("transaction", "an object", given)
    fields = {name: value for name, value in given.items() if value is not None}
    _refuse(fields)
    _check_chain(fields, chain_id)
    to = address(fields["to"], "to") if fields.get("to", "0x") != "0x" else None
    data = _calldata(fields)
    if to is None and not data:
        raise InvalidParams("to", "an address, or data that creates a contract", "neither")
    request = TransactionRequest(
        sender=address(fields.get("from"), "from"),
        to=to,
        value=_number(fields, "value", 256) or 0,
        data=data,
        gas=_number(fields, "gas", 63),
        wanted=_fees(fields),
        nonce=_number(fields, "nonce", 63),
        access_list=_access_list(fields.get("accessList", [])),
    )
    _check_type(fields, request)
    return request


def address(value: Any, where: str) -> str:
    """Return the checksummed address. Raise `InvalidParams`, also for a wrong checksum in mixed case (EIP-55)."""
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        raise InvalidParams(where, "an address, 0x and 40 hex digits", value)
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
        raise InvalidParams(where, "an address with a right checksum (EIP-55)", value)
    return str(to_checksum_address(value))


def _refuse(fields: dict[str, Any]) -> None:
    for name in fields:
        if name in _REFUSED:
            raise InvalidParams(name, _REFUSED[name], "one")
        if name not in _MEMBERS:
            raise InvalidParams(name[:64], f"one of {', '.join(sorted(_MEMBERS))}", name)


def _check_chain(fields: dict[str, Any], chain_id: int) -> None:
    named = _number(fields, "chainId", 64)
    if named is not None and named != chain_id:
        raise InvalidParams("chainId", f"{hex(chain_id)}, the chain this proxy serves", hex(named))


def _calldata(fields: dict[str, Any]) -> bytes:
    found = {name: fields[name] for name in ("data", "input") if name in fields}
    for name, value in found.items():
        if not isinstance(value, str) or _DATA.fullmatch(value) is None:
            raise InvalidParams(name, "data, 0x and an even number of hex digits", value)
    values = {value.lower() for value in found.values()}
    if len(values) > 1:
        raise InvalidParams("input", "the same as data", "other data")
    data = bytes.fromhex(values.pop()[2:]) if values else b""
    if len(data) > MAX_DATA:
        raise InvalidParams("data", f"at most {MAX_DATA} bytes", f"{len(data)} bytes")
    return data


def _fees(fields: dict[str, Any]) -> Wanted:
    names = ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
    price, max_fee, tip = (_number(fields, name, 128) for name in names)
    return Wanted(price, max_fee, tip, legacy=fields.get("type") in ("0x0", "0x00", "0x1", "0x01"))


def _number(fields: dict[str, Any], name: str, bits: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    # Leading zeros are refused by some nodes and written by some libraries; the value is the same.
    if not isinstance(value, str) or _LOOSE.fullmatch(value) is None:
        raise InvalidParams(name, "a 0x quantity", value)
    number = int(value, 16)
    if number >= 1 << bits:
        raise InvalidParams(name, f"a quantity below 2^{bits}", value)
    return number


def _access_list(value: Any) -> AccessList:
    if not isinstance(value, list):
        raise InvalidParams("accessList", "a list", value)
    entries, count = [], 0
    for place, entry in enumerate(value):
        where = f"accessList[{place}]"
        if not isinstance(entry, dict) or set(entry) != {"address", "storageKeys"}:
            raise InvalidParams(where, "an object of address and storageKeys", entry)
        keys = entry["storageKeys"]
        if not isinstance(keys, list) or not all(isinstance(key, str) and _WORD.fullmatch(key) for key in keys):
            raise InvalidParams(f"{where}.storageKeys", "a list of 32-byte words", keys)
        count += 1 + len(keys)
        entries.append((address(entry["address"], f"{where}.address"), tuple(keys)))
    if count > MAX_ACCESS:
        raise InvalidParams("accessList", f"at most {MAX_ACCESS} addresses and keys", str(count))
    return tuple(entries)


def _check_type(fields: dict[str, Any], request: TransactionRequest) -> None:
    kind = _number(fields, "type", 8)
    legacy = request.wanted.gas_price is not None
    dynamic = request.wanted.max_fee is not None or request.wanted.tip is not None
    fits = {None: True, 0: not dynamic and not request.access_list, 1: not dynamic, 2: not legacy}
    if not fits.get(kind, False):
        raise InvalidParams("type", "0x0, 0x1 or 0x2, fitting the fees and the access list", fields["type"])
