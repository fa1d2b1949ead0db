"""Parameters of JSON-RPC calls: from JSON values to Python values, or a refusal that names the parameter.

`dispatch` calls `bind` with a method's declared parameters before the method runs, so methods see only checked values.
Source: execution-apis base types; limits and wording after go-ethereum's hexutil.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.upstream.embedded.errors import NodeError, invalid_params

TAGS: Final = ("latest", "earliest", "pending", "safe", "finalized")

BlockRef = str | int | bytes
"""A block as asked for: a tag, a number, or a 32-byte hash."""

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]*)\Z")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*\Z")
_REQUIRED: Final = object()
_SHOWN = 80


@dataclass(frozen=True)
class Param:
    """One declared parameter: its name for messages, how it is read, and its value when absent."""

    name: str
    decode: Callable[[Any], Any]
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """Tell whether a call without this parameter is refused."""
        return self.default is _REQUIRED


def bind(declared: Sequence[Param], given: object) -> list[Any]:
    """Match `given` (a JSON array, or None for none) with the declared parameters.

    Raises NodeError -32602 for a missing, superfluous or malformed parameter.
    """
    values = [] if given is None else given
    if not isinstance(values, list):
        raise invalid_params("params must be an array; this node takes no parameters by name")
    if len(values) > len(declared):
        raise invalid_params(f"too many arguments, want at most {len(declared)}")
    return [_read(position, param, values) for position, param in enumerate(declared)]


def _read(position: int, param: Param, values: Sequence[Any]) -> Any:
    value = values[position] if position < len(values) else None
    if value is None:
        if param.required:
            raise invalid_params(f"missing value for required argument {position} ({param.name})")
        return param.default
    try:
        return param.decode(value)
    except NodeError as error:
        raise invalid_params(f"invalid argument {position} ({param.name}): {error.message}") from None


def shown(value: object) -> str:
    """Write a caller's value for a message, shortened."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _expected(what: str, value: object) -> NodeError:
    return invalid_params(f"expected {what}, got {shown(value)}")


def quantity(value: Any, bits: int = 256) -> int:
    """Read a 0x quantity without leading zeros that fits `bits`."""
    if not isinstance(value, str) or not _QUANTITY.match(value):
        raise _expected("a 0x quantity without leading zeros", value)
    number = int(value, 16)
    if number >> bits:
        raise _expected(f"a quantity of at most {bits} bits", value)
    return number


def uint64(value: Any) -> int:
    """Read a quantity of at most 64 bits."""
    return quantity(value, 64)


def loose_integer(value: Any) -> int:
    """Read what development tools send for numbers: a JSON number, a decimal string or a quantity."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78:
        return int(value)
    if isinstance(value, str) and re.match(r"0x[0-9a-fA-F]{1,64}\Z", value):
        return int(value, 16)
    raise _expected("a non-negative number or a 0x quantity", value)


def data(value: Any) -> bytes:
    """Read 0x data of any length."""
    if not isinstance(value, str) or not _DATA.match(value):
        raise _expected("0x data with an even number of hex digits", value)
    return bytes.fromhex(value[2:])


def fixed(size: int, what: str) -> Callable[[Any], bytes]:
    """Make a reader for 0x data of exactly `size` bytes, called `what` in messages."""

    def read(value: Any) -> bytes:
        if not isinstance(value, str) or len(value) != 2 + 2 * size or not _DATA.match(value):
            raise _expected(f"{what} ({size} bytes of 0x data)", value)
        return bytes.fromhex(value[2:])

    return read


address = fixed(20, "an address")
hash32 = fixed(32, "a hash")


def storage_slot(value: Any) -> int:
    """Read a storage position: hex of at most 32 bytes; leading zeros are allowed, as every client sends them."""
    if not isinstance(value, str) or not re.match(r"0x[0-9a-fA-F]*\Z", value):
        raise _expected("a storage position as 0x hex", value)
    if len(value) > 66:
        raise invalid_params(f"storage key too long (want at most 32 bytes): {shown(value)}")
    return int(value[2:] or "0", 16)


def boolean(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def block_tag_or_number(value: Any) -> BlockRef:
    """Read a block tag or number."""
    if value in TAGS and isinstance(value, str):
        return value
    try:
        return uint64(value)
    except NodeError:
        raise _expected(f"a block number as 0x quantity, or one of {', '.join(TAGS)}", value) from None


def block(value: Any) -> BlockRef:
    """Read a block tag, number, hash, or EIP-1898 object."""
    if isinstance(value, Mapping):
        return _block_object(value)
    if isinstance(value, str) and len(value) == 66:
        return hash32(value)
    return block_tag_or_number(value)


def _block_object(value: Mapping[str, Any]) -> BlockRef:
    given = [key for key in ("blockNumber", "blockHash") if value.get(key) is not None]
    if len(given) != 1:
        raise _expected("an object with either blockNumber or blockHash", dict(value))
    return hash32(value["blockHash"]) if given == ["blockHash"] else block_tag_or_number(value["blockNumber"])
