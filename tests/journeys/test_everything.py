"""A Python and an npm plugin, each from an archive that `plugin pack` made, do every service of plugin.md against a real node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.cli.plugin import plugin
from proxy.config import Config
from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE, Anvil
from tests.host.neighbours import PASSWORD
from tests.host.small_gateway import CREATION

pytestmark = [pytest.mark.node, pytest.mark.timeout(180)]

FOLDER = Path(__file__).parent / "everything"
SECONDS = 60.0
SETTLED = ("done", "failed", "rejected")
PACKAGES = {
    "everything-python": ("python", "everything:Everything", "m/7002'/21'/0'"),
    "everything-npm": ("npm", "everything.js", "m/7002'/22'/0'"),
}


def packed(name: str, into: Path) -> str:
    """Lay out one of the two plugins as an author would, pack it; return its archive with its digest."""
    runtime, entry, path = PACKAGES[name]
    project = shutil.copytree(FOLDER / runtime, into / name)
    shutil.copy(FOLDER / "gateway.json", project)
    top = f'id = "{name}"\nruntime = "{runtime}"\nentry = "{entry}"\n'
    keys = f'\n[keys]\npath = "{path}"\n'
    (project / "plugin.toml").write_text(top + (FOLDER / "plugin.toml").read_text() + keys)
    archive = into / f"{name}.tar.gz"
    said = CliRunner().invoke(plugin, ["pack", str(project), "--output", str(archive), "--json"])
    assert said.exit_code == 0, said.output
    return f"{archive}#sha256={json.loads(said.output)['sha256']}"


@dataclass
class Hub:
    """A plugin's operator: echoes what it is sent, over WebSocket and HTTP, and writes it down."""

    heard: list[Any] = field(default_factory=list)

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            self.heard.append(message.data)
            if message.type is aiohttp.WSMsgType.TEXT:
                await opened.send_str(f"heard {message.data}")
            else:
                await opened.send_bytes(message.data)
        return opened

    async def post(self, request: web.Request) -> web.Response:
        text = await request.text()
        return web.Response(text=f"{text} {request.headers['X-Asked']}", status=201)


@dataclass
class Owner:
    """A running daemon, the owner beside it, who agrees to everything, and a site with a token."""

    admin: Path
    dapp: str
    session: aiohttp.ClientSession
    tokens: dict[str, str]
    approved: list[str] = field(default_factory=list)

    async def ask(self, method: str, **params: Any) -> Any:
        return await call_admin_socket(self.admin, method, params)

    async def rpc(self, name: str, method: str, *params: Any) -> Any:
        """Call as the site that may use the plugin `name`."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self.session.post(f"{self.dapp}/{self.tokens[name]}", json=body) as response:
            answer = await response.json()
        assert "error" not in answer, (params, answer)
        return answer["result"]

    async def use(self, plugin: str, what: str, **given: Any) -> Any:
        """Have the plugin use one service."""
        return json.loads((await self.rpc(plugin, "l2_invoke", plugin, "use", [what, json.dumps(given)]))["answer"])

    async def agree(self) -> None:
        """Answer yes to whatever comes up."""
        version: int | None = None
        while True:
            waited = await self.ask("admin_approvalWait", **({} if version is None else {"since": version}))
            version = waited["version"]
            for question in waited["questions"]:
                await self.ask("admin_approvalApprove", id=question["id"])
                self.approved.append(question["kind"])

    async def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Mine blocks until what the plugin was told fulfils the condition."""
        async with asyncio.timeout(SECONDS):
            while not condition(told := await self.use(name, "told")):
                await self.rpc(name, "evm_mine")
        return dict(told)


@contextlib.asynccontextmanager
async def daemon(data: Path, l1: str, session: aiohttp.ClientSession, tokens: dict[str, str]) -> AsyncIterator[Owner]:
    """Open the assembled daemon, with an owner who agrees to everything."""
    options = RunOptions(data, Config(), (l1,), True, 0, 0, PASSWORD, True)
    async with open_daemon(options, lambda line: None) as (_, doors):
        owner = Owner(data / "admin.ipc", f"http://127.0.0.1:{doors.dapp.port}", session, tokens)
        agreeing = asyncio.create_task(owner.agree())
        try:
            yield owner
        finally:
            agreeing.cancel()
            await asyncio.gather(agreeing, return_exceptions=True)


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, str]:
    """Pack both, before there is a loop: the command runs one of its own."""
    return {name: packed(name, tmp_path) for name in PACKAGES}


