"""The end of a daemon while a plugin works: its caller gets the answer or the right error, and the plugin's store is whole."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from tests.app.test_shutdown import Slow, process, refused
from tests.conftest import TEST_PHRASE
from tests.host.neighbours import PASSWORD, package
from tests.upstream.fake_node import result

LIMIT = 1.0  # seconds a call of a plugin may take that is not answered
LONG = 60.0  # and one that is answered: its writes are synced, by whatever disk
CODE = """
from typing import TypedDict
from l2proxy_sdk import Plugin, String, action
class Keys(TypedDict):
    keys: String
class Main(Plugin):
    async def start(self, info):
        await self.ready()
    @action(approval="never")
    async def work(self, name: String) -> Keys:
        await self.store.write({name + " begun": "1", name + " begun too": "1"})
        await self.layer1.request("eth_call", [{}, "latest"])
        await self.store.write({name + " done": "1"})
        return await self.stored()
    @action(approval="never")
    async def stored(self) -> Keys:
        return {"keys": ", ".join([key for key, _ in await self.store.scan()])}
"""
RETURNS = 'returns = [{ name = "keys", type = "string" }]\napproval = "never"\n'
MANIFEST = (
    '[permissions]\nstore_bytes = 10000\nlayer1 = ["eth_call"]\n'
    '[[action]]\nname = "work"\nparams = [{ name = "name", type = "string" }]\n' + RETURNS
) + ('[[action]]\nname = "stored"\n' + RETURNS)


class Held(Slow):
    """Holds what the plugin asks, and nothing that the daemon asks for itself."""

    async def hold(self, request: dict[str, Any]) -> bytes:
        return await super().hold(request) if request["method"] == "eth_call" else result(request, "0x0")


async def invoke(url: str, action: str, *params: str) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "l2_invoke", "params": ["slow", action, list(params)]}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def stored(url: str) -> str:
    """Return what the plugin finds in its store, once it runs: within the limit of one call it need not."""
    async with asyncio.timeout(120):
        while "result" not in (answer := await invoke(url, "stored")):
            pass
    return str(answer["result"]["keys"])


@pytest.mark.timeout(240)  # two starts of a daemon, of a plugin each
async def test_a_signal_while_a_plugin_works(short_tmp: Path) -> None:
    data, password, config = short_tmp / "data", short_tmp / "password", short_tmp / "l2proxy.toml"
    data.mkdir(mode=0o700)
    Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD)
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    config.write_text(f"[limits]\nplugin_call = {LIMIT}\n")
    options = ("--config", str(config), "--password-file", str(password), "--console-port", "0")
    source = str(package(short_tmp, "slow", CODE, MANIFEST))
    node = Held()
    async with node.http() as l1:
        async with process(data, l1, options=options) as (daemon, ready):
            admin, port = Path(ready["admin"]), int(ready["dapp"].rpartition(":")[2])
            await call_admin_socket(admin, "admin_pluginAdd", {"source": source, "grants": ["all"]})
            made = {"name": "shop", "allowPlugins": [{"plugin": "slow"}]}
            token = (await call_admin_socket(admin, "admin_tokenNew", made))["token"]
            assert await stored(f"{ready['dapp']}/{token}") == ""
            call = asyncio.create_task(invoke(f"{ready['dapp']}/{token}", "work", "a"))
            await node.holds(1)
            daemon.send_signal(signal.SIGTERM)
            assert await refused(port, asyncio.Event())
            failure = (await call)["error"]
            assert failure["code"] == -32011, "the plugin was not done in its time"
            assert failure["data"]["outcome"] == "unknown"
            assert await daemon.wait() == 0
        config.write_text(f"[limits]\nplugin_call = {LONG}\n")
        async with process(data, l1, options=options) as (daemon, ready):
            url = f"{ready['dapp']}/{token}"
            assert await stored(url) == "a begun, a begun too", "what it persisted before is there"
            call = asyncio.create_task(invoke(url, "work", "b"))
            await node.holds(2)
            daemon.send_signal(signal.SIGTERM)
            assert await refused(int(ready["dapp"].rpartition(":")[2]), node.release)
            keys = "a begun, a begun too, b begun, b begun too, b done"
            assert (await call).get("result") == {"keys": keys}, "all it still asked of the host was done"
            assert await daemon.wait() == 0
            assert daemon.stderr is not None
            assert "Traceback" not in (await daemon.stderr.read()).decode()
