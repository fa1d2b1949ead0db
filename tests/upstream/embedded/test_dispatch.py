"""Envelopes: requests, batches, notifications, ids; and no input whatever makes an internal error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.embedded import dispatch
from proxy.upstream.embedded.dispatch import MAX_BATCH, answer
from proxy.upstream.embedded.methods import METHODS, Method
from proxy.upstream.embedded.node import Node
from tests.upstream.embedded.conftest import FUND, OWNER, Rpc

SHARED = Node(FUND)


def asked(text: str | bytes, node: Node = SHARED) -> Any:
    response = answer(node, text.encode() if isinstance(text, str) else text)
    return None if response is None else json.loads(response)


@pytest.mark.parametrize("request_id", ["1", "-5", "1.5", "18446744073709551615", '"a"', '"\\u00e9\\n"', "null", "1e3"])
def test_the_id_comes_back_as_it_was_written(request_id: str) -> None:
    response = answer(SHARED, f'{{"jsonrpc":"2.0","id":{request_id},"method":"eth_chainId"}}'.encode())
    assert response == f'{{"jsonrpc":"2.0","id":{request_id},"result":"0x539"}}'.encode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId"', -32700),
        ("[", -32700),
        ('{"a":' + "[" * 400 + "]" * 400, -32700),
        ("[]", -32600),
        ('"text"', -32600),
        ("1", -32600),
        ("{}", -32600),
        ('{"id":1,"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":1}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        ('{"jsonrpc":"2.0","id":true,"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":[],"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}', -32600),
    ],
)
def test_what_is_no_request_is_refused_without_an_id(text: str, code: int) -> None:
    response = asked(text)
    assert (response["error"]["code"], response["id"]) == (code, None)


def test_a_batch_is_answered_in_order_and_notifications_not() -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 2, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 1, "method": "nope"},
        5,
    ]
    first, second, third = asked(json.dumps(batch))
    assert first == {"jsonrpc": "2.0", "id": 2, "result": "0x539"}
    assert second == {"jsonrpc": "2.0", "id": 1, "error": {"code": 4200, "message": "method not served: nope"}}
    assert (third["id"], third["error"]["code"]) == (None, -32600)


def test_notifications_alone_are_not_answered_but_run(node: Node) -> None:
    assert asked('{"jsonrpc":"2.0","method":"evm_mine"}', node) is None
    assert asked('[{"jsonrpc":"2.0","method":"evm_mine"},{"jsonrpc":"2.0","method":"nope"}]', node) is None
    assert node.chain.head.number == 2


def test_a_batch_has_a_limit() -> None:
    response = asked(json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}] * (MAX_BATCH + 1)))
    assert response["error"]["code"] == -32600


@pytest.mark.parametrize("params", [{"address": OWNER.address}, "0x", 5, True])
async def test_params_must_be_an_array(rpc: Rpc, params: object) -> None:
    response = await rpc.exchange({"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": params})
    assert response["error"]["code"] == -32602


async def test_params_name_what_is_wrong(rpc: Rpc) -> None:
    assert await rpc.error("eth_getBalance", "0x12", "latest") == {
        "code": -32602,
        "message": 'invalid argument 0 (address): expected an address (20 bytes of 0x data), got "0x12"',
    }
    assert (await rpc.error("eth_getBalance"))["message"] == "missing value for required argument 0 (address)"
    assert (await rpc.error("eth_chainId", 1))["message"] == "too many arguments, want at most 0"


async def test_the_unforeseen_is_logged_and_told_by_a_mark_alone(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(node: Node) -> str:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(dispatch, "METHODS", {"eth_broken": Method(broken)})
    error = await rpc.error("eth_broken")
    assert error["code"] == -32603
    assert "secret" not in error["message"]
    mark = error["message"].split()[2].rstrip(";")
    assert mark in caplog.text
    assert "secret" in caplog.text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["latest", "pending", "earliest", "0x", "0x0", "0x1", "-0x1", "0x" + "f" * 64, "0x" + "f" * 66])
    | st.sampled_from([OWNER.address, "0x" + "00" * 20, "0x" + "11" * 32, "0x6000", "0xfe", "0x02c0", "0xc0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "from",
                    "to",
                    "gas",
                    "gasPrice",
                    "maxFeePerGas",
                    "maxPriorityFeePerGas",
                    "value",
                    "data",
                    "input",
                    "nonce",
                    "accessList",
                    "address",
                    "storageKeys",
                    "topics",
                    "fromBlock",
                    "toBlock",
                    "blockHash",
                    "blockNumber",
                    "balance",
                    "code",
                    "state",
                    "stateDiff",
                    "timestamp",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=600, deadline=None)
@given(name=st.sampled_from(sorted(METHODS.keys() - {"anvil_mine", "hardhat_mine"})), params=st.lists(JSON, max_size=4))
def test_no_params_make_an_internal_error(name: str, params: list[Any]) -> None:
    response = asked(json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": params}))
    assert "result" in response or response["error"]["code"] not in (-32603, -32700, -32600), (name, params, response)


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_make_an_exception(text: bytes) -> None:
    response = asked(text)
    answers = response if isinstance(response, list) else [response]
    assert answers
    assert all("error" in answer for answer in answers)
