"""A gateway's logs in JSON terms: the topic of an event, and the plain arguments of one log by name.

Read by `gateway_events` (what is locked) and `operation_waits` (what a plan waits for). Only single values are decoded, each from
its own place; arrays and tuples are stepped over, for a contract can make decoding them take seconds (hardening.md 28). A log
whose plain values do not decode exactly has no arguments; whoever reads one must not guess. Source: Solidity ABI, "Events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from proxy.host.abi_types import canonical, signature_type, split_array

MAX_LOG = 64 * 1024  # bytes of one log's data that are looked at
WORD = 32

_DYNAMIC = ("string", "bytes")  # indexed, these are only there as hashes; so are arrays and tuples

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
    return not (declared.get("indexed") and kind in _DYNAMIC)


def arguments_of(inputs: Inputs, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a log's plain arguments in wire form by name, None where they do not decode exactly."""
    indexed = [declared for declared in inputs if declared.get("indexed")]
    topics, data = row["topics"][1:], bytes.fromhex(row["data"][2:])
    if len(topics) != len(indexed) or len(data) > MAX_LOG:
        return None
    found: dict[str, Any] = {}
    from eth_abi.exceptions import DecodingError

    try:
        for declared, topic in zip(indexed, topics, strict=True):
            if is_plain(declared):
                found[declared.get("name") or ""] = _static(declared, bytes.fromhex(topic[2:]))
        place = 0
        for declared in (declared for declared in inputs if not declared.get("indexed")):
            words = _words(declared)
            if is_plain(declared):
                value = _static(declared, data[place:]) if words else _text(declared, data, place)
                found[declared.get("name") or ""] = value
            place += WORD * (words or 1)
    except (DecodingError, OverflowError, ValueError):
        return None
    return found if place <= len(data) else None


def _words(declared: Mapping[str, Any]) -> int:
    """Return how many words a value takes where it stands, 0 where there is only a pointer to it."""
    kind = canonical(declared["type"])
    array = split_array(kind)
    if array is not None:
        return _words({**declared, "type": array[0]}) * (array[1] or 0)
    if kind == "tuple":
        members = [_words(component) for component in declared["components"]]
        return sum(members) if all(members) else 0
    return 0 if kind in _DYNAMIC else 1


def _static(declared: Mapping[str, Any], data: bytes) -> Any:
    """Return the value in the first word, as it is written everywhere else. Raise where it does not fit its type."""
    from eth_abi.abi import decode as abi_decode  # takes long to import, and a command without a daemon reads no logs

    (value,) = abi_decode([signature_type(declared)], data[:WORD])
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return str(to_checksum_address(value)) if isinstance(value, str) else value


def _text(declared: Mapping[str, Any], data: bytes, place: int) -> str:
    """Return the string or bytes to which the word at `place` points. Raise ValueError where there is none."""
    start = _number(data, place)
    size = _number(data, start)
    value = data[start + WORD : start + WORD + size]
    if len(value) != size:
        raise ValueError("the data ends before the value does")
    return value.decode("utf-8") if signature_type(declared) == "string" else "0x" + value.hex()


def _number(data: bytes, place: int) -> int:
    if not 0 <= place <= len(data) - WORD:
        raise ValueError("there is no such place in the data")
    return int.from_bytes(data[place : place + WORD], "big")
