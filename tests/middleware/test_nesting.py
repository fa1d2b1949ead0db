"""Depth is told as a recursive reader would, whatever stands in strings, and fast."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.nesting import deeper_than, depth

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{}'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='k"\\[]{'), inner, max_size=4),
    max_leaves=20,
)


def recursively(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(recursively, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_as_a_recursive_reader_counts(value: Any) -> None:
    text = json.dumps(value).encode()
    assert depth(text) == recursively(value)
    assert deeper_than(depth(text), text) is False
    assert deeper_than(depth(text) - 1, text) is True


@pytest.mark.parametrize("text", [b'["[[[', b'"\\', b"]]]]", b"", b'[\\"[['])
def test_what_is_no_json_is_counted_too(text: bytes) -> None:
    assert 0 <= depth(text) <= len(text)


@pytest.mark.parametrize("piece", [b"[]", b'""', b'{"a":1}', b'"\\""', b'"\\\\"'])
def test_two_megabytes_hold_nobody_up(piece: bytes) -> None:
    """Linear in the text, and held to this machine's own measure: at most 40 times what adding up its bytes takes."""
    text = b"[" + b",".join([piece] * (2**21 // (len(piece) + 1))) + b",[[]]]"
    assert sum(text) > 0
    began = time.thread_time()
    sum(text)
    added_up = time.thread_time() - began
    began = time.thread_time()
    assert depth(text) == 3
    assert time.thread_time() - began < 40 * added_up
