"""Where a value ends is found alike however it is cut, by the quick way and by the slow one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream import balance
from proxy.upstream.balance import Balance

TEXT = st.text(alphabet=st.sampled_from('a"\\{}[]\n é'), max_size=8)
VALUES = st.dictionaries(
    TEXT, st.recursive(TEXT | st.integers(), lambda v: st.lists(v, max_size=3), max_leaves=8), max_size=4
)


@given(VALUES, st.lists(st.integers(1, 30), min_size=1, max_size=10), st.sampled_from([0, 4, 4096]))
def test_any_cut_finds_the_same_end(value: dict[str, Any], cuts: list[int], small: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    stream, position, counted = text + b'"}]{', 0, Balance()
    before, balance._SMALL = balance._SMALL, small
    try:
        for index in range(len(stream)):
            piece = stream[position : position + cuts[index % len(cuts)]]
            end = counted.end(piece)
            if end >= 0:
                assert position + end == len(text)
                return
            position += len(piece)
    finally:
        balance._SMALL = before
    raise AssertionError("no end was found")


def test_a_piece_may_end_amid_an_escape() -> None:
    counted = Balance()
    filler = b"x" * 5000
    assert counted.end(b'{"a":"' + filler + b"\\") == -1
    assert counted.end(b'"}' + filler + b"\\\\") == -1
    assert counted.end(b'"' + b" " * 5000) == -1
    assert counted.end(b'}{"b":1}') == 1


def test_brackets_of_both_kinds_count() -> None:
    assert Balance().end(b'{"a":[[{"b":[]}]],"c":{}}{') == 25
