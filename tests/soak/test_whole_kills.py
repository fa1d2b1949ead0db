"""The long run with the whole product (`make soak`): daemon, plugin or both are killed at random moments around persist, deposit,
send and update, then started again; at the end everything acknowledged is there, and every amount moved once or, with the reason
said, not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from middleware.errors import RpcError
from proxy.demo.party import Party
from proxy.demo.processes import last_words
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE, Anvil
from tests.host.neighbours import PASSWORD
from tests.journeys.test_everything import deployed, node
from tests.soak.conftest import Progress

pytestmark = [pytest.mark.node, pytest.mark.timeout(7200)]

KILLS = 250
LATEST = 0.8  # seconds of work before the kill
PLUGIN_KILLS = 3  # of one daemon: five in ten minutes are quarantined, which is another matter
MOVER = Path(__file__).parent / "mover"
SAID = (  # why an operation was given up before anything of it was signed; a plugin is told, and asks again
    "mover was removed or changed since it asked for this",
)
SETTLED = ("done", "failed", "rejected")


@dataclass
class Moved:
    """What was asked for and what was acknowledged, over all lives of the daemon."""

    written: list[str] = field(default_factory=list)
    operations: dict[str, str] = field(default_factory=dict)  # by id: which action
    asked: dict[str, int] = field(default_factory=lambda: {"deposit": 0, "send": 0})
    updates: int = 0
    versions: int = 1


@dataclass
class Soak:
    """One owner with a daemon, a site with a token, and a plugin that moves money."""

    party: Party
    source: Path
    session: aiohttp.ClientSession
    chance: random.Random
    moved: Moved = field(default_factory=Moved)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    since_start: int = 0

    async def rpc(self, method: str, *params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self.session.post(self.party.token_url, json=body) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def invoke(self, action: str, *params: Any) -> Any:
        """Return what the action returns, None where it has an error: the plugin was killed amid it."""
        return (await self.rpc("l2_invoke", "mover", action, list(params))).get("result")

    async def write(self) -> None:
        number = next(self.numbers)
        body = await self.rpc("l2_invoke", "mover", "write", [number])
        if "error" in body:
            await asyncio.sleep(0.02)  # it was killed, and is not asked again and again for nothing
        else:
            self.moved.written.append(f"{number:012}")

    async def move(self, action: str) -> None:
        self.moved.asked[action] += 1
        if (answer := await self.invoke(action)) is None:
            await asyncio.sleep(0.02)
        else:
            self.moved.operations[answer["operation"]] = action

    async def update(self) -> None:
        self.moved.versions += 1
        manifest = self.source / "plugin.toml"
        lines = manifest.read_text().splitlines()
        lines[2] = f'version = "1.0.{self.moved.versions}"'
        manifest.write_text("\n".join(lines) + "\n")
        shown = await self.party.admin("admin_pluginUpdate", {"id": "mover", "grants": []})
        await self.party.admin("admin_pluginUpdate", {"id": "mover", "grants": [], "digest": shown["digest"]})
        self.moved.updates += 1

    async def at_work(self, before: int) -> None:
        """Wait until something more is acknowledged than before: whoever was killed is up again."""
        for _ in range(3000):
            if len(self.moved.written) > before:
                return
            await asyncio.sleep(0.02)  # other processes are polled
        said = await self.rpc("l2_invoke", "mover", "write", [next(self.numbers)])
        raise AssertionError(f"nothing more is written: {said}, {await self.party.admin('admin_status')}")

    async def agree(self) -> None:
        """Answer yes to whatever comes up; a question may be gone again by then: its plugin was killed."""
        version: dict[str, int] = {}
        while True:
            waited = await self.party.admin("admin_approvalWait", version)
            version = {"since": waited["version"]}
            for question in waited["questions"]:
                with contextlib.suppress(RpcError):
                    await self.party.admin("admin_approvalApprove", {"id": question["id"], "despiteWarnings": True})

    async def kill(self, whom: str) -> None:
        """Kill `plugin`, `daemon` or `both`, whatever they are doing."""
        daemon = self.party.daemon
        assert daemon is not None
        if whom != "daemon":
            for status in (await self.party.admin("admin_status"))["plugins"]:  # none amid an update
                with contextlib.suppress(ProcessLookupError):  # between two lives
                    if status.get("pid"):
                        os.kill(status["pid"], signal.SIGKILL)
        if whom != "plugin":
            await daemon.kill()

    async def round(self) -> str:
        """Work, be killed, start again where the daemon was; return who was killed."""
        whom = self.chance.choice(("plugin", "daemon", "both"))
        if whom == "plugin":
            self.since_start += 1
            whom = "daemon" if self.since_start > PLUGIN_KILLS else whom
        jobs: list[Callable[[], Awaitable[None]]] = [self.write] * 4
        jobs += [lambda: self.move("deposit"), lambda: self.move("send")]
        working = [asyncio.create_task(_over_and_over(job)) for job in jobs]
        working.append(asyncio.create_task(self.agree()))
        if self.chance.random() < 0.5:
            working.append(asyncio.create_task(self.update()))
        if self.chance.random() < 0.75:  # the others die while they start
            await self.at_work(len(self.moved.written))
        await asyncio.sleep(self.chance.uniform(0, LATEST))  # the moment is what is tried
        await self.kill(whom)
        if whom != "plugin":
            outcomes = await asyncio.gather(*working, return_exceptions=True)
            self.since_start = 0
            await self.party.start()
        else:
            outcomes = await _ended(working)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, CUT_OFF):
                raise outcome
        return whom


CUT_OFF = (ConnectionError, aiohttp.ClientError, asyncio.CancelledError, RpcError)


async def _over_and_over(job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await job()


async def _ended(working: list[asyncio.Task[None]]) -> list[Any]:
    for task in working:
        task.cancel()
    return await asyncio.gather(*working, return_exceptions=True)


async def _chain(session: aiohttp.ClientSession, anvil: Anvil, method: str, address: str) -> int:
    return int(await node(session, anvil, method, address, "latest"), 16)


async def test_kills_of_plugin_daemon_or_both_lose_nothing_and_move_everything_once(
    anvil: Anvil, short_tmp: Path, kills: int, chance: random.Random, progress: Progress
) -> None:
    source = shutil.copytree(MOVER, short_tmp / "mover", ignore=shutil.ignore_patterns("__pycache__"))
    party = Party("Alice", short_tmp / "alice")
    party.data.mkdir(mode=0o700, parents=True)
    party.password.write_text(PASSWORD)
    party.address = Keystore(party.data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD).address
    party.on(anvil.ipc, dev=True)
    connector = aiohttp.TCPConnector(force_close=True)  # none left over from a daemon that is dead
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        gateway = await deployed(session, anvil)
        await party.start()
        soak = Soak(party, source, session, chance)
        try:
            add = {"source": str(source), "gateways": [f"31337={gateway}"], "grants": ["all"]}
            own = (await party.admin("admin_pluginAdd", add))["ownKey"]
            await node(session, anvil, "anvil_setBalance", own, hex(10**20))
            token = {"name": "site", "accounts": 1, "allowPlugins": [{"plugin": "mover"}]}
            party.token_url = f"{party.dapp}/{(await party.admin('admin_tokenNew', token))['token']}"
            started = await _chain(session, anvil, "eth_getTransactionCount", party.address)
            killed = dict.fromkeys(("plugin", "daemon", "both"), 0)
            for number in range(1, kills + 1):
                killed[await soak.round()] += 1
                moved = soak.moved
                progress(
                    f"{number} of {kills} kills {killed}; acknowledged: {len(moved.written)} writes,"
                    f" {len(moved.operations)} operations, {moved.updates} updates"
                )
            await _check(soak, anvil, gateway, own, started)
        except BaseException:
            print(last_words(short_tmp / "alice" / "daemon.log", 40).replace(" | ", "\n"))  # noqa: T201 - pytest shows it
            raise
        finally:
            await party.stop()


async def _check(soak: Soak, anvil: Anvil, gateway: str, own: str, started: int) -> None:
    """Let everything come to its end, and compare what there is with what was acknowledged, and with the chain."""
    moved, session = soak.moved, soak.session
    await soak.kill("daemon")
    await soak.party.start()
    agreeing = asyncio.create_task(soak.agree())
    try:
        async with asyncio.timeout(300):
            while True:
                rows = (await soak.rpc("l2_getOperations", "mover"))["result"]
                if all(row["status"] in SETTLED for row in rows):
                    break
                await asyncio.sleep(0.2)  # other processes are polled
        names = set[str]()
        while some := json.loads((await soak.invoke("written", max(names, default="") + "!"))["names"]):
            names.update(some)
    finally:
        agreeing.cancel()
        await asyncio.gather(agreeing, return_exceptions=True)
    assert {f"{name}{half}" for name in moved.written for half in "ab"} <= names, "acknowledged and gone"
    assert {name[:-1] for name in names if name[-1] == "a"} == {name[:-1] for name in names if name[-1] == "b"}, (
        "halves"
    )
    assert set(moved.operations) <= {row["id"] for row in rows}, "acknowledged and gone"
    given_up = [row for row in rows if row["status"] != "done"]
    assert not [row for row in given_up if row["error"]["message"].partition(";")[0] not in SAID], given_up
    assert not [row for row in given_up if any(step["hashes"] for step in row["steps"])], "given up and sent"
    assert len(given_up) < len(rows) / 10, given_up
    counts = {kind: sum(row["kind"] == kind and row["status"] == "done" for row in rows) for kind in moved.asked}
    assert all(counts[kind] <= asked for kind, asked in moved.asked.items())
    assert await _chain(session, anvil, "eth_getBalance", gateway) == counts["deposit"]
    assert await _chain(session, anvil, "eth_getTransactionCount", soak.party.address) - started == counts["deposit"]
    assert await _chain(session, anvil, "eth_getTransactionCount", own) == counts["send"]
    (status,) = (await soak.party.admin("admin_status"))["plugins"]
    assert status["status"] == "running", status
    assert len(moved.written) > len(moved.operations) > 0, "it was killed before it did anything"
