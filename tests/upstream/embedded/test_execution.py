"""eth_call, eth_estimateGas and eth_createAccessList: what succeeds, what fails, and that estimates hold."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.revert_reason import revert_reason
from tests.upstream.embedded.conftest import ETHER, FUND, GWEI, OWNER, Probe, Rpc, asking, sign

SOMEBODY = "0x" + "5e" * 20
SHARED = Node(FUND)


@pytest.fixture
async def contract(rpc: Rpc, probe: Probe) -> str:
    """The address of a fresh Probe."""
    receipt = await rpc.mined(sign(nonce=0, to=None, gas=900_000, data=probe.bytecode))
    return str(receipt["contractAddress"])


@pytest.mark.parametrize(
    ("name", "words", "message", "data"),
    [
        ("failReason", [], "execution reverted: not today", "0x08c379a0" + encode(["string"], ["not today"]).hex()),
        ("failEmpty", [], "execution reverted", "0x"),
        ("failPanic", [0], "execution reverted: division or modulo by zero", "0x4e487b71" + f"{0x12:064x}"),
    ],
)
async def test_reverts_carry_reason_and_data(
    rpc: Rpc, contract: str, probe: Probe, name: str, words: list[int], message: str, data: str
) -> None:
    call = {"to": contract, "data": probe.call(name, *words)}
    for method in ("eth_call", "eth_estimateGas"):
        assert await rpc.error(method, call, "latest") == {"code": 3, "message": message, "data": data}
    assert (await rpc.result("eth_createAccessList", call, "latest"))["error"] == message


async def test_other_failures_are_no_reverts(rpc: Rpc, contract: str, probe: Probe) -> None:
    invalid = {"to": contract, "data": probe.call("failInvalid")}
    endless = {"to": contract, "data": probe.call("failOutOfGas"), "gas": hex(100_000)}
    assert await rpc.error("eth_call", invalid, "latest") == {"code": -32000, "message": "invalid opcode"}
    assert await rpc.error("eth_call", endless, "latest") == {"code": -32000, "message": "out of gas"}
    assert (await rpc.error("eth_estimateGas", endless))["message"] == "gas required exceeds allowance (100000)"


async def test_a_call_sees_its_sender_value_and_block(rpc: Rpc, contract: str, probe: Probe) -> None:
    result = await rpc.result(
        "eth_call", {"from": SOMEBODY, "to": contract, "data": probe.call("environment")}, "latest"
    )
    words = [int(result[2 + 64 * i : 66 + 64 * i], 16) for i in range(6)]
    block = await rpc.result("eth_getBlockByNumber", "latest", False)
    assert words[0] == int(SOMEBODY, 16)
    assert words[1:4] == [1337, int(block["number"], 16), int(block["timestamp"], 16)]
    assert words[5] == int(block["parentHash"], 16)


async def test_a_call_changes_nothing(rpc: Rpc, contract: str, probe: Probe) -> None:
    call = {"from": OWNER.address, "to": contract, "value": "0x5", "data": probe.store(99)}
    before = await rpc.result("eth_getBlockByNumber", "latest", True)
    await rpc.result("eth_call", call, "latest")
    await rpc.result("eth_estimateGas", call)
    await rpc.result("eth_createAccessList", call)
    assert await rpc.result("eth_getStorageAt", contract, "0x0", "latest") == f"0x{7:064x}"
    assert await rpc.result("eth_getBlockByNumber", "latest", True) == before
    assert await rpc.result("eth_getTransactionCount", OWNER.address, "pending") == "0x1"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"from": SOMEBODY, "value": "0x1"},
            f"insufficient funds for gas * price + value: address {SOMEBODY} have 0 want 1",
        ),
        ({"gas": "0x64"}, "intrinsic gas too low: have 100, want 21000"),
        ({"from": OWNER.address, "gasPrice": "0x1", "gas": "0x5208"}, "max fee per gas less than block base fee"),
        ({"from": SOMEBODY, "gasPrice": "0x77359400", "gas": "0x5208"}, "insufficient funds for gas * price + value"),
        ({"to": None, "data": "0x" + "00" * 49153}, "max initcode size exceeded: code size 49153 limit 49152"),
    ],
)
async def test_an_invalid_message_is_refused(rpc: Rpc, fields: dict[str, object], message: str) -> None:
    error = await rpc.error("eth_call", {"to": SOMEBODY} | fields, "latest")
    assert error["code"] == -32000
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ({"data": "0x01", "input": "0x02"}, '"input"'),
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, "gasPrice"),
        ({"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2"}, "maxPriorityFeePerGas"),
        ({"value": "0x01"}, "value"),
        ({"value": 1}, "value"),
        ({"to": "0x12"}, "to"),
        ({"accessList": [{"storageKeys": []}]}, "accessList"),
        ({"accessList": [{"address": SOMEBODY, "storageKeys": ["0x0"]}]}, "accessList"),
        ([], "object"),
    ],
)
async def test_a_malformed_call_object_names_its_member(rpc: Rpc, call: object, part: str) -> None:
    error = await rpc.error("eth_call", call, "latest")
    assert error["code"] == -32602
    assert part in error["message"]


async def test_named_prices_are_seen_and_charged(rpc: Rpc) -> None:
    gas_price_opcode = "0x3a60005260206000f3"
    call = {"from": OWNER.address, "data": gas_price_opcode, "gas": "0x30d40"}
    assert int(await rpc.result("eth_call", call, "latest"), 16) == 0
    assert int(await rpc.result("eth_call", call | {"gasPrice": hex(5 * GWEI)}, "latest"), 16) == 5 * GWEI
    base = int((await rpc.result("eth_getBlockByNumber", "latest", False))["baseFeePerGas"], 16)
    dynamic = {"maxFeePerGas": hex(9 * GWEI), "maxPriorityFeePerGas": "0x7"}
    assert int(await rpc.result("eth_call", call | dynamic, "latest"), 16) == base + 7


async def test_overrides_hold_for_one_call(rpc: Rpc, contract: str, probe: Probe) -> None:
    balance_opcode = "0x3331600052" + "60206000f3"
    call = {"from": SOMEBODY, "data": balance_opcode}
    assert int(await rpc.result("eth_call", call, "latest", {SOMEBODY: {"balance": "0x2a"}}), 16) == 42
    code = {SOMEBODY: {"code": "0x602a60005260206000f3", "nonce": "0x7"}}
    assert int(await rpc.result("eth_call", {"to": SOMEBODY}, "latest", code), 16) == 42
    whole = {contract: {"state": {"0x" + "00" * 32: f"0x{5:064x}"}}}
    assert int(await rpc.result("eth_call", {"to": contract, "data": probe.call("number")}, "latest", whole), 16) == 5
    empty: dict[str, object] = {contract: {"state": {}}}
    assert int(await rpc.result("eth_call", {"to": contract, "data": probe.call("number")}, "latest", empty), 16) == 0
    assert int(await rpc.result("eth_call", {"to": contract, "data": probe.call("number")}, "latest"), 16) == 7
    assert await rpc.result("eth_getCode", SOMEBODY, "latest") == "0x"


@pytest.mark.parametrize(("value", "data"), [(0, "store"), (5, "store"), (0, "transientOpcodes"), (1, "")])
async def test_an_estimate_is_enough_and_not_wasteful(
    rpc: Rpc, contract: str, probe: Probe, value: int, data: str
) -> None:
    payload = {"store": probe.store(123), "transientOpcodes": probe.call("transientOpcodes"), "": "0x"}[data]
    to = contract if data else SOMEBODY
    estimate = int(
        await rpc.result("eth_estimateGas", {"from": OWNER.address, "to": to, "value": hex(value), "data": payload}), 16
    )
    receipt = await rpc.mined(sign(nonce=1, to=to, gas=estimate, value=value, data=payload))
    assert receipt["status"] == "0x1"
    used = int(receipt["gasUsed"], 16)
    assert used <= estimate <= used * 1.2


async def test_an_estimate_with_long_calldata_meets_the_floor(rpc: Rpc) -> None:
    call = {"from": OWNER.address, "to": SOMEBODY, "data": "0x" + "ff" * 5000}
    floor = 21_000 + 40 * 5000
    assert floor <= int(await rpc.result("eth_estimateGas", call), 16) <= floor * 1.015


async def test_an_estimate_is_bounded_by_what_the_sender_can_pay(rpc: Rpc, contract: str, probe: Probe) -> None:
    call = {"from": SOMEBODY, "to": contract, "data": probe.store(1), "gasPrice": hex(2 * GWEI)}
    rich = {SOMEBODY: {"balance": hex(ETHER)}}
    assert int(await rpc.result("eth_estimateGas", call, "latest", rich), 16) > 30_000
    poor = {SOMEBODY: {"balance": hex(30_000 * 2 * GWEI)}}
    assert (await rpc.error("eth_estimateGas", call, "latest", poor))[
        "message"
    ] == "gas required exceeds allowance (30000)"


async def test_an_access_list_names_what_is_touched_and_no_more(rpc: Rpc, contract: str, probe: Probe) -> None:
    call = {"from": OWNER.address, "to": contract, "data": probe.store(1), "value": "0x1"}
    answer = await rpc.result("eth_createAccessList", call, "latest")
    (entry,) = answer["accessList"]
    assert entry["address"] == contract
    assert f"0x{0:064x}" in entry["storageKeys"]
    assert len(entry["storageKeys"]) == 2
    receipt = await rpc.mined(
        sign(nonce=1, to=contract, gas=200_000, value=1, data=probe.store(1), accessList=answer["accessList"])
    )
    assert receipt["gasUsed"] == answer["gasUsed"]


def test_reasons_come_only_from_well_formed_data() -> None:
    assert revert_reason(b"") is None
    assert revert_reason(bytes.fromhex("08c379a0")) is None
    assert revert_reason(bytes.fromhex("08c379a0") + b"\xff" * 64) is None
    assert revert_reason(bytes.fromhex("4e487b71") + (0x99).to_bytes(32, "big")) == "unknown panic code: 0x99"


@settings(max_examples=300, deadline=None)
@given(output=st.binary(max_size=100))
def test_no_revert_data_breaks_the_reason(output: bytes) -> None:
    for selector in ("08c379a0", "4e487b71"):
        revert_reason(bytes.fromhex(selector) + output)


@settings(max_examples=300, deadline=None)
@given(code=st.binary(max_size=40), value=st.integers(0, 2))
async def test_no_code_makes_an_internal_error(code: bytes, value: int) -> None:
    call = {"from": OWNER.address, "data": "0x" + code.hex(), "value": hex(value), "gas": hex(200_000)}
    for method in ("eth_call", "eth_createAccessList", "eth_estimateGas"):
        response = await asking(SHARED).ask(method, call, "latest")
        assert "result" in response or response["error"]["code"] in (3, -32000)
        assert "execution failed" not in str(response.get("error")), response
