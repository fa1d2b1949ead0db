"""The envelope: raw ids and params kept, doubtful bodies refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.waist import Request
from proxy.server import bodies, envelope
from proxy.server.envelope import Batch, Invalid, parse


def call(body: bytes | str) -> Request:
    read = parse(body.encode() if isinstance(body, str) else body, 100)
    assert isinstance(read, Request), read.error if isinstance(read, Invalid) else read
    return read


def refused(body: bytes | str) -> tuple[int, bytes]:
    read = parse(body.encode() if isinstance(body, str) else body, 100)
    assert isinstance(read, Invalid)
    return read.error.code, read.id


@pytest.mark.parametrize(
    "raw",
    ["1", "-7", "1.5", "1e3", "null", '"a"', '"\\u0061"', '"a\\"b"', '""', "123456789012345678901234567890", '"é"'],
)
@pytest.mark.parametrize("space", ["", " ", "\n\t "])
def test_ids_and_params_stay_raw(raw: str, space: str) -> None:
    body = f'{{"jsonrpc":{space}"2.0",{space}"id":{space}{raw}{space},"method":"eth_call","params":[1, {{ }}]{space}}}{space}'
    assert call(body) == Request("eth_call", b"[1, { }]", raw.encode())


def test_a_notification_has_no_id() -> None:
    assert call('{"jsonrpc":"2.0","method":"a"}') == Request("a", b"", None)


def test_escaped_names_and_text_are_read() -> None:
    assert call('{"json\\u0072pc":"2.\\u0030","id":1,"method":"eth\\u005fcall"}').method == "eth_call"


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","method":"eth_sign"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","meth\\u006fd":"eth_sign"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","method":"eth_call"}',
        '{"jsonrpc":"2.0","id":1, "id":1,"method":"eth_call"}',
        '{"jsonrpc":"2.0","id":12,"id":1,"method":"eth_call"}',
        '{"jsonrpc":"2.0","id":1,"id":12,"method":"eth_call"}',
        '{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"eth_call"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[1],"params":[2]}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[1],"params":[1]}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_call","other":1,"other":2}',
        '{"jsonrpc": "2.0", "id": 1, "method": "a","id":1,"params": []}',
    ],
)
def test_a_member_twice_is_refused(body: str) -> None:
    assert refused(body) == (-32600, b"null")
    batch = parse(f"[{body}]".encode(), 100)
    assert isinstance(batch, Batch)
    assert isinstance(batch.calls[0], Invalid)


def test_members_that_only_look_like_ours_are_dropped() -> None:
    body = '{"id":1.5,"jsonrpc":"2.0","method":"eth_chainId","Method":"admin_exportChain","Params":["x"],"ID":2,"x":{"method":1}}'
    assert call(body) == Request("eth_chainId", b"", b"1.5")
    assert refused('{"jsonrpc":"2.0","id":1,"Method":"eth_chainId"}') == (-32600, b"1")


@pytest.mark.parametrize("raw_id", ["true", "false"])
def test_an_id_nodes_disagree_on_goes_on_raw(raw_id: str) -> None:
    assert call(f'{{"jsonrpc":"2.0","id":{raw_id},"method":"a"}}').id == raw_id.encode()
    assert call(f' {{"method":"a", "id" : {raw_id} ,"jsonrpc":"2.0"}}').id == raw_id.encode()


def test_members_inside_params_are_not_ours() -> None:
    raw = '[{"method":1,"method":2,"id":"}"}, "\\"method\\":"]'
    assert call(f'{{"jsonrpc":"2.0", "id":1,"method":"a","params":{raw}}}').params == raw.encode()


WHAT_IS_NOT_A_CALL = pytest.mark.parametrize(
    ("body", "code", "raw_id"),
    [
        (b"", -32700, b"null"),
        (b"   ", -32700, b"null"),
        (b"{", -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a"} x', -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":["\xff"]}', -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":["\\ud800"]}', -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":[01]}', -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":[NaN]}', -32700, b"null"),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"a"}', -32700, b"null"),
        (b"1", -32600, b"null"),
        (b'"eth_call"', -32600, b"null"),
        (b"null", -32600, b"null"),
        (b"[]", -32600, b"null"),
        (b" [ ] ", -32600, b"null"),
        (b"{}", -32600, b"null"),
        (b'{"id":1,"method":"a"}', -32600, b"1"),
        (b'{"jsonrpc":"1.0","id":1,"method":"a"}', -32600, b"1"),
        (b'{"jsonrpc":2.0,"id":1,"method":"a"}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":1,"method":1}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":1}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":"x"}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":{},"method":"a"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":[1],"method":"a"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}", -32600, b"null"),
        (b"[" * 100_000 + b"]" * 100_000, -32600, b"null"),
        (b"[" * 100_000, -32600, b"null"),
    ],
)


def test_depth_is_bounded_whatever_pythons_recursion_limit_is() -> None:
    def nested(depth: int) -> bytes:  # the envelope is one level
        return b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * depth + b"]" * depth + b"}"

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        assert call(nested(127)).params == b"[" * 127 + b"]" * 127
        for depth in (128, 1000, 1_000_000):
            assert refused(nested(depth)) == (-32600, b"null")
            assert refused(b"[" * (depth + 1)) == (-32600, b"null")
            assert refused(b'{"a":' * (depth + 1)) == (-32600, b"null")
    finally:
        sys.setrecursionlimit(before)
    wide = b"[" + b",".join([b'{"[[[":["]\\"]"]}'] * 1000) + b"]"
    assert call(b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + wide + b"}").params == wide


@WHAT_IS_NOT_A_CALL
def test_what_is_not_a_call(body: bytes, code: int, raw_id: bytes) -> None:
    assert refused(body) == (code, raw_id)


def test_a_batch_keeps_its_order_and_its_limit() -> None:
    one = b'{"jsonrpc":"2.0","id":1,"method":"a"}'
    batch = parse(b" [" + one + b", 1, " + one + b", [] ]", 4)
    assert isinstance(batch, Batch)
    assert [type(item) for item in batch.calls] == [Request, Invalid, Request, Invalid]
    over = parse(b"[" + b",".join([one] * 5) + b"]", 4)
    assert isinstance(over, Invalid)
    assert over.error.code == -32005
    assert over.error.data == {"limit": "batch"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["jsonrpc", "id", "method", "params", "Method", "ID", "x", 'a"b', "é"])


@given(st.lists(st.tuples(MEMBERS, JSON), max_size=7), st.booleans(), st.booleans())
def test_read_as_a_strict_reader_reads_it(members: list[tuple[str, Any]], spaced: bool, ascii_only: bool) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":"))

    members = [("jsonrpc", "2.0"), ("method", "eth_call"), *members]
    body = "{" + ("," if not spaced else " ,\n").join(f"{dump(k)}:{' ' * spaced}{dump(v)}" for k, v in members) + "}"
    read = parse(body.encode(), 100)
    names = [name for name, _ in members]
    values = dict(members)
    if len(set(names)) < len(names):
        assert isinstance(read, Invalid)
        return
    ok_id = "id" not in values or isinstance(values["id"], str | int | float | None)  # true and false among them
    ok_params = values.get("params") is None or isinstance(values["params"], list | dict)
    assert isinstance(read, Request) == (ok_id and ok_params)
    if isinstance(read, Request):
        assert (read.id is None) == ("id" not in values)
        assert read.id is None or json.loads(read.id) == values["id"]
        assert (json.loads(read.params) if read.params else None) == values.get("params")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_without_raising(body: bytes) -> None:
    assert isinstance(parse(body, 100), Request | Invalid | Batch)


def test_answers_are_put_together() -> None:
    assert envelope.success(b'"x"', b"[1]") == b'{"jsonrpc":"2.0","id":"x","result":[1]}'
    assert bodies.joined([b"{}", b"{}"]) == b"[{},{}]"
    assert json.loads(envelope.notification("eth_subscription", {"a": 1}))["params"] == {"a": 1}


def test_members_are_bounded() -> None:
    def body(members: int) -> bytes:
        return json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "m"} | {f"k{n}": n for n in range(members - 3)}
        ).encode()

    assert isinstance(envelope.parse(body(1000), 100), Request)
    refused = envelope.parse(body(1001), 100)
    assert isinstance(refused, envelope.Invalid)
    assert "1001 members" in refused.error.message


READ_TWICE = st.lists(
    st.tuples(
        st.sampled_from(["jsonrpc", "id", "method", "params", "param\\u0073", "x"]),
        st.sampled_from(['"2.0"', '"2\\u002e0"', "1", "1.5", '"a"', "null", "true", "[]", "[1]", "{}", '"eth_call"']),
    ),
    max_size=5,
)


@given(READ_TWICE, st.booleans())
def test_the_quick_way_reads_what_the_careful_one_reads(members: list[tuple[str, str]], usual: bool) -> None:
    """A space behind the body changes nothing but the way it is read."""
    if usual:
        members = [("jsonrpc", '"2.0"'), ("id", "1"), ("method", '"eth_call"'), ("params", "[]"), *members][
            : len(members) + 3
        ]
    body = ("{" + ",".join(f'"{name}":{value}' for name, value in members) + "}").encode()
    quick, careful = parse(body, 10), parse(body + b" ", 10)
    if isinstance(quick, Invalid):
        assert isinstance(careful, Invalid)
        assert (quick.error.to_json(), quick.id) == (careful.error.to_json(), careful.id)
    else:
        assert quick == careful
