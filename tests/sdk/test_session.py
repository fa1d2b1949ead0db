"""The protocol in process: what the proxy asks, what the plugin answers, under FakeHost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from l2proxy_sdk import ActionError, HostError, Plugin, action
from l2proxy_sdk.testing import FakeHost, FakeHub

from tests.sdk.sample import Sample

ALL: dict[str, Any] = {
    "amount": "0xff",
    "to": "0x" + "Ab" * 20,
    "raw": "0x0102",
    "tag": "0x11223344",
    "flag": True,
    "text": "grüezi \u2028 \U0001f600",
    "points": [{"x": "-0x1", "y": "0x2"}],
    "pair": ["0x1", "0x2"],
}


@pytest.fixture
async def host() -> AsyncIterator[FakeHost]:
    made = FakeHost(Sample, gateways={"main": "0x" + "22" * 20})
    await made.start()
    yield made
    await made.kill()


def events(host: FakeHost) -> list[Any]:
    assert isinstance(host.plugin, Sample)
    return host.plugin.events


async def test_start_brings_what_plugin_md_says_and_answers_the_actions() -> None:
    host = FakeHost(Sample, chain_id=5, gateways={"main": "0x" + "22" * 20})
    actions = await host.start(restored={"storeCounter": 1, "expectedCounter": 2})
    assert actions == Sample.actions()
    assert events(host)[0] == ("start", 5, host.owner, ["main"], {"storeCounter": 1, "expectedCounter": 2})
    await host.stop()
    assert ("stop",) in events(host)


async def test_values_arrive_typed_and_return_in_wire_form(host: FakeHost) -> None:
    assert await host.invoke("echo", **ALL) == ALL


async def test_wrong_params_never_reach_the_action(host: FakeHost) -> None:
    cases: list[dict[str, Any]] = [{"amount": "0x1" + "00" * 32}, {"to": "0x1"}, {"extra": 1}]
    for broken in cases:
        with pytest.raises(HostError) as caught:
            await host.invoke("echo", **{**ALL, **broken})
        assert caught.value.code == -32602
        assert caught.value.spent is False
    with pytest.raises(HostError, match="no action nothing"):
        await host.invoke("nothing")
    with pytest.raises(HostError, match="no action __init__"):
        await host.invoke("__init__")


async def test_host_calls_of_an_invoke_repeat_its_call_id(host: FakeHost) -> None:
    await host.invoke("spend", origin="https://a.test", key="k1", value=5)
    method, params = host.calls[-1]
    assert method == "load"
    assert params["call"].startswith("call-")
    assert events(host)[-1] == ("spend", "https://a.test", 0.0, "k1")
    await host.invoke("later")
    await host.invoke("open")
    await host.until(lambda: any(params.get("keys") == ["after serving"] for _, params in host.calls))
    assert next(params for _, params in host.calls if params.get("keys") == ["after serving"]).get("call") is None


async def test_an_invoke_that_waits_holds_up_no_other(host: FakeHost) -> None:
    waiting = [asyncio.create_task(host.invoke("wait")) for _ in range(50)]
    assert await host.invoke("spend", value=1) == {"number": "0x1"}
    assert not any(task.done() for task in waiting)
    await host.invoke("open")
    assert await asyncio.gather(*waiting) == [None] * 50


async def test_an_action_error_reaches_the_caller_whole(host: FakeHost) -> None:
    for spent, shown in ((True, None), (False, False)):
        with pytest.raises(HostError) as caught:
            await host.invoke("refuse", spent=spent)
        error = caught.value
        assert (error.code, error.message, error.data, error.spent) == (7, "too much", {"left": "0x1"}, shown)


@pytest.mark.parametrize("code", ["seven", None, 7.0, True, 10**400])
async def test_an_action_error_whose_code_is_no_integer_is_the_authors_bug(code: Any) -> None:
    class Wrong(Plugin):
        @action(approval="never")
        async def fail(self) -> None:
            raise ActionError(code, "no such luck")

    host = FakeHost(Wrong)
    await host.start()
    with pytest.raises(HostError, match="the reason is in its log"):
        await host.invoke("fail")
    await host.stop()


async def test_a_traceback_goes_to_the_log_and_never_to_the_caller(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("crash", "wrong"):
        with pytest.raises(HostError) as caught:
            await host.invoke(name)
        assert caught.value.code == -32603
        assert caught.value.message == "the plugin failed; the reason is in its log"
        assert caught.value.data is None
    logged = capsys.readouterr().err
    assert "a-secret-value" in logged
    assert "wrong result.number: expected uint256, got str 'five'" in logged


async def test_own_keys_sign_only_after_ready(host: FakeHost) -> None:
    with pytest.raises(HostError, match="still reading the newest state"):
        await host.invoke("sign")
    assert not any(method == "sign" for method, _ in host.calls)
    await host.invoke("be_ready")
    assert len((await host.invoke("sign"))["text"]) == 132


async def test_what_the_owner_refuses_is_passed_on(host: FakeHost) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    async def refuse(method: str, params: dict[str, Any]) -> Any:
        from l2proxy_sdk.peer import Failure

        raise Failure({"code": 4001, "message": "the owner said no", "data": {"secret": 1}})

    host._serve = refuse  # type: ignore[method-assign]
    with pytest.raises(HostError) as caught:
        await host.invoke("owner_signs")
    assert (caught.value.code, caught.value.message, caught.value.data) == (4001, "the owner said no", None)


async def test_deliveries_reach_their_hooks_and_are_answered(host: FakeHost) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("block", {"number": "0x10", "hash": "0xaa", "timestamp": "0x5"}),
        ("reorg", {"from": {"number": "0x5", "hash": "0xbb"}, "to": "0x6"}),
        ("logs", {"watch": "w", "logs": [{"a": 1}], "removed": True}),
        ("hub", {"event": "message", "text": "hi"}),
        ("hub", {"event": "message", "base64": "AQI="}),
        ("hub", {"event": "close", "code": 1006, "reason": "x"}),
        ("operation", {"id": "op-1", "status": "done", "steps": []}),
        ("operation", {"operation": {"id": "op-2", "status": "failed"}}),
        ("scheduled", {"id": "t", "data": {"x": 1}, "missed": True}),
        ("lock", {}),
        ("unlock", {}),
    ]
    assert isinstance(host.hub, FakeHub)
    for method, params in asked:
        assert await host.ask(method, params) == {}
    assert [event for event in events(host)[1:] if event != ("hub open",)] == [
        ("block", 16, "0xaa", 5),
        ("reorg", 5, 6),
        ("logs", "w", [{"a": 1}], True),
        ("hub message", "hi"),
        ("hub message", b"\x01\x02"),
        ("hub close", 1006, "x"),
        ("operation", "op-1", "done"),
        ("operation", "op-2", "failed"),
        ("scheduled", "t", {"x": 1}, True),
        ("lock",),
        ("unlock",),
    ]


async def test_unknown_methods_and_malformed_requests_are_answered(host: FakeHost) -> None:
    with pytest.raises(HostError) as caught:
        await host.ask("exec", {})
    assert caught.value.code == -32601
    with pytest.raises(HostError) as caught:
        await host.ask("block", {})
    assert caught.value.code == -32603


async def test_the_store_writes_reads_and_scans(host: FakeHost) -> None:
    store = host.plugin.store
    await store.write({"a/1": "one", "a/2": b"\x00\xff", "b": "three"})
    assert await store.get("a/1") == "one"
    assert await store.get("none") is None
    assert await store.get_many(["b", "none", "a/2"]) == ["three", None, b"\x00\xff"]
    assert await store.scan("a/") == [("a/1", "one"), ("a/2", b"\x00\xff")]
    assert await store.scan(start="a/2", limit=1) == [("a/2", b"\x00\xff")]
    assert await store.scan(reverse=True, end="b") == [("a/2", b"\x00\xff"), ("a/1", "one")]
    await store.write({"c": "d"}, ["a/1", "none"])
    assert [key for key, _ in await store.scan()] == ["a/2", "b", "c"]
    await store.put(b"\xff\x01", b"bytes")
    await store.write({b"\xff\x02": "two", "text": "three"})
    assert await store.get_many([b"\xff\x01", b"\xff\x02", "text"]) == [b"bytes", "two", "three"]


async def test_services_ask_by_the_names_of_plugin_md(host: FakeHost) -> None:
    plugin = host.plugin
    await plugin.ready()
    await plugin.layer1.watch("w", logs={"address": "0x1", "topics": []}, confirmations=3, from_block=16)
    assert host.calls[-1] == (
        "layer1.watch",
        {"name": "w", "confirmations": 3, "logs": {"address": "0x1", "topics": []}, "from": "0x10"},
    )
    operation = await plugin.gateway.deposit(function="open(address)", args=["0x1", 5, b"\x01"], value=7)
    assert operation.id == "op-1"
    assert host.calls[-1] == ("deposit", {"args": ["0x1", "0x5", "0x01"], "value": "0x7", "function": "open(address)"})
    await plugin.gateway.withdraw(function="settle(bytes32)", args=[])
    assert host.calls[-1] == ("withdraw", {"args": [], "function": "settle(bytes32)"})
    await plugin.schedule("t", time=5, data={"a": 1})
    assert host.timers["t"] == {"id": "t", "time": 5, "data": {"a": 1}}
    await host.fire("t", missed=True)
    assert events(host)[-1] == ("scheduled", "t", {"a": 1}, True)
    account = await plugin.keys.account(3)
    signature = await plugin.keys.sign(account, message="hi")
    assert await plugin.keys.recover(signature, message="hi") == account.address
    many = await plugin.keys.recover_many([{"message": "hi", "signature": signature}] * 2)
    assert many == [account.address] * 2
    with pytest.raises(HostError):
        await plugin.keys.recover(signature, message="other")
    plugin.log.info("hello", count=1)
    await plugin.state.update({"a": {"b": 1}, "c": 2})
    assert await plugin.state.update(patch={"a": {"b": None, "d": 3}}) == 2
    assert host.state == {"a": {"d": 3}, "c": 2}
    assert await host.ask("getLayer2State", {"origin": "https://a.test"}) == host.state
    assert host.logs == [{"level": "info", "message": "hello", "fields": {"count": 1}}]


async def test_a_plugin_without_start_is_ready_at_once() -> None:
    from l2proxy_sdk import Plugin

    class Simple(Plugin):
        """Nothing to resynchronise."""

    host = FakeHost(Simple)
    await host.start()
    await host.until(lambda: host.is_ready)
    await host.stop()
