"""Reading parameters: what each kind takes, and that refusals show the value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.embedded import params
from proxy.upstream.embedded.errors import NodeError
from proxy.upstream.embedded.params import Param, bind

HASH = "0x" + "11" * 32


READS: list[tuple[Any, object, object]] = [
    (params.quantity, "0x0", 0),
    (params.quantity, "0xfF", 255),
    (params.quantity, "0x" + "f" * 64, 2**256 - 1),
    (params.uint64, "0xffffffffffffffff", 2**64 - 1),
    (params.loose_integer, 5, 5),
    (params.loose_integer, "5", 5),
    (params.loose_integer, "0x05", 5),
    (params.data, "0x", b""),
    (params.data, "0xABcd", b"\xab\xcd"),
    (params.address, "0x" + "Ab" * 20, b"\xab" * 20),
    (params.hash32, HASH, b"\x11" * 32),
    (params.storage_slot, "0x0", 0),
    (params.storage_slot, "0x000a", 10),
    (params.storage_slot, HASH, int(HASH, 16)),
    (params.boolean, True, True),
    (params.block, "safe", "safe"),
    (params.block, "0x10", 16),
    (params.block, HASH, b"\x11" * 32),
    (params.block, {"blockNumber": "0x1"}, 1),
    (params.block, {"blockNumber": "latest"}, "latest"),
    (params.block, {"blockHash": HASH, "requireCanonical": True}, b"\x11" * 32),
]


@pytest.mark.parametrize(("decode", "value", "read"), READS)
def test_reads(decode: Any, value: object, read: object) -> None:
    assert decode(value) == read


REFUSED: dict[Any, list[object]] = {
    params.quantity: ["0x", "0x00", "0x01", "00", "1", "x", "0xg", "-0x1", "0x1\n", 1, None, [], "0x1" + "0" * 64],
    params.uint64: ["0x10000000000000000"],
    params.loose_integer: [-1, 1.5, True, "", "-1", "0x", "1e3", "\u0665", None, "9" * 79],
    params.data: ["", "0x1", "1234", "0xgg", "0x12\n", 5],
    params.address: ["0x", "0x" + "11" * 19, "0x" + "11" * 21, "11" * 20, "0x" + "zz" * 20, 5],
    params.hash32: ["0x11", "11" * 33, 5],
    params.storage_slot: [HASH + "0", "1", "0xg", 1],
    params.boolean: [0, 1, "true", "0x1"],
    params.block: ["newest", "Latest", "", 1, "0x01", True, [], {}, {"blockHash": "0x1"}],
    params.block_tag_or_number: [HASH, {"blockNumber": "0x1"}],
}


@pytest.mark.parametrize(
    ("decode", "value"), [(decode, value) for decode, values in REFUSED.items() for value in values]
)
def test_refuses(decode: Any, value: object) -> None:
    with pytest.raises(NodeError) as caught:
        decode(value)
    assert caught.value.code == -32602


def test_null_and_absence_are_the_same() -> None:
    declared = [Param("a", params.uint64), Param("b", params.boolean, False)]
    assert bind(declared, ["0x1"]) == bind(declared, ["0x1", None]) == [1, False]
    with pytest.raises(NodeError, match=r"required argument 0 \(a\)"):
        bind(declared, [None, True])


@given(value=st.text() | st.binary().map(str))
def test_a_refusal_shows_the_value_shortened(value: str) -> None:
    assert len(params.shown(value)) <= 81