async def test_both_do_every_service(anvil: Anvil, short_tmp: Path, archives: dict[str, str]) -> None:
    data = short_tmp / "data"
    data.mkdir(mode=0o700)
    main = Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD).address
    hub, tokens = Hub(), dict[str, str]()
    application = web.Application()
    application.router.add_get("/hub", hub.socket)
    application.router.add_post("/hub", hub.post)
    async with TestServer(application) as operator, aiohttp.ClientSession() as session:
        place = f"127.0.0.1:{operator.port}"
        more = {
            name: {"gateways": [f"31337={await deployed(session, anvil)}"], "grants": ["all", "transfer"]}
            for name in PACKAGES
        }
        async with daemon(data, anvil.ipc, session, tokens) as owner:
            for name, archive in archives.items():
                await owner.ask("admin_pluginAdd", source=archive, hub=f"ws://{place}/hub", **more[name])
                made = await owner.ask("admin_tokenNew", name=name, accounts=1, allowPlugins=[{"plugin": name}])
                tokens[name] = made["token"]
            own = await asyncio.gather(*(without_money(owner, name, main) for name in PACKAGES))
            await asyncio.gather(*(with_money(owner, *pair) for pair in zip(PACKAGES, own, strict=True)))
            assert sorted(hub.heard, key=str) == [b"\x01\xff"] * 2 + ["ping"] * 2
            assert sorted(owner.approved) == sorted([*["sign"] * 2, "deposit", "withdraw", "plan", "transfer"] * 2)
            for name in PACKAGES:
                head = int(await owner.rpc(name, "eth_blockNumber"), 16)
                await owner.use(name, "schedule", id="late", block=head + 3)
        await node(session, anvil, "anvil_mine", "0x8")
        async with daemon(data, anvil.ipc, session, tokens) as owner:
            for name, archive in archives.items():
                told = await owner.until(name, lambda told: len(told["timers"]) > 0 and head + 8 in told["blocks"])
                assert told["timers"] == [["late", {"for": "late"}, True]]
                assert told["blocks"] == list(range(told["blocks"][0], told["blocks"][-1] + 1))  # no gap over the stop
                assert told["blocks"][0] <= head + 1
                await owner.ask("admin_pluginAdd", source=archive, hub=f"http://{place}", **more[name])
                assert await owner.use(name, "request") == [201, "ping yes"]


async def without_money(owner: Owner, name: str, main: str) -> str:
    """Keys, store, state, L1, hub, a timer and the log, each with what it must come to; return the plugin's own address."""
    keys = await owner.use(name, "keys")
    assert keys["hash"] == "0x" + keccak(b"hello").hex()
    assert keys["abiHash"] == "0x" + keccak((2**70).to_bytes(32, "big")).hex()
    assert keys["ownMessage"] == keys["ownTyped"] == keys["account"]
    assert keys["ownerMessage"] == keys["ownerTyped"] == main
    assert len({keys["account"], keys["derived"], keys["new"], main}) == 4
    assert await owner.use(name, "store") == [["c", "3"], ["b", [1, 255]]]
    assert await owner.use(name, "state", origin="https://app.example") == [1, True]
    assert (await owner.rpc(name, "l2_getState", name))["state"] == {"seen": 1}
    assert await owner.use(name, "layer1") == "0x7a69"
    await owner.use(name, "log")
    logged = str(await owner.ask("admin_pluginLogs", id=name))
    assert "something" in logged
    assert "\x1b" not in logged
    await owner.use(name, "hub")
    head = int(await owner.rpc(name, "eth_blockNumber"), 16)
    await owner.use(name, "schedule", id="soon", block=head + 2)
    told = await owner.until(name, lambda told: len(told["timers"]) == 1 and len(told["hub"]) == 2)
    assert told["timers"][0][:2] == ["soon", {"for": "soon"}]
    assert told["hub"] == ["heard ping", [1, 255]]
    return str(keys["account"])


async def with_money(owner: Owner, name: str, own: str) -> None:
    """Every kind of operation until it is done, and what the contract has locked afterwards."""
    made = {}
    for what in ("deposit", "withdraw", "plan", "transfer", "send"):
        made[what] = await owner.use(name, what)
        await owner.until(name, _settled(made[what]))
    rows = {row["id"]: row for row in await owner.rpc(name, "l2_getOperations", name)}
    assert {what: rows[identity]["status"] for what, identity in made.items()} == dict.fromkeys(made, "done")
    assert len(rows[made["plan"]]["steps"]) == 2
    assert (
        0 < int(await owner.rpc(name, "eth_getBalance", own, "latest"), 16) < 10**16
    )  # the transfer less the gas of `send`
    told = await owner.until(name, lambda told: len(told["logs"]) >= 5)
    assert all(row[0] == "released" and row[2] is False for row in told["logs"])
    deposits = await owner.rpc(name, "l2_getDeposits", name)
    assert {row["source"]: int(row["locked"], 16) for row in deposits} == dict.fromkeys(
        ("events", "operations"), 10**15 - 7
    )


def _settled(operation: str) -> Callable[[dict[str, Any]], bool]:
    return lambda told: told["operations"].get(operation) in SETTLED


async def deployed(session: aiohttp.ClientSession, anvil: Anvil) -> str:
    """Deploy the gateway from an account that is nobody's here; return its address."""
    sender = (await node(session, anvil, "eth_accounts"))[9]
    created = await node(session, anvil, "eth_sendTransaction", {"from": sender, "data": "0x" + CREATION.hex()})
    async with asyncio.timeout(60):
        while (receipt := await node(session, anvil, "eth_getTransactionReceipt", created)) is None:  # noqa: ASYNC110  anvil tells nobody
            await asyncio.sleep(0.01)
    return str(to_checksum_address(receipt["contractAddress"]))


async def node(session: aiohttp.ClientSession, anvil: Anvil, method: str, *params: Any) -> Any:
    """Ask the node itself."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with session.post(anvil.http, json=body) as response:
        return (await response.json())["result"]
