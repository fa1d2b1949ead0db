"""Wire form of what web3.py middlewares make of JSON values."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

import pytest
from hexbytes import HexBytes
from web3.datastructures import AttributeDict

from middleware.wire import decode, encode, plain


def test_bytes_and_mappings() -> None:
    value = AttributeDict(
        {"a": HexBytes("0x0102"), "b": (1, b"\x00", None), "c": OrderedDict(x=True), "d": HexBytes("0x")}
    )
    assert plain(value) == {"a": "0x0102", "b": [1, "0x00", None], "c": {"x": True}, "d": "0x"}


def test_an_integer_where_a_quantity_stood_is_a_quantity_again() -> None:
    assert plain({"number": 18, "gas": 21000, "new": 5}, {"number": "0x12", "gas": 21000}) == {
        "number": "0x12",
        "gas": 21000,
        "new": 5,
    }
    assert plain([1, 2], ["0x1"]) == ["0x1", 2]
    assert plain(0, "0x0") == "0x0"
    assert plain(True, "0x1") is True


def test_a_new_member_of_an_object_in_params_is_a_quantity() -> None:
    before = [{"to": "0x", "n": 1}, 4]
    after = [{"to": "0x", "n": 1, "gas": 100_000, "access": True}, 4, 5]
    assert plain(after, before, quantities=True) == [{"to": "0x", "n": 1, "gas": "0x186a0", "access": True}, 4, 5]


def test_integers_of_any_size_survive() -> None:
    raw = b'[123456789012345678901234567890,1.5,"\xc3\xa9"]'
    assert encode(plain(decode(raw))) == raw


@pytest.mark.parametrize("value", [datetime.now(UTC), object(), 1j])
def test_what_has_no_wire_form(value: object) -> None:
    with pytest.raises(TypeError, match="no wire form"):
        plain({"x": value})
    with pytest.raises(ValueError, match="JSON"):
        encode(float("inf"))
