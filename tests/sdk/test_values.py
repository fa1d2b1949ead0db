"""ABI values between wire and Python: range, size, shape, and errors that name the place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l2proxy_sdk import values
from l2proxy_sdk.errors import ValueMismatch
from l2proxy_sdk.signatures import Param

POINT = (Param("x", "int64"), Param("y", "uint8"))


@given(bits=st.integers(1, 32).map(lambda n: n * 8), signed=st.booleans(), data=st.data())
def test_every_integer_in_range_survives_and_its_neighbours_do_not(
    bits: int, signed: bool, data: st.DataObject
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    declared = Param("n", f"{'' if signed else 'u'}int{bits}")
    number = data.draw(st.integers(low, high))
    wire = values.encode(declared, number)
    assert wire == hex(number)
    assert values.decode(declared, wire) == number
    assert values.decode(declared, str(number)) == number
    for outside in (low - 1, high + 1):
        for broken in (hex(outside), str(outside), outside):
            with pytest.raises(ValueMismatch):
                values.decode(declared, broken)
        with pytest.raises(ValueMismatch):
            values.encode(declared, outside)


@pytest.mark.parametrize(
    ("type_", "wire"),
    [
        ("uint256", "ten"),
        ("uint256", "0x"),
        ("uint256", ""),
        ("uint256", " 1"),
        ("uint256", "1_0"),
        ("uint256", "١"),
        ("uint256", True),
        ("uint256", 1.0),
        ("uint256", None),
        ("uint256", "0x1" + "0" * 64),
        ("address", "0x" + "1" * 39),
        ("address", "1" * 40),
        ("address", "0x" + "g" * 40),
        ("address", 5),
        ("bytes", "0x1"),
        ("bytes", "11"),
        ("bytes4", "0x112233"),
        ("bool", "true"),
        ("bool", 1),
        ("string", 5),
        ("uint8[]", "0x1"),
        ("uint8[2]", ["0x1"]),
        ("uint8[]", ["0x1", "0x100"]),
        ("tuple", {"x": "0x1"}),
        ("tuple", {"x": "0x1", "y": "0x1", "z": "0x1"}),
        ("tuple", ["0x1"]),
    ],
)
def test_wrong_wire_values_are_refused_by_name(type_: str, wire: Any) -> None:
    with pytest.raises(ValueMismatch, match="amount"):
        values.decode(Param("amount", type_, POINT if type_ == "tuple" else ()), wire)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("uint8", "0x1"),
        ("uint8", True),
        ("uint8", 1.0),
        ("bytes", "0x11"),
        ("bytes4", b"123"),
        ("bool", 1),
        ("string", b"a"),
    ],
)
def test_wrong_python_results_are_refused(type_: str, value: Any) -> None:
    with pytest.raises(ValueMismatch, match="result"):
        values.encode(Param("n", type_), value, "result")


def test_nested_values_and_the_place_of_a_mistake() -> None:
    declared = Param("rows", "tuple[][2]", POINT)
    wire = [[{"x": "-0x5", "y": "0x1"}], [["0x2", "0x3"]]]
    python = [[{"x": -5, "y": 1}], [{"x": 2, "y": 3}]]
    assert values.decode(declared, wire) == python
    assert values.encode(declared, python) == [[{"x": "-0x5", "y": "0x1"}], [{"x": "0x2", "y": "0x3"}]]
    with pytest.raises(ValueMismatch, match=r"rows\[1\]\[0\]\.y"):
        values.decode(declared, [[], [["0x2", "0x100"]]])


def test_gateway_arguments_by_python_type() -> None:
    assert values.loose([1, b"\x01", "0xab", True, None, [2], {"a": 3}]) == [
        "0x1",
        "0x01",
        "0xab",
        True,
        None,
        ["0x2"],
        {"a": "0x3"},
    ]
    with pytest.raises(ValueMismatch):
        values.loose(1.5)
