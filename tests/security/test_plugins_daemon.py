"""A real plugin process behind the assembled daemon: who may not ask it, is not heard by it (issue 2; hardening.md 9, 15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.config import Config, LimitSettings
from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE
from tests.host.neighbours import ECHO, PASSWORD
from tests.upstream.fake_node import FakeNode


@dataclass
class Running:
    """A daemon with the echo plugin, asked with one token or another."""

    admin: str
    dapp: str
    session: aiohttp.ClientSession

    async def owner(self, method: str, **params: Any) -> Any:
        return await call_admin_socket(Path(self.admin), method, params)

    async def ask(self, token: str, method: str, *params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self.session.post(f"{self.dapp}/{token}", json=body) as response:
            answer: dict[str, Any] = await response.json()
            return answer


@pytest.fixture
async def running(short_tmp: Path, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """A daemon whose plugin has a minute for a call, or the seconds a test gives it."""
    data = short_tmp / "data"
    data.mkdir(mode=0o700)
    Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD)
    async with FakeNode().http() as url, aiohttp.ClientSession() as session:
        limits = LimitSettings(plugin_call=getattr(request, "param", 60))
        options = RunOptions(data, Config(limits=limits), (url,), False, 0, 0, PASSWORD, True)
        async with open_daemon(options, lambda line: None) as (_, doors):
            running = Running(str(data / "admin.ipc"), f"http://127.0.0.1:{doors.dapp.port}", session)
            await running.owner("admin_pluginAdd", source=str(ECHO), grants=["all"])
            async with asyncio.timeout(60):
                while (await running.owner("admin_status"))["plugins"][0]["status"] != "running":  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.02)  # a process is polled
            yield running


async def token(running: Running, name: str, **more: Any) -> str:
    return str((await running.owner("admin_tokenNew", name=name, **more))["token"])


async def test_without_permission_4100_and_the_plugin_process_hears_nothing(running: Running) -> None:
    stranger = await token(running, "stranger")
    for method, *params in (
        ("l2_invoke", "echo", "say", ["loud", 1]),
        ("l2_invoke", "echo", "say", {"text": 5}),
        ("l2_invoke", "echo", "fail", ["exit"]),
        ("l2_getState", "echo", None, {"fresh": True}),
        ("l2_getOperations", "echo"),
        ("l2_getDeposits", "echo"),
    ):
        answer = await running.ask(stranger, method, *params)
        none = await running.ask(stranger, method, "none", *params[1:])
        assert answer["error"]["code"] == 4100
        assert str(answer).replace("echo", "none") == str(none)  # not installed reads the same
    friend = await token(running, "friend", allowPlugins=[{"plugin": "echo"}])
    heard = await running.ask(friend, "l2_invoke", "echo", "ask", ["invoked", "{}"])
    assert heard["result"] == {"answer": '["ask"]'}


@pytest.mark.parametrize("running", [0.5], indirect=True, ids=["half a second"])
async def test_a_late_answer_is_what_the_key_answers_from_then_on(running: Running) -> None:
    friend = await token(running, "friend", allowPlugins=[{"plugin": "echo"}])
    asked = ("l2_invoke", "echo", "late", ["result", 7], {"idempotencyKey": "k"})
    assert (await running.ask(friend, *asked))["error"]["data"] == {"plugin": "echo", "outcome": "unknown"}
    await running.ask(friend, "l2_invoke", "echo", "wait", [True])
    async with asyncio.timeout(60):
        while "result" not in (answer := await running.ask(friend, *asked)):  # noqa: ASYNC110 - a process is polled
            await asyncio.sleep(0.01)
    assert answer["result"] == {"number": "0x7"}
