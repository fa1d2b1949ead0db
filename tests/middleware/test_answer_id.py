"""Where the caller's id stands in an answer: at the top level, first or last, or it is not said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.answer_id import divide

IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.none(), st.text("abc 123,:{}[]", max_size=8))
VALUES = st.recursive(
    st.none() | st.integers() | st.text('id":1,}', max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "x"]), inner, max_size=2),
)


@given(
    IDS,
    IDS,
    VALUES,
    st.sampled_from(["id first", "id second", "id last", "id third"]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_the_divided_answer_with_another_id_is_what_the_node_writes_for_it(
    one: object, other: object, value: object, order: str, separators: tuple[str, str]
) -> None:
    def written(answer_id: object) -> bytes:
        members = {"jsonrpc": "2.0", "result": value, "more": 0}
        place = {"id first": 0, "id second": 1, "id last": 3, "id third": 2}[order]
        pairs = [*members.items()]
        return json.dumps(dict([*pairs[:place], ("id", answer_id), *pairs[place:]]), separators=separators).encode()

    divided = divide(written(one), json.dumps(one).encode())
    assert (divided is None) == (order == "id third")
    if divided is not None:
        assert divided[0] + json.dumps(other).encode() + divided[1] == written(other)


@pytest.mark.parametrize(
    ("body", "raw_id"),
    [
        (b'{"jsonrpc":"2.0","id":12,"result":1}', b"1"),
        (b'{"jsonrpc":"2.0","result":1,"id":21}', b"1"),
        (b'{"jsonrpc":"2.0","result":{"id":1}}', b"1"),
        (b'{"jsonrpc":"2.0","result":"x,\\"id\\":1"}', b"1"),
        (b'{"jsonrpc":"2.0","id":null,"error":{}}', b"1"),
        (b'[{"id":1}]', b"1"),
        (b"", b"1"),
        (b"1}", b"1"),
    ],
)
def test_an_id_that_is_not_plainly_the_callers(body: bytes, raw_id: bytes) -> None:
    assert divide(body, raw_id) is None
