"""Alice with plugins/stealth, packed and in its jail, behind a daemon on anvil; Bob with code of his own. Each wei is checked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_utils.address import to_checksum_address

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.config import Config
from proxy.server.admin_client import call_admin_socket
from proxy.upstream.l1 import L1
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE, Anvil
from tests.host.conftest import bundler_cache  # noqa: F401 - a fixture
from tests.plugins.stealth.bob import ANNOUNCER, TOKEN, Bob, receipt_of
from tests.plugins.stealth.bundles import archive

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]

ETH = 10**18
PASSWORD = "correct horse"
GRANTS = ["all", "keys.export", "transfer", "eth_sendRawTransaction"]


@dataclass
class Alice:
    """A daemon, its owner who says yes to every question, and a dapp with a token."""

    data: Path
    l1: str
    address: str
    token: str = ""
    dapp: str = ""
    approved: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        options = RunOptions(self.data, Config(), (self.l1,), True, 0, 0, PASSWORD, True)
        async with open_daemon(options, lambda line: None) as (_, doors):
            self.dapp = f"http://127.0.0.1:{doors.dapp.port}"
            answering = asyncio.create_task(self._say_yes())
            try:
                yield
            finally:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)

    async def owner(self, method: str, **params: Any) -> Any:
        return await call_admin_socket(self.data / "admin.ipc", method, params)

    async def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with aiohttp.ClientSession() as session, session.post(f"{self.dapp}/{self.token}", json=body) as response:
            answer = await response.json()
        assert "error" not in answer, (answer, method, params)
        return answer["result"]

    async def invoke(self, action: str, params: dict[str, Any], **options: Any) -> Any:
        return await self.ask("l2_invoke", "stealth", action, params, options)

    async def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the state that sites see is so."""
        async with asyncio.timeout(60):
            while not true(state := (await self.ask("l2_getState", "stealth"))["state"]):  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.02)  # anvil mines and the daemon delivers when they do
        return dict(state)

    async def listed(self) -> list[dict[str, Any]]:
        page = await self.invoke("list", {"after": "", "limit": 0})
        return list(page["addresses"])

    async def _say_yes(self) -> None:
        version = None
        while True:
            waited = await self.owner("admin_approvalWait", **({} if version is None else {"since": version}))
            version = waited["version"]
            for question in waited["questions"]:
                await self.owner("admin_approvalApprove", id=question["id"])
                self.approved.append(question)


@pytest.fixture
async def bob(anvil: Anvil, node_modules: Path) -> AsyncIterator[Bob]:
    l1 = L1([anvil.http])
    await l1.start()
    bob = Bob(l1)
    await bob.begin(node_modules)
    yield bob
    await l1.close()


@pytest.fixture
async def alice(anvil: Anvil, short_tmp: Path, bundler_cache: Path, bob: Bob) -> Alice:  # noqa: F811
    data = short_tmp / "data"
    data.mkdir(mode=0o700)
    account = Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD)
    alice = Alice(data, anvil.ipc, account.address)
    source = await archive(bundler_cache, short_tmp / "stealth.tar.gz")
    async with alice.running():
        await alice.owner("admin_pluginAdd", source=source, grants=GRANTS)
        made = await alice.owner("admin_tokenNew", name="dapp", accounts=1, allowPlugins=[{"plugin": "stealth"}])
        alice.token = made["token"]
    await bob.l1.call("anvil_setBalance", alice.address, hex(10 * ETH))
    return alice


