"""Solidity types as manifests write them: text to a parsed type, bounds checked once.

Everything that reads or writes typed values (`abi_values`, gateways, manifests) starts here. It must never accept a type
whose values could not be bounded: nesting and fixed lengths have limits.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from middleware.errors import shorten

MAX_NESTING = 8  # arrays and tuples inside one another
MAX_TEXT = 128
MAX_FIXED = 4096  # k of T[k], and elements of one value altogether

_ARRAY = re.compile(r"(.+)\[(\d{0,4})\]", re.ASCII | re.DOTALL)
_INTEGER = re.compile(r"u?int(\d{0,3})", re.ASCII)
_BYTES = re.compile(r"bytes(\d{0,2})", re.ASCII)


class AbiTypeError(ValueError):
    """A type that Solidity or this proxy does not have; the message names it."""


@functools.lru_cache(maxsize=4096)
def split_array(kind: str) -> tuple[str, int | None] | None:
    """Return (T, k) of `T[k]`, (T, None) of `T[]`, or None for what is no array."""
    match = _ARRAY.fullmatch(kind)
    if match is None:
        return None
    return match[1], int(match[2]) if match[2] else None


@functools.lru_cache(maxsize=4096)
def canonical(kind: str) -> str:
    """Return the elementary or array type with `uint` and `int` written out. Raises AbiTypeError. Tuples stay `tuple`."""
    if len(kind) > MAX_TEXT:
        raise AbiTypeError(f"{shorten(kind)!r} is no type: longer than {MAX_TEXT} characters")
    array = split_array(kind)
    if array is not None:
        inner, size = array
        if size is not None and not 1 <= size <= MAX_FIXED:
            raise AbiTypeError(f"{shorten(kind)!r}: a fixed array has 1 to {MAX_FIXED} elements")
        return canonical(inner) + (f"[{size}]" if size is not None else "[]")
    if kind in ("address", "bool", "string", "bytes", "tuple"):
        return kind
    if match := _INTEGER.fullmatch(kind):
        bits = match[1] or "256"
        if bits == str(int(bits)) and int(bits) % 8 == 0 and 8 <= int(bits) <= 256:
            return kind if match[1] else kind + "256"
    if (match := _BYTES.fullmatch(kind)) and match[1] == str(int(match[1])) and 1 <= int(match[1]) <= 32:
        return kind
    raise AbiTypeError(f"{shorten(kind)!r} is not a Solidity ABI type")


def check_declared(param: Mapping[str, Any], where: str, depth: int = 0) -> None:
    """Raise AbiTypeError unless `{name, type, components?}` declares a type within bounds."""
    kind = canonical(param["type"])
    while (array := split_array(kind)) is not None:
        depth += 1
        kind = array[0]
    if depth >= MAX_NESTING:
        raise AbiTypeError(f"{where}: nested deeper than {MAX_NESTING}")
    components = param.get("components") or []
    if (kind == "tuple") != bool(components):
        raise AbiTypeError(f"{where}: a tuple has components, and nothing else has")
    for component in components:
        check_declared(component, f"{where}.{component['name']}", depth + 1)


def signature_type(param: Mapping[str, Any]) -> str:
    """Return the type as it stands in a function signature: tuples as `(a,b)`."""
    kind = canonical(param["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(signature_type(component) for component in param.get("components") or [])
    return f"({inner})" + kind.removeprefix("tuple")
