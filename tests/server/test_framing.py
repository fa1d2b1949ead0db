"""A stream of JSON values: whole values whatever the pieces, and an end to what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.errors import LimitExceeded, ParseError
from proxy.server.framing import ValueSplitter

VALUES = st.lists(
    st.dictionaries(
        st.text(max_size=6), st.recursive(st.text(max_size=6) | st.integers(), st.lists, max_leaves=4), max_size=3
    )
    | st.lists(st.text(max_size=6), max_size=3),
    max_size=5,
)


@given(VALUES, st.sampled_from(["", "\n", " \r\n\t", "\n\n"]), st.booleans(), st.lists(st.integers(1, 40), max_size=20))
def test_values_come_out_whole(values: list[Any], between: str, pretty: bool, sizes: list[int]) -> None:
    texts = [json.dumps(value, indent=2 if pretty else None, ensure_ascii=False).encode() for value in values]
    stream = between.encode().join([b"", *texts, b""])
    splitter, found = ValueSplitter(10_000), []
    for size in (*sizes, len(stream) + 1):
        piece, stream = stream[:size], stream[size:]
        found += splitter.feed(piece)
    assert [json.loads(one) for one in found] == values


def test_one_byte_at_a_time() -> None:
    splitter = ValueSplitter(1000)
    found = [value for byte in b' {"a":"]}\\"{"}[1]\n{}' for value in splitter.feed(bytes([byte]))]
    assert found == [b'{"a":"]}\\"{"}', b"[1]", b"{}"]


@pytest.mark.parametrize("junk", [b"x", b"1", b'"a"', b"]", b"{}}", b"\x00", b"{} null"])
def test_what_is_no_value_ends_the_stream(junk: bytes) -> None:
    with pytest.raises(ParseError):
        list(ValueSplitter(1000).feed(junk))


@pytest.mark.parametrize(
    "pieces", [[b"[" + b" " * 200 + b"]"], [b"[", b" " * 60, b" " * 60], [b'["' + b"a" * 99, b"a"]]
)
def test_a_value_over_the_limit_ends_the_stream(pieces: list[bytes]) -> None:
    splitter = ValueSplitter(100)
    with pytest.raises(LimitExceeded):
        for piece in pieces:
            list(splitter.feed(piece))


def test_brackets_that_do_not_match_are_left_to_the_parser() -> None:
    assert list(ValueSplitter(100).feed(b"[}")) == [b"[}"]


@pytest.mark.parametrize("junk", [b"x", b"]", b'{"a":"' + b"x" * 100])
def test_what_stands_before_the_end_of_the_stream_is_given(junk: bytes) -> None:
    found = []
    with pytest.raises((ParseError, LimitExceeded)):
        for value in ValueSplitter(100).feed(b'{"a":1}[2]' + junk):
            found.append(value)  # noqa: PERF402  all that came before it raised
    assert found == [b'{"a":1}', b"[2]"]
