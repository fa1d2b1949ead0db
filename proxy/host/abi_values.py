"""JSON encodings of Solidity values: what callers and plugins may write, and the one form we write (rpc.md, "Layer 2").

Between the doors and the plugin: action parameters and results, and arguments of gateway functions, pass here. Accepted:
`0x` quantities, decimal strings and safe integers, negative ones as `-0x…`; written: `0x` quantities, checksummed
addresses, `0x` data. Nothing is rounded, cut or guessed; an error names the place (`params.orders[2].to`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.address import is_checksum_address, to_checksum_address

from middleware.errors import InvalidParams
from proxy.host.abi_types import MAX_FIXED, canonical, signature_type, split_array

SAFE = 2**53 - 1  # what every JSON parser carries exactly

_QUANTITY = re.compile(r"-?0x[0-9a-fA-F]{1,64}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,77})", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)

TypeJson = Mapping[str, Any]


def check(declared: TypeJson, value: Any, where: str) -> Any:
    """Return the Python value of a JSON value: int, bool, str (address checksummed), bytes, list, dict for a tuple.

    Raises InvalidParams naming the place below `where`.
    """
    return _Check().value(declared, canonical(declared["type"]), value, where)


def to_wire(declared: TypeJson, value: Any) -> Any:
    """Return the one JSON form of a value that `check` returned."""
    array = split_array(canonical(declared["type"]))
    if array is not None:
        item = {**declared, "type": array[0]}
        return [to_wire(item, entry) for entry in value]
    kind = declared["type"]
    if kind == "tuple":
        return {member["name"]: to_wire(member, value[member["name"]]) for member in declared["components"]}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value


def encode(types: Sequence[TypeJson], values: Sequence[Any]) -> bytes:
    """Return the ABI encoding of values that `check` returned."""
    from eth_abi.abi import encode as abi_encode  # takes long to import, and no command without a daemon encodes

    rows = [_positional(declared, value) for declared, value in zip(types, values, strict=True)]
    return bytes(abi_encode([signature_type(declared) for declared in types], rows))


def check_fields(declared: Sequence[TypeJson], given: Any, where: str) -> dict[str, Any]:
    """Return declared values in wire form by name; `given` is an array in declared order, an object, or absent when none is
    declared. Raises InvalidParams for missing, unknown or ill-typed ones.
    """
    named = _by_name(declared, given, where)
    checker = _Check()
    return {
        entry["name"]: to_wire(
            entry, checker.value(entry, canonical(entry["type"]), named[entry["name"]], f"{where}.{entry['name']}")
        )
        for entry in declared
    }


def _by_name(declared: Sequence[TypeJson], given: Any, where: str) -> Mapping[str, Any]:
    names = [entry["name"] for entry in declared]
    if given is None:
        given = []
    if isinstance(given, list):
        if len(given) != len(names):
            raise InvalidParams(where, f"{len(names)} values ({', '.join(names) or 'none'})", f"{len(given)} values")
        return dict(zip(names, given, strict=True))
    if not isinstance(given, dict):
        raise InvalidParams(where, "an array or an object", given)
    for name in names:
        if name not in given:
            raise InvalidParams(f"{where}.{name}", _typed(declared, name), "nothing")
    for name in given:
        if name not in names:
            raise InvalidParams(
                f"{where}.{name}"[:120], f"no such parameter; known: {', '.join(names) or 'none'}", name
            )
    return given


def _typed(declared: Sequence[TypeJson], name: str) -> str:
    return next(str(entry["type"]) for entry in declared if entry["name"] == name)


def _positional(declared: TypeJson, value: Any) -> Any:
    array = split_array(canonical(declared["type"]))
    if array is not None:
        item = {**declared, "type": array[0]}
        return [_positional(item, entry) for entry in value]
    if declared["type"] == "tuple":
        return tuple(_positional(member, value[member["name"]]) for member in declared["components"])
    return value


class _Check:
    """One checking of one list of values; counts elements over all of them."""

    def __init__(self) -> None:
        self._elements = 0

    def value(self, declared: TypeJson, kind: str, value: Any, where: str) -> Any:
        self._elements += 1
        if self._elements > MAX_FIXED:
            raise InvalidParams(where, f"at most {MAX_FIXED} elements altogether", "more")
        array = split_array(kind)
        if array is not None:
            return self._items(declared, kind, array, value, where)
        if kind == "tuple":
            return self._members(declared, value, where)
        return _elementary(kind, value, where)

    def _items(self, declared: TypeJson, kind: str, array: tuple[str, int | None], value: Any, where: str) -> list[Any]:
        inner, size = array
        if not isinstance(value, list):
            raise InvalidParams(where, kind, value)
        if size is not None and len(value) != size:
            raise InvalidParams(where, f"{kind}, {size} elements", f"{len(value)} elements")
        return [self.value(declared, inner, entry, f"{where}[{index}]") for index, entry in enumerate(value)]

    def _members(self, declared: TypeJson, value: Any, where: str) -> dict[str, Any]:
        members = declared["components"]
        named = _by_name(members, value if value is not None else "null", where)
        return {
            member["name"]: self.value(
                member, canonical(member["type"]), named[member["name"]], f"{where}.{member['name']}"
            )
            for member in members
        }


def _elementary(kind: str, value: Any, where: str) -> Any:
    if kind == "bool":
        if isinstance(value, bool):
            return value
        raise InvalidParams(where, "bool", value)
    if kind.startswith(("uint", "int")):
        return _integer(kind, value, where)
    if not isinstance(value, str):
        raise InvalidParams(where, kind, value)
    if kind == "address":
        return check_address(value, where)
    if kind == "string":
        return _text(value, where)
    return _data(kind, value, where)


def check_address(value: Any, where: str) -> str:
    """Return the checksummed address; a wrong checksum in mixed case is refused (EIP-55). Raises InvalidParams."""
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        raise InvalidParams(where, "address, 0x and 40 hex digits", value)
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
        raise InvalidParams(where, "address with a right checksum (EIP-55)", value)
    return str(to_checksum_address(value))


def check_integer(value: Any, where: str, kind: str = "uint256") -> int:
    """Return the integer of a quantity, decimal string or safe integer within the range of `kind`. Raises InvalidParams."""
    return _integer(canonical(kind), value, where)


def _integer(kind: str, value: Any, where: str) -> int:
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        number = int(value, 16)
    elif isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        if not -SAFE <= value <= SAFE:
            raise InvalidParams(
                where, f"{kind} as 0x quantity or decimal string, for it is no safe integer", "a number"
            )
        number = value
    else:
        raise InvalidParams(where, f"{kind} as 0x quantity, decimal string or safe integer", value)
    bits = int(kind.removeprefix("u").removeprefix("int"))
    low, high = (0, 1 << bits) if kind.startswith("u") else (-(1 << (bits - 1)), 1 << (bits - 1))
    if not low <= number < high:
        raise InvalidParams(where, f"{kind}, within its range", value)
    return number


def _text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidParams(where, "string without lone surrogates", "one with") from None
    return value


def _data(kind: str, value: str, where: str) -> bytes:
    if _DATA.fullmatch(value) is None:
        raise InvalidParams(where, f"{kind}, 0x and an even number of hex digits", value)
    data = bytes.fromhex(value[2:])
    size = kind.removeprefix("bytes")
    if size and len(data) != int(size):
        raise InvalidParams(where, kind, f"{len(data)} bytes")
    return data
