"""JSON values as they travel, for what a web3.py middleware made of them: bytes, mappings, tuples and quantities.

Used by web3_adapter.py alone, on decoded copies. Keeps integers of any size, which msgspec does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

ABSENT = object()


class Ambiguous(ValueError):
    """An object has a member twice, as some reader reads names: nobody knows which of the two another one takes."""


def decode_strictly(raw: bytes) -> Any:
    """Return the value of raw JSON. Raise `Ambiguous` for a member that stands twice whatever its case, as Go reads names."""
    return json.loads(raw, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name.casefold() for name, _ in pairs}) != len(pairs):
        raise Ambiguous
    return dict(pairs)


def decode(raw: bytes) -> Any:
    """Return the value of raw JSON. Raise `ValueError` or `RecursionError`."""
    return json.loads(raw)


def encode(value: Any) -> bytes:
    """Return compact raw JSON of a plain value. Raise `ValueError` for what JSON cannot say (inf), `TypeError` for a type."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def plain(value: Any, before: Any = ABSENT, *, quantities: bool = False) -> Any:
    """Return `value` in wire form; `before` is what stood in its place.

    Bytes become 0x data. An integer in the place of a 0x string becomes a quantity; with `quantities` (params) so does a new
    member of an object, such as a transaction's gas. Raise `TypeError` for a type that has no wire form.
    """
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        old = before if isinstance(before, Mapping) else {}
        return {
            str(key): hex(item)
            if quantities and key not in old and type(item) is int and item >= 0
            else plain(item, old.get(key, ABSENT), quantities=quantities)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | Set):
        olds = before if isinstance(before, list) else []
        return [
            plain(item, olds[index] if index < len(olds) else ABSENT, quantities=quantities)
            for index, item in enumerate(value)
        ]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return hex(value) if isinstance(before, str) and before.startswith("0x") else value
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no wire form")
