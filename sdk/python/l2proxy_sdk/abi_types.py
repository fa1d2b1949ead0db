"""ABI types for annotations: plain Python types that carry their Solidity name.

`value: Uint256` is an `int` to Python and mypy, and `uint256` to the manifest. Arrays are `list[T]`; a fixed length is
`Annotated[list[T], Length(3)]`; tuples are TypedDicts. Values: integers as int, address as a 0x string, bytesN as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias


@dataclass(frozen=True)
class AbiType:
    """The Solidity name an annotation stands for."""

    name: str


@dataclass(frozen=True)
class Length:
    """Makes `list[T]` the fixed array `T[size]`."""

    size: int


Address: TypeAlias = Annotated[str, AbiType("address")]
Bool: TypeAlias = Annotated[bool, AbiType("bool")]
String: TypeAlias = Annotated[str, AbiType("string")]
Bytes: TypeAlias = Annotated[bytes, AbiType("bytes")]

Uint8: TypeAlias = Annotated[int, AbiType("uint8")]
Uint16: TypeAlias = Annotated[int, AbiType("uint16")]
Uint24: TypeAlias = Annotated[int, AbiType("uint24")]
Uint32: TypeAlias = Annotated[int, AbiType("uint32")]
Uint40: TypeAlias = Annotated[int, AbiType("uint40")]
Uint48: TypeAlias = Annotated[int, AbiType("uint48")]
Uint56: TypeAlias = Annotated[int, AbiType("uint56")]
Uint64: TypeAlias = Annotated[int, AbiType("uint64")]
Uint72: TypeAlias = Annotated[int, AbiType("uint72")]
Uint80: TypeAlias = Annotated[int, AbiType("uint80")]
Uint88: TypeAlias = Annotated[int, AbiType("uint88")]
Uint96: TypeAlias = Annotated[int, AbiType("uint96")]
Uint104: TypeAlias = Annotated[int, AbiType("uint104")]
Uint112: TypeAlias = Annotated[int, AbiType("uint112")]
Uint120: TypeAlias = Annotated[int, AbiType("uint120")]
Uint128: TypeAlias = Annotated[int, AbiType("uint128")]
Uint136: TypeAlias = Annotated[int, AbiType("uint136")]
Uint144: TypeAlias = Annotated[int, AbiType("uint144")]
Uint152: TypeAlias = Annotated[int, AbiType("uint152")]
Uint160: TypeAlias = Annotated[int, AbiType("uint160")]
Uint168: TypeAlias = Annotated[int, AbiType("uint168")]
Uint176: TypeAlias = Annotated[int, AbiType("uint176")]
Uint184: TypeAlias = Annotated[int, AbiType("uint184")]
Uint192: TypeAlias = Annotated[int, AbiType("uint192")]
Uint200: TypeAlias = Annotated[int, AbiType("uint200")]
Uint208: TypeAlias = Annotated[int, AbiType("uint208")]
Uint216: TypeAlias = Annotated[int, AbiType("uint216")]
Uint224: TypeAlias = Annotated[int, AbiType("uint224")]
Uint232: TypeAlias = Annotated[int, AbiType("uint232")]
Uint240: TypeAlias = Annotated[int, AbiType("uint240")]
Uint248: TypeAlias = Annotated[int, AbiType("uint248")]
Uint256: TypeAlias = Annotated[int, AbiType("uint256")]

Int8: TypeAlias = Annotated[int, AbiType("int8")]
Int16: TypeAlias = Annotated[int, AbiType("int16")]
Int24: TypeAlias = Annotated[int, AbiType("int24")]
Int32: TypeAlias = Annotated[int, AbiType("int32")]
Int40: TypeAlias = Annotated[int, AbiType("int40")]
Int48: TypeAlias = Annotated[int, AbiType("int48")]
Int56: TypeAlias = Annotated[int, AbiType("int56")]
Int64: TypeAlias = Annotated[int, AbiType("int64")]
Int72: TypeAlias = Annotated[int, AbiType("int72")]
Int80: TypeAlias = Annotated[int, AbiType("int80")]
Int88: TypeAlias = Annotated[int, AbiType("int88")]
Int96: TypeAlias = Annotated[int, AbiType("int96")]
Int104: TypeAlias = Annotated[int, AbiType("int104")]
Int112: TypeAlias = Annotated[int, AbiType("int112")]
Int120: TypeAlias = Annotated[int, AbiType("int120")]
Int128: TypeAlias = Annotated[int, AbiType("int128")]
Int136: TypeAlias = Annotated[int, AbiType("int136")]
Int144: TypeAlias = Annotated[int, AbiType("int144")]
Int152: TypeAlias = Annotated[int, AbiType("int152")]
Int160: TypeAlias = Annotated[int, AbiType("int160")]
Int168: TypeAlias = Annotated[int, AbiType("int168")]
Int176: TypeAlias = Annotated[int, AbiType("int176")]
Int184: TypeAlias = Annotated[int, AbiType("int184")]
Int192: TypeAlias = Annotated[int, AbiType("int192")]
Int200: TypeAlias = Annotated[int, AbiType("int200")]
Int208: TypeAlias = Annotated[int, AbiType("int208")]
Int216: TypeAlias = Annotated[int, AbiType("int216")]
Int224: TypeAlias = Annotated[int, AbiType("int224")]
Int232: TypeAlias = Annotated[int, AbiType("int232")]
Int240: TypeAlias = Annotated[int, AbiType("int240")]
Int248: TypeAlias = Annotated[int, AbiType("int248")]
Int256: TypeAlias = Annotated[int, AbiType("int256")]

Bytes1: TypeAlias = Annotated[bytes, AbiType("bytes1")]
Bytes2: TypeAlias = Annotated[bytes, AbiType("bytes2")]
Bytes3: TypeAlias = Annotated[bytes, AbiType("bytes3")]
Bytes4: TypeAlias = Annotated[bytes, AbiType("bytes4")]
Bytes5: TypeAlias = Annotated[bytes, AbiType("bytes5")]
Bytes6: TypeAlias = Annotated[bytes, AbiType("bytes6")]
Bytes7: TypeAlias = Annotated[bytes, AbiType("bytes7")]
Bytes8: TypeAlias = Annotated[bytes, AbiType("bytes8")]
Bytes9: TypeAlias = Annotated[bytes, AbiType("bytes9")]
Bytes10: TypeAlias = Annotated[bytes, AbiType("bytes10")]
Bytes11: TypeAlias = Annotated[bytes, AbiType("bytes11")]
Bytes12: TypeAlias = Annotated[bytes, AbiType("bytes12")]
Bytes13: TypeAlias = Annotated[bytes, AbiType("bytes13")]
Bytes14: TypeAlias = Annotated[bytes, AbiType("bytes14")]
Bytes15: TypeAlias = Annotated[bytes, AbiType("bytes15")]
Bytes16: TypeAlias = Annotated[bytes, AbiType("bytes16")]
Bytes17: TypeAlias = Annotated[bytes, AbiType("bytes17")]
Bytes18: TypeAlias = Annotated[bytes, AbiType("bytes18")]
Bytes19: TypeAlias = Annotated[bytes, AbiType("bytes19")]
Bytes20: TypeAlias = Annotated[bytes, AbiType("bytes20")]
Bytes21: TypeAlias = Annotated[bytes, AbiType("bytes21")]
Bytes22: TypeAlias = Annotated[bytes, AbiType("bytes22")]
Bytes23: TypeAlias = Annotated[bytes, AbiType("bytes23")]
Bytes24: TypeAlias = Annotated[bytes, AbiType("bytes24")]
Bytes25: TypeAlias = Annotated[bytes, AbiType("bytes25")]
Bytes26: TypeAlias = Annotated[bytes, AbiType("bytes26")]
Bytes27: TypeAlias = Annotated[bytes, AbiType("bytes27")]
Bytes28: TypeAlias = Annotated[bytes, AbiType("bytes28")]
Bytes29: TypeAlias = Annotated[bytes, AbiType("bytes29")]
Bytes30: TypeAlias = Annotated[bytes, AbiType("bytes30")]
Bytes31: TypeAlias = Annotated[bytes, AbiType("bytes31")]
Bytes32: TypeAlias = Annotated[bytes, AbiType("bytes32")]
