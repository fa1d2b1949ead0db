"""The envelope the proxy writes, and the caller's id in the node's answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.waist import Request
from proxy.upstream import envelope

ARRAY = b"[]"


def test_an_envelope_has_what_the_proxy_knows_and_nothing_else() -> None:
    request = Request("eth_call", b'[ {"to":"0x1"} , "latest" ]', b'"a"')
    assert envelope.write(request, b"7") == (
        b'{"jsonrpc":"2.0","id":7,"method":"eth_call","params":[ {"to":"0x1"} , "latest" ]}'
    )
    assert envelope.write(Request("eth_chainId"), b"1.50") == b'{"jsonrpc":"2.0","id":1.50,"method":"eth_chainId"}'


def test_a_method_cannot_break_out_of_its_member() -> None:
    written = envelope.write(Request('x","params":[],"method":"admin_y'), b"1")
    assert json.loads(written)["method"] == 'x","params":[],"method":"admin_y'


@pytest.mark.parametrize(
    "raw_id", [b"0", b"1", b"-1", b"9223372036854775807", b"null", b'""', b'"a b-c/d"', b'"\x7e"', None]
)
def test_ids_that_every_node_echoes_are_numbered(raw_id: bytes | None) -> None:
    assert not envelope.travels_alone(Request("eth_chainId", ARRAY, raw_id))


@pytest.mark.parametrize(
    "raw_id",
    [
        *(b"1.0", b"1e3", b"-0", b"9223372036854775808", b"18446744073709551616", b"1" * 400, b"true", b"[1]", b"{}"),
        *(b'"\\u0041"', b'"a\\"b"', b'"\xc3\xa9"', b'"<a&b>"', b'"\x7f"', b'"a\\/"'),
    ],
)
def test_any_other_id_travels_alone(raw_id: bytes) -> None:
    assert envelope.travels_alone(Request("eth_chainId", ARRAY, raw_id))


@pytest.mark.parametrize("params", [b'["\\ud800"]', b'["\xff"]', b'["\xc3\xa9"]', b"[" * 65 + b"]" * 65])
def test_params_a_node_may_refuse_as_a_whole_travel_alone(params: bytes) -> None:
    assert envelope.travels_alone(Request("eth_call", params, b"1"))


def test_many_brackets_are_no_depth() -> None:
    flat = b"[" + b",".join([b'["[[[[[[["]'] * 500) + b"]"
    assert not envelope.travels_alone(Request("eth_call", flat, b"1"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just('"id":1}') | st.just(',"id":7'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("id"), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.dictionaries(st.sampled_from(["jsonrpc", "result", "error", "x", "Id"]), VALUES, max_size=5)


@given(MEMBERS, st.integers(0, 5), st.sampled_from([b"7", b'"caller"', b"null"]), st.booleans(), st.booleans())
def test_the_id_is_found_wherever_it_stands(
    members: dict[str, Any], at: int, raw_id: bytes, pretty: bool, ascii_only: bool
) -> None:
    items = list(members.items())
    items.insert(min(at, len(items)), ("id", 12345))
    frame = json.dumps(dict(items), indent=1 if pretty else None, ensure_ascii=ascii_only).encode("utf-8", "replace")
    answer = envelope.put_back(frame, raw_id)
    expected = dict(items) | {"id": json.loads(raw_id)}
    assert json.loads(answer) == json.loads(json.dumps(expected).encode("utf-8", "replace"))
    assert answer.replace(raw_id, b"", 1) != answer
    assert len(answer) == len(frame) - 5 + len(raw_id), "nothing but the id may change"


def test_the_usual_answer_changes_in_its_id_alone() -> None:
    frame = b'{"jsonrpc":"2.0","id":12,"result": "0x1" }\n'
    assert envelope.put_back(frame, b'"x"') == b'{"jsonrpc":"2.0","id":"x","result": "0x1" }\n'


def test_an_answer_without_id_is_refused() -> None:
    with pytest.raises(ValueError, match="no id"):
        envelope.put_back(b'{"jsonrpc":"2.0","result":{"id":5}}', b"1")


@pytest.mark.parametrize(
    "frame", [b"", b"[]", b"1", b'{"a":1', b'{"a":1}x', b"<html>", b'{"method":1}', b'{"a":' + b"[" * 5000]
)
def test_what_is_no_object_is_no_answer(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        envelope.read(frame)


LONG = b"ab" * 4096
TEXT = b'{"jsonrpc":"2.0","id":12,"result":"0x%b"}' % LONG


def test_a_long_text_is_told_by_its_ends_alone() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "_decoder", None)  # compiled, it is a constant, and this test says nothing more
        incoming = envelope.read(TEXT)
    assert (incoming.jsonrpc, bytes(incoming.id), incoming.method) == ("2.0", b"12", msgspec.UNSET)


@pytest.mark.parametrize(
    "frame",
    [
        TEXT[:-2],
        TEXT[:-1],
        TEXT + b"}",
        TEXT + TEXT,
        TEXT[:-2] + b'\\"}',
        TEXT[:-2] + b'","id":}',
    ],
)
def test_a_long_text_that_is_not_whole_is_no_answer(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        envelope.read(frame)


@pytest.mark.parametrize(
    "frame",
    [
        TEXT[:-2] + b'\\n"}',
        TEXT[:-2] + '\u00e4"}'.encode(),
        TEXT[:-2] + b'","id":12}',
        TEXT.replace(b'"result":"', b'"result": "'),
    ],
)
def test_other_long_texts_are_decoded(frame: bytes) -> None:
    assert bytes(envelope.read(frame).id) == b"12"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "number"),
    [
        (b'{"jsonrpc":"2.0","id":12,"resu', b"12"),
        (b'{ "id" : 3, "x', b"3"),
        (b'{"result":"0x00', None),
        (b'{"jsonrpc":"2.0","id":1', None),
    ],
)
def test_whose_an_answer_is_shows_in_its_first_bytes(head: bytes, number: bytes | None) -> None:
    assert envelope.number_at_head(head) == number
