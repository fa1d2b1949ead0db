"""Cutting a byte stream into values: any chunks give the same values; limits hold."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.embedded import json_stream
from proxy.upstream.embedded.json_stream import MAX_DEPTH, JsonStream, StreamError

TEXT = st.text(alphabet='ab"\\{}[] \n\u00e9\U0001f600', max_size=8)
VALUES = st.lists(
    st.recursive(
        st.dictionaries(TEXT, TEXT, max_size=3) | st.lists(TEXT, max_size=3),
        lambda inner: st.dictionaries(TEXT, inner, max_size=3) | st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@given(values=VALUES, cuts=st.lists(st.integers(0, 400), max_size=12), gap=st.sampled_from(["", "\n", " \r\n\t"]))
def test_any_chunks_give_the_same_values(values: list[object], cuts: list[int], gap: str) -> None:
    text = gap.join(json.dumps(value, ensure_ascii=False) for value in values).encode()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stream = JsonStream()
    found = [json.loads(value) for a, b in pairwise(edges) for value in stream.feed(text[a:b])]
    assert found == values


@pytest.mark.parametrize("text", [b"x", b"1", b'"a"', b"}", b"{}x", b" \n]"])
def test_what_begins_no_value_ends_the_stream(text: bytes) -> None:
    with pytest.raises(StreamError, match="expected"):
        list(JsonStream().feed(text))


def test_depth_is_limited() -> None:
    assert len(list(JsonStream().feed(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH))) == 1
    with pytest.raises(StreamError, match="deeper"):
        list(JsonStream().feed(b"[" * (MAX_DEPTH + 1)))


def test_an_unfinished_value_has_a_longest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_BYTES", 100)
    stream = JsonStream()
    assert list(stream.feed(b'{"a":"' + b"x" * 80)) == []
    with pytest.raises(StreamError, match="longer"):
        list(stream.feed(b"x" * 80))
