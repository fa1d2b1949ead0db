"""A gateway's logs in JSON terms: the topic of an event, and the arguments of one log by name.

Read by `gateway_events` (what is locked) and `operation_waits` (what a plan waits for). A log that does not decode exactly
has no arguments; whoever reads one must not guess. Sources: Solidity ABI, "Events"; hardening.md 28 for the bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from proxy.host.abi_types import signature_type

MAX_LOG = 64 * 1024  # bytes of one log's data that are decoded

_HASHED = ("string", "bytes")  # indexed, these are only there as hashes; so are arrays and tuples

Inputs = Sequence[Mapping[str, Any]]


def topic_of(entry: Mapping[str, Any]) -> str:
    """Return the first topic of an ABI event's logs."""
    types = ",".join(signature_type(declared) for declared in entry["inputs"])
    return "0x" + bytes(keccak(text=f"{entry['name']}({types})")).hex()


def is_plain(declared: Mapping[str, Any]) -> bool:
    """Tell whether an argument is one value, and readable in a log: no array, no tuple, no hash of itself."""
    kind = signature_type(declared)
    if kind.endswith("]") or kind.startswith("("):
        return False
    return not (declared.get("indexed") and kind in _HASHED)


def arguments_of(inputs: Inputs, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a log's plain arguments in wire form by name, None where it does not decode exactly."""
    indexed = [declared for declared in inputs if declared.get("indexed")]
    inside = [declared for declared in inputs if not declared.get("indexed")]
    topics, data = row["topics"][1:], bytes.fromhex(row["data"][2:])
    if len(topics) != len(indexed) or len(data) > MAX_LOG:
        return None
    found: dict[str, Any] = {}
    try:
        values = abi_decode([signature_type(declared) for declared in inside], data)
        for declared, value in zip(inside, values, strict=True):
            if is_plain(declared):
                found[declared.get("name") or ""] = _wire(declared, value)
        for declared, topic in zip(indexed, topics, strict=True):
            if is_plain(declared):
                (value,) = abi_decode([signature_type(declared)], bytes.fromhex(topic[2:]))
                found[declared.get("name") or ""] = _wire(declared, value)
    except (DecodingError, OverflowError, ValueError):
        return None
    return found


def _wire(declared: Mapping[str, Any], value: Any) -> Any:
    """Return a decoded plain value as it is written everywhere else."""
    if signature_type(declared) == "address":
        return str(to_checksum_address(value))
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value
