"""JSON encodings of Solidity values: accepted forms, the one written form, and errors that name the place."""

from __future__ import annotations

from typing import Any

import eth_abi.abi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.errors import InvalidParams
from proxy.host.abi_values import check, check_fields, encode, to_wire

PAIR = {"name": "p", "type": "tuple", "components": [{"name": "a", "type": "int8"}, {"name": "b", "type": "bytes2"}]}


def wire(kind: str, value: Any) -> Any:
    declared = {"name": "v", "type": kind}
    return to_wire(declared, check(declared, value, "v"))


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("uint256", "0x0a", "0xa"),
        ("uint", 5, "0x5"),
        ("uint256", str(2**256 - 1), hex(2**256 - 1)),
        ("int8", "-0x80", "-0x80"),
        ("int8", "-128", "-0x80"),
        ("int256", -1, "-0x1"),
        ("bool", True, True),
        ("address", "0x" + "AB" * 20, "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"),
        ("bytes", "0x", "0x"),
        ("bytes2", "0xAbCd", "0xabcd"),
        ("string", "é\0", "é\0"),
        ("uint8[]", [1, "2", "0x3"], ["0x1", "0x2", "0x3"]),
        ("uint8[2][]", [[1, 2]], [["0x1", "0x2"]]),
    ],
)
def test_accepted_forms_are_written_in_one(kind: str, value: Any, written: Any) -> None:
    assert wire(kind, value) == written


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("int8", 128),
        ("int8", "-129"),
        ("uint256", 2**53),
        ("uint256", 1.0),
        ("uint256", True),
        ("uint256", None),
        ("uint256", ""),
        ("uint256", "0x"),
        ("uint256", "010"),
        ("uint256", " 1"),
        ("uint256", "1_000"),
        ("uint256", "٣"),
        ("uint256", "0X1"),
        ("uint256", "1e3"),
        ("uint256", "--1"),
        ("uint256", "0x" + "f" * 65),
        ("uint256", "9" * 1000),
        ("bool", 1),
        ("bool", "true"),
        ("address", "0x12"),
        ("address", "0xABaBaBaBABabABabAbAbABAbABabababaBaBABab"),
        ("address", 5),
        ("bytes2", "0xab"),
        ("bytes", "0xa"),
        ("bytes", "ab"),
        ("bytes", [1]),
        ("string", 5),
        ("string", "\ud800"),
        ("uint8[2]", [1]),
        ("uint8[]", "0x01"),
        ("uint8[]", [1] * 4097),
    ],
)
def test_everything_else_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(InvalidParams):
        wire(kind, value)


def test_errors_name_the_place() -> None:
    for value, place in (
        ({"p": [[1, "0x0000"], [1, 2]]}, "params.p[1].b"),
        ({"p": [[1, "0x0000"], {"a": 1}]}, "params.p[1].b"),
        ({"p": [], "q": 1}, "params.q"),
        ({}, "params.p"),
        ([], "params"),
        (7, "params"),
    ):
        with pytest.raises(InvalidParams) as caught:
            check_fields([{**PAIR, "type": "tuple[]"}], value, "params")
        assert caught.value.data["param"] == place
        assert caught.value.data.keys() == {"param", "expected", "got"}


def test_tuples_by_name_or_position() -> None:
    assert wire_pair({"a": -1, "b": "0x0001"}) == wire_pair([-1, "0x0001"]) == {"a": "-0x1", "b": "0x0001"}


def wire_pair(value: Any) -> Any:
    return to_wire(PAIR, check(PAIR, value, "p"))


@given(
    st.integers(0, 2**256 - 1), st.binary(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
def test_encoding_is_solidity_s(number: int, data: bytes, text: str) -> None:
    types = [{"name": n, "type": kind} for n, kind in (("a", "uint256"), ("b", "bytes"), ("c", "string[]"))]
    given_values = [str(number), "0x" + data.hex(), [text]]
    checked = [check(kind, value, "v") for kind, value in zip(types, given_values, strict=True)]
    assert encode(types, checked) == eth_abi.abi.encode(["uint256", "bytes", "string[]"], [number, data, [text]])
    assert [check(kind, to_wire(kind, value), "v") for kind, value in zip(types, checked, strict=True)] == checked
