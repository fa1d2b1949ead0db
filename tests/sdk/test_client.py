"""The web3.py module against a small server that answers as rpc.md says: HTTP, WebSocket, sync, async."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from l2proxy_sdk import client
from l2proxy_sdk.client import L2
from web3 import AsyncHTTPProvider, AsyncWeb3, HTTPProvider, Web3, WebSocketProvider

STATE = {"plugin": "paychan", "revision": "0x2", "block": "0x1", "state": {"balance": "0x5"}}
ERRORS: dict[str, dict[str, Any]] = {
    "refused": {"code": 4001, "message": "the owner said no", "data": {"reason": "no"}},
    "denied": {"code": 4100, "message": "not connected", "data": {"reason": "permission"}},
    "own": {
        "code": -32010,
        "message": "the plugin refused",
        "data": {"plugin": "paychan", "code": 7, "message": "too much", "data": {"left": "0x1"}},
    },
    "slow": {"code": -32011, "message": "too slow", "data": {"plugin": "paychan", "outcome": "unknown"}},
    "gone": {"code": -32012, "message": "crashed", "data": {"plugin": "paychan", "outcome": "unknown"}},
    "limit": {"code": -32005, "message": "too many", "data": {"limit": 3}},
    "pending": {"code": -32002, "message": "asked already"},
    "params": {"code": -32602, "message": "value", "data": {"param": "value"}},
    "other": {"code": 4902, "message": "unknown chain"},
}


@dataclass
class Door:
    """A server that remembers what it was asked."""

    url: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        self.asked.append((method, params))
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        if method == "l2_invoke" and params[1] in ERRORS:
            return reply | {"error": ERRORS[params[1]]}
        results: dict[str, Any] = {"l2_invoke": {"nonce": "0x1"}, "l2_getState": STATE, "eth_subscribe": "0x99"}
        return reply | {"result": results.get(method, [{"plugin": "paychan", "method": method}])}

    async def post(self, request: web.Request) -> web.Response:
        return web.json_response(self.answer(await request.json()))

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            call = json.loads(message.data)
            await socket.send_json(self.answer(call))
            if call["method"] == "eth_subscribe":
                pushed = {"subscription": "0x99", "result": STATE}
                await socket.send_json({"jsonrpc": "2.0", "method": "eth_subscription", "params": pushed})
        return socket


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    app = web.Application()
    app.router.add_post("/", made.post)
    app.router.add_get("/", made.socket)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def attached(w3: Any) -> Any:
    w3.attach_modules({"l2": L2})
    return w3.l2


async def test_every_method_asks_what_rpc_md_says(door: Door) -> None:
    l2 = attached(AsyncWeb3(AsyncHTTPProvider(f"http://{door.url}")))
    paid = await l2.invoke(
        "paychan", "makePayment", {"toAddress": "0x11", "value": 10**18, "raw": b"\x01"}, idempotency_key="k"
    )
    assert paid == {"nonce": "0x1"}
    assert type(paid) is dict
    assert await l2.get_state("paychan") == STATE
    await l2.get_state("paychan", "/balance", fresh=True)
    await l2.get_state("paychan", fresh=True)
    await l2.actions()
    await l2.actions("paychan")
    await l2.get_deposits("paychan")
    await l2.get_operations("paychan", "op-1")
    await l2.plugins()
    await l2.add_plugin("pypi:paychan==1.0", "sha256-00")
    await l2.invoke("paychan", "list", ["0x11", 5])
    await l2._w3.provider.disconnect()
    assert door.asked == [
        (
            "l2_invoke",
            [
                "paychan",
                "makePayment",
                {"toAddress": "0x11", "value": "0xde0b6b3a7640000", "raw": "0x01"},
                {"idempotencyKey": "k"},
            ],
        ),
        ("l2_getState", ["paychan"]),
        ("l2_getState", ["paychan", "/balance", {"fresh": True}]),
        ("l2_getState", ["paychan", None, {"fresh": True}]),
        ("l2_actions", []),
        ("l2_actions", ["paychan"]),
        ("l2_getDeposits", ["paychan"]),
        ("l2_getOperations", ["paychan", "op-1"]),
        ("l2_plugins", []),
        ("l2_addPlugin", [{"source": "pypi:paychan==1.0", "integrity": "sha256-00"}]),
        ("l2_invoke", ["paychan", "list", ["0x11", "0x5"]]),
    ]


async def test_the_blocking_web3_gets_results_and_errors(door: Door) -> None:
    l2 = attached(Web3(HTTPProvider(f"http://{door.url}")))
    assert await asyncio.to_thread(l2.invoke, "paychan", "makePayment", {"value": 1}) == {"nonce": "0x1"}
    with pytest.raises(client.PluginError) as caught:
        await asyncio.to_thread(l2.invoke, "paychan", "own")
    error = caught.value
    assert (error.code, error.plugin, error.plugin_code, error.plugin_message) == (-32010, "paychan", 7, "too much")
    assert error.plugin_data == {"left": "0x1"}


@pytest.mark.parametrize("transport", ["http", "ws"])
async def test_errors_are_exceptions_of_their_kind(door: Door, transport: str) -> None:
    kinds = {
        "refused": client.Refused,
        "denied": client.PermissionDenied,
        "own": client.PluginError,
        "slow": client.PluginTimeout,
        "gone": client.PluginUnavailable,
        "limit": client.LimitExceeded,
        "pending": client.AlreadyPending,
        "params": client.InvalidParams,
        "other": client.L2Error,
    }
    provider: Any = AsyncHTTPProvider(f"http://{door.url}")
    if transport == "ws":
        provider = WebSocketProvider(f"ws://{door.url}")
        await provider.connect()
    l2 = attached(AsyncWeb3(provider))
    for action, kind in kinds.items():
        with pytest.raises(client.L2Error) as caught:
            await l2.invoke("paychan", action)
        assert type(caught.value) is kind
        assert caught.value.code == ERRORS[action]["code"]
        assert caught.value.message == ERRORS[action]["message"]
        assert caught.value.data == ERRORS[action].get("data")
    await provider.disconnect()


async def test_state_is_pushed_over_a_websocket(door: Door) -> None:
    async with AsyncWeb3(WebSocketProvider(f"ws://{door.url}")) as w3:
        l2 = attached(w3)
        number = await l2.subscribe_state("paychan", "/balance")
        assert number == "0x99"
        assert door.asked[-1] == ("eth_subscribe", ["l2_state", {"plugin": "paychan", "path": "/balance"}])
        async for message in w3.socket.process_subscriptions():
            assert message["subscription"] == "0x99"
            assert client.errors.plain(message["result"]) == STATE
            break
