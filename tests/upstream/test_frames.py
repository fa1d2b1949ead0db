"""A node's byte stream is cut into the same values however it arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.arrival import Keeping, Oversize
from proxy.upstream.frames import Frame, FrameSplitter, NotJson, Value

TEXT = st.text(alphabet=st.sampled_from('a"\\{}[]\n é'), max_size=8)
VALUES = st.dictionaries(
    TEXT, st.recursive(TEXT | st.integers(), lambda v: st.lists(v, max_size=3), max_leaves=5), max_size=3
)


def bodies(frames: list[Value]) -> list[Any]:
    return [json.loads(frame.body) for frame in frames if isinstance(frame, Frame)]


@given(
    st.lists(st.tuples(VALUES, st.sampled_from(["", "\n", " ", "\r\n"]), st.booleans()), max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_any_cut_of_any_stream(values: list[tuple[dict[str, Any], str, bool]], cuts: list[int]) -> None:
    stream = b"".join((json.dumps(v, indent=2 if pretty else None) + end).encode() for v, end, pretty in values)
    splitter, position = FrameSplitter(Keeping(10_000)), 0
    found: list[Value] = []
    for index in range(len(stream)):
        size = cuts[index % len(cuts)]
        found += splitter.feed(stream[position : position + size])
        position += size
    assert bodies(found) == [value for value, _, _ in values]


def test_a_value_is_given_out_with_its_last_byte() -> None:
    splitter = FrameSplitter(Keeping(1000))
    assert bodies(list(splitter.feed(b'{"id":1}'))) == [{"id": 1}]
    assert bodies(list(splitter.feed(b'\n{"id":2}\n{"id"'))) == [{"id": 2}]
    assert bodies(list(splitter.feed(b":3}\n"))) == [{"id": 3}]


def test_after_lines_a_value_over_several_lines_still_counts() -> None:
    splitter = FrameSplitter(Keeping(1000))
    stream = b'{"id":1}\n{\n "id":2\n}\n{"id":3}\n{"id":4}{"id":5}'
    assert bodies(list(splitter.feed(stream))) == [{"id": n} for n in range(1, 6)]


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_too_large_a_value_is_skipped_and_told_by_its_head(ending: bytes) -> None:
    splitter = FrameSplitter(Keeping(200))
    large = b'{"jsonrpc":"2.0","id":7,"result":"' + b"x" * 5000 + b'"}' + ending
    stream = b'{"id":1}' + ending + large + b'{"id":2}' + ending
    found = [frame for start in range(0, len(stream), 64) for frame in splitter.feed(stream[start : start + 64])]
    assert bodies(found) == [{"id": 1}, {"id": 2}]
    (oversize,) = (frame for frame in found if isinstance(frame, Oversize))
    assert oversize.head.startswith(b'{"jsonrpc":"2.0","id":7,')
    assert len(oversize.head) <= 128


@pytest.mark.parametrize("stream", [b"HTTP/1.1 400 Bad Request\r\n", b'"text"', b"{]}", b'{"a":}', b'{"id":1}\n}'])
def test_what_is_no_json_ends_the_stream(stream: bytes) -> None:
    splitter = FrameSplitter(Keeping(1000))
    with pytest.raises(NotJson):
        list(splitter.feed(stream + b"\n{}\n"))


def test_a_large_value_in_small_pieces_costs_linear_time() -> None:
    splitter = FrameSplitter(Keeping(64 * 1024 * 1024))
    piece = b'"' + b"ab" * 8000 + b'",'
    found = list(splitter.feed(b'{"result":['))
    for _ in range(1000):  # 16 MB; joining what is there for each piece would take minutes
        found += splitter.feed(piece)
    found += splitter.feed(b"0]}\n")
    assert len(found) == 1
