"""Values of declared ABI types: from the wire to Python and back (rpc.md, "Layer 2").

Integers travel as 0x quantities (negative ones as -0x…), bytes as 0x data. Both directions check type and range; what does
not fit raises ValueMismatch, which names the place. Nothing is rounded, cut or guessed.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import ValueMismatch
from .signatures import Param

_ARRAY = re.compile(r"(.*)\[(\d*)\]", re.DOTALL)
_QUANTITY = re.compile(r"-?0x[0-9a-fA-F]{1,64}|-?[0-9]{1,78}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)


def decode(declared: Param, value: Any, where: str | None = None) -> Any:
    """Return the Python value of a wire value."""
    where = where or declared.name
    if match := _ARRAY.fullmatch(declared.type):
        return _items(declared, match, value, where, decode)
    kind = declared.type
    if kind == "tuple":
        return _tuple(declared, value, where, decode)
    if kind.startswith(("uint", "int")):
        return _decode_integer(kind, value, where)
    if kind.startswith("bytes"):
        if not isinstance(value, str) or not _DATA.fullmatch(value):
            raise ValueMismatch(where, kind, value)
        return _sized(kind, bytes.fromhex(value[2:]), where)
    return _unchanged(kind, value, where)


def encode(declared: Param, value: Any, where: str | None = None) -> Any:
    """Return the wire value of a Python value."""
    where = where or declared.name
    if match := _ARRAY.fullmatch(declared.type):
        return _items(declared, match, value, where, encode)
    kind = declared.type
    if kind == "tuple":
        return _tuple(declared, value, where, encode)
    if kind.startswith(("uint", "int")):
        if type(value) is not int:
            raise ValueMismatch(where, kind, value)
        return hex(_in_range(kind, value, where))
    if kind.startswith("bytes"):
        if not isinstance(value, bytes | bytearray):
            raise ValueMismatch(where, kind, value)
        return "0x" + _sized(kind, bytes(value), where).hex()
    return _unchanged(kind, value, where)


def encode_fields(declared: tuple[Param, ...], value: Any, where: str) -> dict[str, Any]:
    """Return an object keyed by the declared names. Missing and unknown names raise ValueMismatch."""
    if not isinstance(value, dict) or value.keys() != {field.name for field in declared}:
        raise ValueMismatch(where, "an object with " + ", ".join(field.name for field in declared), value)
    return {field.name: encode(field, value[field.name], f"{where}.{field.name}") for field in declared}


def decode_fields(declared: tuple[Param, ...], value: Any, where: str) -> dict[str, Any]:
    """Return Python values by name. Missing and unknown names raise ValueMismatch."""
    if not isinstance(value, dict) or value.keys() != {field.name for field in declared}:
        raise ValueMismatch(where, "an object with " + ", ".join(field.name for field in declared), value)
    return {field.name: decode(field, value[field.name], f"{where}.{field.name}") for field in declared}


def loose(value: Any) -> Any:
    """Return a gateway argument in wire form by its Python type: int to a quantity, bytes to data, lists item by item."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, bytes | bytearray):
        return "0x" + value.hex()
    if isinstance(value, list | tuple):
        return [loose(item) for item in value]
    if isinstance(value, dict):
        return {str(key): loose(item) for key, item in value.items()}
    raise ValueMismatch("argument", "int, str, bytes, bool, list or dict", value)


def quantity(value: Any, where: str = "quantity") -> int:
    """Return the integer of a 0x quantity, a decimal string or an int."""
    return _decode_integer("int512", value, where)


def _items(declared: Param, match: re.Match[str], value: Any, where: str, convert: Any) -> list[Any]:
    inner, size = match[1], match[2]
    if not isinstance(value, list | tuple) or (size and len(value) != int(size)):
        raise ValueMismatch(where, declared.type, value)
    item = Param(declared.name, inner, declared.components)
    return [convert(item, entry, f"{where}[{index}]") for index, entry in enumerate(value)]


def _tuple(declared: Param, value: Any, where: str, convert: Any) -> dict[str, Any]:
    if isinstance(value, list | tuple) and len(value) == len(declared.components):
        value = {field.name: entry for field, entry in zip(declared.components, value, strict=True)}
    if not isinstance(value, dict) or value.keys() != {field.name for field in declared.components}:
        raise ValueMismatch(where, "a tuple of " + ", ".join(f.name for f in declared.components), value)
    return {field.name: convert(field, value[field.name], f"{where}.{field.name}") for field in declared.components}


def _decode_integer(kind: str, value: Any, where: str) -> int:
    if type(value) is int:
        return _in_range(kind, value, where)
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ValueMismatch(where, kind, value)
    return _in_range(kind, int(value, 16 if "x" in value else 10), where)


def _in_range(kind: str, value: int, where: str) -> int:
    signed = kind.startswith("int")
    bits = int(kind.removeprefix("u").removeprefix("int") or 256)
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    if not low <= value < high:
        raise ValueMismatch(where, kind, value)
    return value


def _sized(kind: str, value: bytes, where: str) -> bytes:
    size = kind.removeprefix("bytes")
    if size and len(value) != int(size):
        raise ValueMismatch(where, kind, value)
    return value


def _unchanged(kind: str, value: Any, where: str) -> Any:
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "address" and isinstance(value, str) and _ADDRESS.fullmatch(value):
        return value
    raise ValueMismatch(where, kind, value)
