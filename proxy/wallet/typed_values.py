"""The values inside typed data: each checked against its type, turned into the one Python value that gets hashed.

Used by `typed_data` alone. A missing, superfluous or ill-typed member is an error that names its place; nothing is
guessed, padded or cut. Depth and the number of elements are bounded (hardening.md 28).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.address import is_checksum_address, to_checksum_address

from middleware.errors import InvalidParams

MAX_DEPTH = 8
MAX_ELEMENTS = 4096

NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,127}", re.ASCII)
_ARRAY = re.compile(r"(.+)\[(\d{0,4})\]", re.ASCII)
_INTEGER = re.compile(r"(u?)int(\d{0,3})", re.ASCII)
_BYTES = re.compile(r"bytes([1-9]|[12]\d|3[0-2])", re.ASCII)
_HEX_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,77})", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)


def core_type(kind: str) -> str:
    """Return `Person` for `Person[3][]`."""
    while match := _ARRAY.fullmatch(kind):
        kind = match[1]
    return kind


def is_elementary(kind: str) -> bool:
    """Tell whether `kind` is a Solidity type without brackets."""
    if kind in ("address", "bool", "string", "bytes") or _BYTES.fullmatch(kind):
        return True
    match = _INTEGER.fullmatch(kind)
    return match is not None and (not match[2] or (match[2] in _SIZES))


_SIZES = frozenset(str(bits) for bits in range(8, 257, 8))


class Reader:
    """Reads the values of one typed-data object; counts elements over all of it."""

    def __init__(self, types: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
        self._types = types
        self._elements = 0

    def struct(self, name: str, value: Any, where: str, depth: int) -> dict[str, Any]:
        """Return the members of a struct by name."""
        return self.members(self._types[name], value, where, depth + 1)

    def members(self, fields: Sequence[Mapping[str, str]], value: Any, where: str, depth: int) -> dict[str, Any]:
        """Return exactly the declared members. Raise `InvalidParams` for a missing or an undeclared one."""
        if not isinstance(value, dict):
            raise InvalidParams(where, "an object", value)
        names = [field["name"] for field in fields]
        for name in value:
            if name not in names:
                raise InvalidParams(
                    f"{where}.{name}"[:120], "only fields declared in types (others would not be signed)", name
                )
        for name in names:
            if name not in value:
                raise InvalidParams(f"{where}.{name}"[:120], "a value, for types declare it", "nothing")
        return {
            field["name"]: self._value(field["type"], value[field["name"]], f"{where}.{field['name']}", depth)
            for field in fields
        }

    def _value(self, kind: str, value: Any, where: str, depth: int) -> Any:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise InvalidParams(where, f"at most {MAX_ELEMENTS} elements altogether", "more")
        if depth > MAX_DEPTH:
            raise InvalidParams(where, f"values nested at most {MAX_DEPTH} deep", "deeper ones")
        array = _ARRAY.fullmatch(kind)
        if array is not None:
            return self._array(kind, array[1], array[2], value, where, depth)
        if kind in self._types:
            return self.struct(kind, value, where, depth)
        return _elementary(kind, value, where)

    def _array(self, kind: str, inner: str, size: str, value: Any, where: str, depth: int) -> list[Any]:
        if not isinstance(value, list) or (size and len(value) != int(size)):
            raise InvalidParams(where, kind, value)
        return [self._value(inner, item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]


def _elementary(kind: str, value: Any, where: str) -> Any:
    match kind:
        case "bool":
            if isinstance(value, bool):
                return value
        case "string":
            if isinstance(value, str) and _is_text(value):
                return value
        case "address":
            if isinstance(value, str) and _ADDRESS.fullmatch(value):
                return _address(value, where)
        case _ if kind.startswith("bytes"):
            if isinstance(value, str) and _DATA.fullmatch(value):
                data = bytes.fromhex(value[2:])
                if kind == "bytes" or len(data) == int(kind[5:]):
                    return data
        case _:
            return _integer(kind, value, where)
    raise InvalidParams(where, kind, value)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _address(value: str, where: str) -> str:
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
        raise InvalidParams(where, "an address with a right checksum (EIP-55)", value)
    return str(to_checksum_address(value))


def _integer(kind: str, value: Any, where: str) -> int:
    match = _INTEGER.fullmatch(kind)
    if match is None:
        raise InvalidParams(where, "a Solidity type", kind)
    if isinstance(value, str) and _HEX_NUMBER.fullmatch(value):
        number = int(value, 16)
    elif isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise InvalidParams(where, f"{kind} as integer, decimal or 0x text", value)
    bits = int(match[2] or "256")
    low, high = (0, 1 << bits) if match[1] else (-(1 << (bits - 1)), 1 << (bits - 1))
    if not low <= number < high:
        raise InvalidParams(where, f"{kind}, within its range", value)
    return number
