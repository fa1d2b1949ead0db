"""Lines of the channel: what is no frame is refused, what is one comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l2proxy_sdk import frames

HEAD = b'{"jsonrpc":"2.0","id":1,'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(params=JSON)
def test_what_is_encoded_is_parsed_back_from_one_line(params: Any) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}
    try:
        line = frames.encode(message)
    except ValueError:
        assert "\\ud" in json.dumps(params)  # only a lone surrogate cannot travel
        return
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert frames.parse(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"5\n",
        b'{"id":1,"method":"m"}\n',
        b'{"jsonrpc":"1.0","id":1,"method":"m"}\n',
        HEAD + b'"params":NaN}\n',
        HEAD + b'"params":Infinity}\n',
        HEAD + b'"params":{"a":1,"a":2}}\n',
        HEAD + b'"id":2}\n',
        HEAD + b'"params":"\\ud800"}\n',
        HEAD + b'"params":"\\udc00\\ud800"}\n',
        HEAD + b'"params":"\xff"}\n',
        HEAD + b'"params":"\xed\xa0\x80"}\n',
        HEAD + b'"params":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        HEAD + b'"params":' + b"9" * 10_000 + b"}\n",
        HEAD + b'"params":"' + b"a" * frames.MAX_LINE + b'"}\n',
    ],
)
def test_what_is_no_frame_is_refused(line: bytes) -> None:
    with pytest.raises(frames.BadFrame):
        frames.parse(line)


def test_depth_is_counted_outside_strings_and_in_linear_time() -> None:
    deep = b'"' + b"[" * 10_000 + b'\\"' + b"{" * 10_000 + b'"'
    assert frames.parse(HEAD + b'"params":' + deep + b"}\n")["params"].count("{") == 10_000
    with pytest.raises(frames.BadFrame):
        frames.parse(HEAD + b'"params":"' + b'\\"[' * 300_000 + b"}\n")


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert frames.parse(HEAD + b'"params":"\\ud83d\\ude00"}\n')["params"] == "\U0001f600"


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{None: 1, "null": 2}], ({"a": {True: 1, "true": 2}},)])
def test_an_object_that_would_name_a_member_twice_is_refused_and_any_other_is_said(value: Any) -> None:
    with pytest.raises(ValueError, match="two keys of an object have one name in JSON"):
        frames.encode({"jsonrpc": "2.0", "params": value})
    said = frames.encode({"jsonrpc": "2.0", "params": {1: {2.5: [{None: True}]}}})
    assert frames.parse(said)["params"] == {"1": {"2.5": [{"null": True}]}}


@pytest.mark.parametrize("value", [float("nan"), "\ud800", b"bytes", {"a": object()}, "a" * frames.MAX_LINE])
def test_what_cannot_travel_is_refused_before_it_leaves(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not a JSON value|the limit of the channel"):
        frames.encode({"jsonrpc": "2.0", "params": value})
