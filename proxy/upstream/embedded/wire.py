"""Values in Ethereum's JSON-RPC wire form: quantities and data.

Source: execution-apis, "Hex encoding": quantities have no leading zeros and zero is 0x0; data keeps every byte.
"""

from __future__ import annotations

Wire = dict[str, object]
"""One JSON object in wire form: camelCase names, quantities and data as strings."""


def quantity(value: int) -> str:
    """Encode an integer as a quantity."""
    return hex(value)


def data(value: bytes) -> str:
    """Encode bytes as data."""
    return "0x" + value.hex()


def word(value: int) -> str:
    """Encode an integer as 32 bytes of data."""
    return f"0x{value:064x}"


def address_or_null(value: bytes) -> str | None:
    """Encode an address; the empty recipient of a contract creation is null."""
    return data(value) if value else None
