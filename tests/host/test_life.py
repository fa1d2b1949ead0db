"""Lazy start, what a crash costs, quarantine that leaves the watch, and messages no plugin could take (hardening.md 23)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectorError, web

from middleware.errors import PluginUnavailable
from proxy.host import plugins
from proxy.host.crashes import Crashes
from proxy.host.lifecycle import Status
from proxy.host.services.hub import _fits
from proxy.host.services.hub_addresses import HubSessions, Refused, check
from proxy.host.services.store import Load
from proxy.storage import StorageError
from tests.host.neighbours import ECHO, Home, package

NEEDY = """
import os, sys
from l2proxy_sdk import Plugin, action
class Main(Plugin):
    async def start(self, info):
        await self.ready()
        await self.layer1.watch("w", logs={"topics": []}, from_block=0)
    async def on_logs(self, watch, logs, removed):
        if any(row["data"] == "0xdead" for row in logs):
            os._exit(1)
        for row in logs:
            await self.store.put(row["data"], "told")
    @action(approval="never")
    async def go(self) -> None:
        pass
"""
WATCHES = '[permissions]\nlayer1 = ["eth_getLogs"]\n[[action]]\nname = "go"\napproval = "never"\n'


async def until(true: Any) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)


async def stored(home: Home, plugin: str) -> list[str]:
    asker: Any = None
    found = await home.plugins._hosted[plugin].store.load(Load(prefix=""), asker)
    return [key for key, _ in found["items"]]


async def test_a_plugin_nobody_needs_is_not_started_and_starts_when_it_is(home: Home, tmp_path: Path) -> None:
    code = "from l2proxy_sdk import Plugin, action\nclass Main(Plugin):\n    @action(approval='never')\n"
    await home.add(package(tmp_path, "idle", code + "    async def go(self) -> None: pass\n", WATCHES))
    await home.running("idle")  # what was just added shows at once whether it runs
    await home.close()
    home.open()
    await home.plugins.start()
    life = home.plugins._hosted["idle"].life
    assert (life.status, life.starts, life.pid) == (Status.STOPPED, 0, None)
    assert "pid" not in home.plugins.status("idle")
    await home.invoke_unchecked("idle", "go")
    assert (life.status, life.starts) == (Status.RUNNING, 1)
    shown = home.plugins.status("idle")
    assert (shown["invokes"], shown["errors"], shown["restarts"], shown["queue"]) == (1, 0, 0, 0)
    assert shown["residentBytes"] > 1 << 20
    assert shown["cpuSeconds"] > 0


async def test_a_log_that_kills_is_set_aside_and_its_neighbours_arrive(home: Home, tmp_path: Path) -> None:
    home.l1.grow("0x01", "0xdead", "0x02")
    await home.add(package(tmp_path, "needy", NEEDY, WATCHES))
    await until(lambda: any("set aside" in notice for notice in home.notices))
    async with asyncio.timeout(60):
        while await stored(home, "needy") != ["0x01", "0x02"]:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.02)
    assert home.plugins._hosted["needy"].life.starts == 5  # two crashes of them together, two of the one
    home.l1.grow("0x03")
    async with asyncio.timeout(60):
        while "0x03" not in await stored(home, "needy"):  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.02)


async def test_with_funds_locked_the_watch_goes_on_in_quarantine(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.add(package(tmp_path, "needy", NEEDY, WATCHES))
    await home.running("needy")
    hosted = home.plugins._hosted["needy"]

    async def has_locked() -> bool:
        return True

    monkeypatch.setattr(hosted.life, "_has_locked", has_locked)
    monkeypatch.setattr(hosted.life._crashes, "_watch_pauses", (0.01,))
    for _ in range(5):
        channel = await hosted.life.channel(watch=True)
        hosted.life.kill("was shot")
        with pytest.raises(Exception, match="shot"):
            await channel.request("getLayer2State", {})
    await until(lambda: hosted.life.watches_only)
    assert any("its watch goes on" in notice for notice in home.notices)
    with pytest.raises(PluginUnavailable, match="quarantined"):
        await home.invoke_unchecked("needy", "go")
    home.l1.grow("0x07")
    async with asyncio.timeout(60):
        while "0x07" not in await stored(home, "needy"):  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.02)
    assert home.plugins.catalog.all()[0].enabled  # and a restart of the daemon does not end it


async def test_who_waits_for_a_start_that_never_comes_is_told_so(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.add(package(tmp_path, "needy", NEEDY, WATCHES))
    await home.running("needy")
    life = home.plugins._hosted["needy"].life
    monkeypatch.setattr(life._crashes, "_pauses", (3600.0,))
    life.kill("was shot")
    await until(lambda: life.status is Status.CRASHED)
    waiting = asyncio.create_task(home.invoke_unchecked("needy", "go"))
    await asyncio.sleep(0)
    await home.plugins.rehost("needy")  # as an update does
    with pytest.raises(PluginUnavailable, match="ask again"):
        async with asyncio.timeout(60):
            await waiting
    await home.invoke_unchecked("needy", "go")


async def test_an_update_goes_on_when_the_one_who_asked_goes_away(home: Home, tmp_path: Path) -> None:
    await home.add(package(tmp_path, "needy", NEEDY, WATCHES))
    await home.running("needy")
    for turns in (1, 2, 3, 5, 8):
        updating = asyncio.create_task(home.plugins.rehost("needy"))
        for _ in range(turns):
            await asyncio.sleep(0)
        updating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await updating
    await home.plugins.rehost("needy")
    await home.running("needy")
    await home.invoke_unchecked("needy", "go")
    assert home.notices == [], "its store was not left held by nobody"


async def test_a_store_beyond_repair_keeps_its_plugin_from_running_and_no_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond(*_: Any) -> Any:
        raise StorageError("the database is damaged beyond repair")

    monkeypatch.setattr(plugins, "open_store", beyond)
    await home.add(ECHO)
    assert home.plugins.status("echo")["status"] == "disabled"
    assert "beyond repair" in home.plugins.status("echo")["why"]
    with pytest.raises(PluginUnavailable, match="plugin info"):
        await home.invoke("echo", "count")
    assert [plugin.id for plugin in home.plugins.all()] == ["echo"]


@pytest.mark.parametrize(
    ("address", "private", "fine"),
    [
        ("93.184.216.34", False, True),
        ("2606:2800:220:1::1", False, True),
        ("127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("10.0.0.1", False, False),
        ("::1", False, False),
        ("::ffff:10.0.0.1", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::", False, False),
        ("fd00::1", False, False),
        ("100.64.0.1", False, False),
        ("169.254.169.254", True, False),
        ("fe80::1%eth0", True, False),
        ("::ffff:169.254.169.254", True, False),
        ("0.0.0.0", True, False),
        ("224.0.0.1", True, False),
    ],
)
def test_the_addresses_a_hub_may_have(address: str, private: bool, fine: bool) -> None:
    if fine:
        check((address, 443), {8545}, private=private)
    else:
        with pytest.raises(Refused):
            check((address, 443), {8545}, private=private)


def test_no_hub_is_the_proxy_itself() -> None:
    with pytest.raises(Refused, match="itself"):
        check(("127.0.0.1", 8545), {8545}, private=True)


async def test_a_hub_whose_name_leads_to_this_machine_is_not_connected() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/{all}", answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    sessions = HubSessions(tuple)
    try:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(ClientConnectorError):
                await sessions.of(private=False).get(f"http://{host}:{port}/x")
        assert not asked
        (await sessions.of(private=True).get(f"http://127.0.0.1:{port}/x")).close()
        assert asked == ["/x"]
    finally:
        await sessions.close()
        await runner.cleanup()


def test_a_text_that_grows_beyond_a_line_is_noticed_before_it_is_sent() -> None:
    assert _fits("x" * (512 * 1024))
    assert not _fits("\0" * (512 * 1024))


def test_the_pauses_between_starts() -> None:
    now = [0.0]
    crashes = Crashes((0.2, 1.0, 3.0), (15.0, 60.0), lambda: now[0])
    paused = []
    for _ in range(4):
        crashes.add()
        paused.append(crashes.pause())
    assert (paused, crashes.too_many) == ([0.2, 1.0, 3.0, 3.0], False)
    now[0] = 600.0  # those are too long ago
    crashes.add()
    assert (crashes.pause(), crashes.too_many) == (0.2, False)
    for _ in range(4):
        crashes.add()
    assert crashes.too_many
    crashes.on_watch = True
    paused = [crashes.pause()]
    for _ in range(3):
        crashes.add()
        paused.append(crashes.pause())
    assert paused == [15.0, 15.0, 60.0, 60.0]