async def test_registered_paid_found_and_swept(alice: Alice, bob: Bob) -> None:
    async with alice.running():
        own = await alice.invoke("metaAddress", {})
        assert own["registered"] is False
        registered = await alice.invoke("register", {})
        await alice.until(lambda state: bool(state["registered"]))
        assert (await alice.ask("l2_getOperations", "stealth", registered["operation"]))[0]["status"] == "done"
        meta = await bob.lookup(alice.address)
        assert f"st:eth:0x{meta.hex()}" == own["metaAddress"] == registered["metaAddress"]
        for junk in (b"", b"\x02" * 32, b"\x02" + b"\xff" * 32, b"\x04" * 65):
            await bob.announce(ANNOUNCER, junk, junk[:1])
        await bob.pay(bob.receiver.meta, 1)
        paid = await bob.pay(meta, ETH)
        await alice.until(lambda state: state["found"] == 1)
        await bob.pay(meta, 0)
        await alice.until(lambda state: state["found"] == 2)
        await bob.l1.call("anvil_reorg", 1, [])
        await alice.until(lambda state: state["found"] == 1)
        known = {row["stealthAddress"]: row for row in await alice.listed()}
        assert (int(known[paid]["balance"], 16), known[paid]["announced"]) == (ETH, True)
        assert [row["announced"] for row in known.values() if row["stealthAddress"] != paid] == [False]
    async with alice.running():
        before = await bob.balance(alice.address)
        swept = await alice.invoke("sweep", {"stealthAddress": paid})
        receipt = await receipt_of(bob.l1, swept["transactionHash"])
        fee, value = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16), int(swept["value"], 16)
        assert (receipt["status"], fee, value + fee) == ("0x1", int(swept["fee"], 16), ETH)
        assert (await bob.balance(paid), await bob.balance(alice.address)) == (0, before + value)
        assert [row["swept"] for row in await alice.listed() if row["stealthAddress"] == paid] == [
            swept["transactionHash"]
        ]
        await _alice_pays_bob(alice, bob)


async def _alice_pays_bob(alice: Alice, bob: Bob) -> None:
    await bob.register()
    assert await alice.invoke("lookup", {"account": bob.key.address}) == {
        "metaAddress": f"st:eth:0x{bob.receiver.meta.hex()}"
    }
    before, asked = await bob.balance(alice.address), len(alice.approved)
    order = {"to": bob.key.address, "value": hex(ETH // 2)}
    sent = await alice.invoke("send", order, idempotencyKey="rent")
    await alice.until(lambda state: state["payments"] == {"open": 0, "refused": 0, "interrupted": 0, "unannounced": 0})
    assert [question["kind"] for question in alice.approved[asked:]] == ["invoke", "plan", "transfer"]
    assert await alice.invoke("send", order, idempotencyKey="rent") == sent
    operations = await alice.ask("l2_getOperations", "stealth")
    assert [row["kind"] for row in operations] == ["plan", "plan", "transfer"]  # one is the registration
    fees = 0
    for row in operations[1:]:
        receipt = await receipt_of(bob.l1, row["steps"][0]["hashes"][-1])
        fees += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    found = await bob.found()
    assert sent["stealthAddress"] in found
    assert await bob.balance(sent["stealthAddress"]) == ETH // 2
    assert await bob.balance(alice.address) == before - ETH // 2 - fees


async def test_a_token_is_found_swept_and_sent(alice: Alice, bob: Bob) -> None:
    async with alice.running():
        meta = bytes.fromhex((await alice.invoke("metaAddress", {}))["metaAddress"].removeprefix("st:eth:0x"))
        token = to_checksum_address((await bob.send(None, TOKEN))["contractAddress"])
        paid = await bob.pay_token(meta, token, 700)
        await alice.until(lambda state: state["found"] == 1)
        assert [row["tokens"] for row in await alice.listed()] == [[{"token": token, "balance": hex(700)}]]
        funded = await alice.invoke("fundSweep", {"stealthAddress": paid, "token": token})
        async with asyncio.timeout(60):
            while (await alice.ask("l2_getOperations", "stealth", funded["operation"]))[0]["status"] != "done":  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.02)
        swept = await alice.invoke("sweepToken", {"stealthAddress": paid, "token": token})
        receipt = await receipt_of(bob.l1, swept["transactionHash"])
        assert (receipt["status"], int(swept["value"], 16)) == ("0x1", 700)
        assert (await bob.holds(token, paid), await bob.holds(token, alice.address)) == (0, 700)
        sent = await alice.invoke(
            "sendToken", {"token": token, "to": f"st:eth:0x{bob.receiver.meta.hex()}", "value": 300}
        )
        await alice.until(lambda state: not any(state["payments"].values()))
        assert sent["stealthAddress"] in await bob.found()
        assert (await bob.holds(token, sent["stealthAddress"]), await bob.holds(token, alice.address)) == (300, 400)
        payments = (await alice.invoke("payments", {"after": "", "limit": 0}))["payments"]
        assert [(row["asset"], row["status"]) for row in payments] == [(token, "done")]
