"""Watches, timers, operations and the hub: told in order, without a gap, across crashes, restarts and reorgs."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web

from middleware.errors import Disconnected, PluginUnavailable
from proxy.host.services.hub import join
from proxy.host.services.watching import FEWEST
from proxy.storage import Database
from tests.host.neighbours import ECHO, PASSWORD, Home

FILTER = {"name": "w", "logs": {"topics": []}, "from": "0x0"}


async def crash(home: Home) -> None:
    with pytest.raises(PluginUnavailable):
        await home.invoke("echo", "fail", ["exit"])


async def test_logs_arrive_once_in_order_and_are_taken_back(home: Home) -> None:
    for number in range(5):
        home.l1.grow(f"0x0{number}")
    await home.add(ECHO)
    assert await home.ask("layer1.watch", FILTER) == {}
    home.l1.grow("0x05", "0x06")
    rows = await home.heard(2)
    while [data for row in rows for data in row[2]] != [f"0x0{n}" for n in range(7)]:
        rows = await home.heard(len(rows) + 1)
    home.l1.rewind(2)
    home.l1.grow("0x14")
    rows = await home.heard(len(rows) + 3)
    assert rows[-3:] == [
        ["logs", "w", ["0x06", "0x05"], True],
        ["logs", "w", ["0x04"], True],
        ["logs", "w", ["0x14"], False],
    ]


async def test_a_watch_goes_on_after_a_restart_and_sees_the_reorg_in_between(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("layer1.watch", {**FILTER, "blocks": True})
    home.l1.grow("0x01")
    assert [row[0] for row in await home.heard(3)] == ["block", "block", "logs"]
    await home.close()
    home.l1.rewind(1)
    home.l1.grow("0x02")
    home.l1.grow()
    home.open()
    await home.plugins.start()
    rows = await home.heard(5)
    assert rows[:2] == [["logs", "w", ["0x01"], True], ["reorg", 1, 2]]
    assert [row[1] for row in rows[2:]] == [1, "w", 2]


async def test_a_reorg_below_the_last_block_of_a_stretch_leaves_no_gap(home: Home) -> None:
    await home.add(ECHO)
    for data in ("0x01", None, None, None, None):
        home.l1.grow(*([] if data is None else [data]))
    await home.ask("layer1.watch", FILTER)  # blocks 0 to 4 are told at once, blocks without logs leave no row
    assert [row[2] for row in await home.heard(1)] == [["0x01"]]
    home.l1.grow("0x05")
    await home.heard(2)
    await home.close()
    home.l1.rewind(4)
    home.l1.grow("0x11")
    home.l1.grow()
    home.open()
    await home.plugins.start()
    assert await home.heard(2) == [["logs", "w", ["0x05"], True], ["logs", "w", ["0x11"], False]]


async def test_a_reorg_below_everything_told_begins_anew_where_the_watch_began(home: Home) -> None:
    await home.add(ECHO)
    for _ in range(4):
        home.l1.grow()
    await home.ask("layer1.watch", {**FILTER, "from": 2})
    home.l1.grow("0x05")
    await home.heard(1)
    await home.close()
    home.l1.rewind(4)
    home.l1.grow("0x12")  # block 2, which was told in a stretch that left no row
    home.open()
    await home.plugins.start()
    assert await home.heard(2) == [["logs", "w", ["0x05"], True], ["logs", "w", ["0x12"], False]]


async def test_the_same_watch_again_goes_on_and_unwatch_ends_it(home: Home) -> None:
    await home.add(ECHO)
    home.l1.grow("0x01")
    await home.ask("layer1.watch", FILTER)
    await home.heard(1)
    await home.ask("layer1.watch", FILTER)
    await home.ask("layer1.unwatch", {"name": "w"})
    home.l1.grow("0x02")
    await home.ask("layer1.watch", {"name": "other", "blocks": True})
    home.l1.grow()
    rows = await home.heard(2)
    assert [row[0] for row in rows] == ["logs", "block"]


async def test_confirmations_hold_blocks_back(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("layer1.watch", {"name": "b", "blocks": True, "confirmations": 2, "from": 1})
    for _ in range(4):
        home.l1.grow()
    assert [row[1] for row in await home.heard(2)] == [1, 2]


async def test_a_node_that_is_away_leaves_no_gap(home: Home) -> None:
    await home.add(ECHO)
    home.l1.failing = Disconnected("no node")
    await home.ask("layer1.watch", {"name": "b", "blocks": True, "from": 0})
    home.l1.grow()
    home.l1.failing = None
    home.l1.grow()
    assert [row[1] for row in await home.heard(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "params",
    [
        {"name": "w"},
        {"name": "", "blocks": True},
        {"name": "a\nb", "blocks": True},
        {"name": "w", "logs": {"address": "0x12"}},
        {"name": "w", "logs": {"topics": ["0x12"]}},
        {"name": "w", "logs": {"topics": [None] * 5}},
        {"name": "w", "logs": {"fromBlock": "0x0"}},
        {"name": "w", "blocks": True, "from": -1},
        {"name": "w", "blocks": True, "confirmations": -1},
    ],
)
async def test_unfit_watches_are_refused(home: Home, params: dict[str, Any]) -> None:
    await home.add(ECHO)
    assert (await home.ask("layer1.watch", params))["error"]["code"] == -32602


async def test_operations_are_told_again_until_answered(home: Home) -> None:
    await home.add(ECHO)
    await home.invoke("echo", "say", ["x", 1])
    await home.plugins._hosted["echo"].life.stop()
    home.operations.change("echo", {"id": "op1", "status": "running"})
    home.operations.change("echo", {"id": "op1", "status": "done"})
    home.operations.change("other", {"id": "op2", "status": "done"})
    await home.close()
    home.open()
    await home.plugins.start()
    assert await home.heard(2) == [["operation", "op1", "running"], ["operation", "op1", "done"]]


async def test_timers_fire_by_time_and_block_and_late_ones_say_so(home: Home) -> None:
    ahead = 0.0
    await home.close()
    home.clock = lambda: time.time() + ahead
    home.open()
    await home.plugins.start()
    await home.add(ECHO)
    await home.ask("schedule", {"id": "never", "time": home.clock() + 3600})
    await home.ask("schedule", {"id": "never", "cancel": True})
    await home.ask("schedule", {"id": "block", "block": hex(len(home.l1.chain))})
    ahead += 3600
    await home.ask("schedule", {"id": "soon", "time": home.clock() + 0.05, "data": {"n": 1}})
    assert await home.heard(1) == [["scheduled", "soon", {"n": 1}, False]]
    home.l1.grow()
    assert (await home.heard(2))[1] == ["scheduled", "block", None, False]
    await home.ask("schedule", {"id": "missed", "time": int(home.clock()) + 3600})
    await home.close()
    ahead += 7200
    home.open()
    await home.plugins.start()
    assert await home.heard(1) == [["scheduled", "missed", None, True]]


@asynccontextmanager
async def hub() -> AsyncIterator[tuple[str, list[Any], list[web.WebSocketResponse]]]:
    """A hub that says hello and writes down what it gets."""
    got: list[Any] = []
    sockets: list[web.WebSocketResponse] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade") != "websocket":
            got.append((request.method, request.path_qs, dict(request.headers), await request.text()))
            if request.path.endswith("/away"):
                raise web.HTTPFound("/elsewhere")
            return web.Response(text="hi", headers={"X-Hub": "1"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        await socket.send_str("hello")
        await socket.send_bytes(b"\xff\x00")
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                got.append(message.data)  # noqa: PERF401 - they are read while more come
        return socket

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield f"127.0.0.1:{port}", got, sockets
    finally:
        await runner.cleanup()


def with_hub(tmp_path: Path) -> Path:
    folder = tmp_path / "with-hub"
    folder.mkdir()
    for file in ECHO.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    manifest = folder / "plugin.toml"
    manifest.write_text(manifest.read_text() + '\n[hub]\nurl = "wss://hub.example/ws"\n')
    return folder


async def test_the_hub_is_held_reconnected_and_delivered_in_order(home: Home, tmp_path: Path) -> None:
    async with hub() as (place, got, sockets):
        await home.add(with_hub(tmp_path), hub=f"ws://{place}/ws")
        assert await home.heard(3) == [["hub open"], ["hub", "hello"], ["hub", "ff00"]]
        assert await home.ask("hub.send", {"text": "from the plugin"}) == {}
        await crash(home)
        await sockets[0].close(code=4000, message=b"enough")
        rows = await home.heard(4)
        assert rows == [["hub close", 4000, "enough"], ["hub open"], ["hub", "hello"], ["hub", "ff00"]]
        assert got == ["from the plugin"]
        assert (await home.ask("hub.request", {"method": "GET", "path": "/"}))["error"]["code"] == 4100
    assert (await home.ask("hub.send", {"text": "x", "base64": ""}))["error"]["code"] == -32602


async def test_a_quarantined_plugin_leaves_its_hub(home: Home, tmp_path: Path) -> None:
    async with hub() as (place, _, sockets):
        await home.add(with_hub(tmp_path), hub=f"ws://{place}/ws")
        await home.heard(3)
        for _ in range(5):
            await crash(home)
        async with asyncio.timeout(60):
            while not sockets[0].closed:  # noqa: ASYNC110 - the other end of a connection is polled
                await asyncio.sleep(0.01)
        shown = home.plugins.status("echo")
        assert (shown["status"], shown["hub"]) == ("quarantined", "not connected")


async def test_requests_to_an_http_hub_stay_on_it(home: Home, tmp_path: Path) -> None:
    async with hub() as (place, got, _):
        await home.add(with_hub(tmp_path), hub=f"http://{place}/api")
        answer = await home.ask(
            "hub.request", {"method": "POST", "path": "/pay?x=1", "body": "{}", "headers": {"X-A": "b"}}
        )
        assert (answer["status"], answer["body"], answer["headers"]["x-hub"]) == (200, "hi", "1")
        method, path, headers, body = got[0]
        assert (method, path, body, headers["X-A"], headers["Host"]) == ("POST", "/api/pay?x=1", "{}", "b", place)
        assert (await home.ask("hub.request", {"method": "GET", "path": "/away"}))["status"] == 302
        for header in (
            "Host",
            "Cookie",
            "X-Forwarded-For",
            "Proxy-Authorization",
            "Sec-Fetch-Site",
            "Content-Length",
            "a b",
        ):
            answer = await home.ask("hub.request", {"method": "GET", "path": "/", "headers": {header: "x"}})
            assert answer["error"]["code"] == -32602, header
        assert len(got) == 2


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "//evil.example",
        "/a/../b",
        "/..",
        "/%2e%2e/x",
        "/a\\b",
        "/#x",
        "/a b",
        "http://evil.example",
        "/a%2f..",
        "/\n",
        "/é",
    ],
)
def test_a_path_never_leaves_the_hub(path: str) -> None:
    with pytest.raises(Exception, match="path"):
        join("https://hub.example/api", path)


def test_a_path_is_set_below_the_hubs() -> None:
    assert str(join("https://hub.example:8443/api/", "/a?b=c@d")) == "https://hub.example:8443/api/a?b=c@d"


async def test_a_timer_that_was_due_while_the_plugin_could_not_run_was_missed(home: Home) -> None:
    now = time.time()
    await home.close()
    home.clock = lambda: now
    home.open()
    await home.plugins.start()
    await home.add(ECHO)
    await home.ask("schedule", {"id": "time", "time": now + 60})
    await home.ask("schedule", {"id": "block", "block": hex(len(home.l1.chain))})
    await home.close()
    home.keyring.lock()
    home.open()
    await home.plugins.start()
    now += 60
    home.l1.grow()
    schedule = home.plugins._hosted["echo"].schedule
    schedule.poke()
    async with asyncio.timeout(60):
        while set(schedule._due_since) != {"time", "block"}:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0)
    now += 60
    home.keyring.unlock(PASSWORD)
    assert sorted(await home.heard(2)) == [["scheduled", "block", None, True], ["scheduled", "time", None, True]]


async def test_a_broad_watch_keeps_the_blocks_there_is_room_for_each_on_disk_by_itself(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.host.services.watching.MAX_KEPT", 1)
    await home.add(ECHO)
    await home.ask("layer1.watch", {"name": "all", "logs": {}, "blocks": True, "from": "0x0"})
    for number in range(8):
        home.l1.grow(f"0x0{number}")
    rows = await home.heard(9 + 8)
    await home.close()
    with Database(home.folder / "plugins" / "echo" / "store") as database:
        space = database.space("watches")
        told = [msgspec.json.decode(value)[0] for _, value in space.scan(b"tall\0")]
        assert told == list(range(9))[-FEWEST:]
        assert len(space.get(b"wall") or b"") < 200
    home.l1.rewind(2)
    home.l1.grow("0x14")
    home.open()
    await home.plugins.start()
    rows = await home.heard(5)
    assert [row for row in rows if row[0] == "logs"] == [
        ["logs", "all", ["0x07"], True],
        ["logs", "all", ["0x06"], True],
        ["logs", "all", ["0x14"], False],
    ]
    await home.ask("layer1.unwatch", {"name": "all"})
    assert list(home.plugins._hosted["echo"].watches._space.scan()) == []


async def test_a_node_whose_blocks_do_not_follow_each_other_is_believed_after_a_while_and_not_stormed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.host.services.watching.AGAIN", 0.05)
    await home.add(ECHO)
    await home.ask("layer1.watch", {"name": "w", "blocks": True, "from": "0x0"})
    await home.heard(1)
    before = len(home.l1.asked)
    home.l1.grow()
    home.l1.chain[-1] = dataclasses.replace(home.l1.chain[-1], parent="0x" + "77" * 32)
    home.l1.grow()
    assert [row[1] for row in await home.heard(3)] == [0, 1, 2]
    assert len(home.l1.asked) - before < 40
