"""Plain arguments of logs come out as they went in, whatever stands between them; hostile ones cost nothing."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from proxy.host.abi_types import signature_type
from proxy.host.gateway_logs import MAX_LOG, arguments_of, is_plain, topic_of

PAIR = [{"name": "a", "type": "uint256"}, {"name": "b", "type": "uint8[2]"}]
TEXTS = [{"name": "a", "type": "string"}]
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"

# type, components, a strategy of Python values, how such a value is written
KINDS: list[tuple[str, list[dict[str, Any]], Any, Any]] = [
    ("uint256", [], st.integers(0, 2**256 - 1), hex),
    ("int64", [], st.integers(-(2**63), 2**63 - 1), hex),
    ("address", [], st.just(ADDRESS), str),
    ("bool", [], st.booleans(), bool),
    ("bytes32", [], st.binary(min_size=32, max_size=32), lambda value: "0x" + value.hex()),
    ("bytes", [], st.binary(max_size=70), lambda value: "0x" + value.hex()),
    ("string", [], st.text(max_size=40), str),
    ("uint256[]", [], st.lists(st.integers(0, 9), max_size=4), None),
    ("uint8[3]", [], st.tuples(*[st.integers(0, 9)] * 3), None),
    ("bytes[2]", [], st.tuples(st.binary(max_size=40), st.binary(max_size=40)), None),
    ("tuple", PAIR, st.tuples(st.integers(0, 9), st.tuples(st.integers(0, 9), st.integers(0, 9))), None),
    ("tuple[2]", PAIR, st.tuples(*[st.tuples(st.integers(0, 9), st.tuples(*[st.integers(0, 9)] * 2))] * 2), None),
    ("tuple", TEXTS, st.tuples(st.text(max_size=40)), None),
]


@given(st.data())
def test_what_was_logged_is_read_and_arrays_are_stepped_over(data: st.DataObject) -> None:
    inputs, values, expected = [], [], {}
    for number, kind in enumerate(data.draw(st.lists(st.sampled_from(range(len(KINDS))), max_size=6))):
        name, components, strategy, written = KINDS[kind]
        declared = {"name": f"v{number}", "type": name, **({"components": components} if components else {})}
        inputs.append(declared)
        values.append(value := data.draw(strategy))
        if written is not None:
            expected[f"v{number}"] = written(value)
    raw = encode([signature_type(declared) for declared in inputs], values)
    assert arguments_of(inputs, {"topics": ["0x"], "data": "0x" + raw.hex()}) == expected
    if raw and inputs[-1]["type"] in ("uint256", "bytes32"):
        size = len(raw) - 1 if len(inputs) == 1 else 32 * (len(inputs) - 1)
        assert arguments_of(inputs, {"topics": ["0x"], "data": "0x" + raw[:size].hex()}) is None


def test_indexed_arguments_are_read_from_the_topics() -> None:
    inputs = [
        {"name": "who", "type": "address", "indexed": True},
        {"name": "text", "type": "string", "indexed": True},
        {"name": "amount", "type": "uint", "indexed": False},
    ]
    assert [is_plain(one) for one in inputs] == [True, False, True]
    row = {"topics": ["0x", "0x" + ADDRESS[2:].lower().rjust(64, "0"), "0x" + "11" * 32], "data": f"0x{7:064x}"}
    assert arguments_of(inputs, row) == {"who": ADDRESS, "amount": "0x7"}
    assert arguments_of(inputs, row | {"topics": row["topics"][:2]}) is None
    dirty = ["0x", "0x01" + "00" * 11 + ADDRESS[2:], row["topics"][2]]
    assert arguments_of(inputs, row | {"topics": dirty}) is None
    assert topic_of({"name": "Paid", "inputs": inputs}) == topic_of(
        {"name": "Paid", "inputs": [*inputs[:2], {"name": "n", "type": "uint256"}]}
    )


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("string", f"{2**255:064x}"),  # a pointer out of the data
        ("string", f"{32:064x}{2**255:064x}"),  # a length beyond it
        ("string", f"{32:064x}{2:064x}c328" + "00" * 30),  # no UTF-8
        ("bytes", f"{0:064x}"),  # itself: as long as its own word says, which is nothing
        ("uint8", f"{256:064x}"),
        ("bool", f"{2:064x}"),
        ("uint256", "00" * 31),
        ("uint256[4096][4096]", "00" * 32),
        ("uint256", "00" * (MAX_LOG + 1)),
    ],
)
def test_what_does_not_fit_has_no_arguments(kind: str, data: str) -> None:
    found = arguments_of([{"name": "x", "type": kind}], {"topics": ["0x"], "data": "0x" + data})
    assert found in (None, {"x": "0x"})


def test_nested_pointers_to_one_place_are_never_followed() -> None:
    """3.4 kB of this take a decoder of the whole seconds (hardening.md 28)."""
    depth, width = 8, 14
    head = f"{width:064x}" + f"{32 * width:064x}" * width
    data = f"{64:064x}{5:064x}" + head * depth
    inputs = [{"name": "deep", "type": "uint256" + "[]" * depth}, {"name": "amount", "type": "uint256"}]
    assert arguments_of(inputs, {"topics": ["0x"], "data": "0x" + data}) == {"amount": "0x5"}
