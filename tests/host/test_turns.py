"""What a plugin asks to be kept goes to the disk beside the loop: nobody else waits for it, and nothing shows before it lies there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from middleware.errors import LimitExceeded, PluginUnavailable
from middleware.waist import Origin
from proxy.host.channel import Channel
from proxy.host.services.store_turns import Turns
from proxy.storage import Database, StorageError
from proxy.storage.leveldb import Batch
from tests.host.neighbours import ECHO, SITE, Home

KEPT: list[tuple[str, dict[str, Any]]] = [
    ("updateLayer2State", {"state": {"n": 1}}),
    ("layer1.watch", {"name": "w", "blocks": True}),
    ("layer1.unwatch", {"name": "there"}),
    ("getAccount", {}),
    ("schedule", {"id": "t", "block": "0xffff"}),
    ("schedule", {"id": "there", "cancel": True}),
    ("persist", {"put": {"k": "v"}}),
]


class Disk:
    """Stands before every commit: may be full, or slow: `hold` it. `loop_wrote`: one came from the loop's own thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.commits = 0
        self.loop_wrote = False
        self._reached = threading.Event()
        self._go = threading.Event()
        self._go.set()
        real, here = Database.commit, threading.get_ident()

        def commit(database: Database, batch: Batch, *, synced: bool = True) -> None:
            self.commits += 1
            self._reached.set()
            if threading.get_ident() == here:
                self.loop_wrote = True  # and waiting it would hold up the test as well
            else:
                assert self._go.wait(60)
            if self.full:
                raise StorageError("the disk is full")
            real(database, batch, synced=synced)

        monkeypatch.setattr(Database, "commit", commit)

    def hold(self) -> None:
        """Let no commit come to its end from now on."""
        self._reached.clear()
        self._go.clear()

    async def reached(self) -> None:
        """Return once a commit waits for the disk that is held."""
        assert await asyncio.to_thread(self._reached.wait, 60)

    def release(self) -> None:
        """Let them come to their end."""
        self._go.set()


def asked(home: Home, method: str, params: dict[str, Any]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(home.plugins._hosted["echo"].provider.request(method, params))


async def prepared(home: Home) -> None:
    await home.add(ECHO)
    await home.running("echo")  # its start writes too
    await asked(home, "layer1.watch", {"name": "there", "blocks": True, "from": "0xffff"})
    await asked(home, "schedule", {"id": "there", "block": "0xffff"})


@pytest.mark.parametrize(("method", "params"), KEPT)
async def test_a_slow_disk_holds_up_nobody_else(
    home: Home, monkeypatch: pytest.MonkeyPatch, method: str, params: dict[str, Any]
) -> None:
    await prepared(home)
    disk = Disk(monkeypatch)
    disk.hold()
    asking = asked(home, method, params)
    await disk.reached()
    for _ in range(100):  # others have their turns
        await asyncio.sleep(0)
    assert not asking.done()
    disk.release()
    await asking
    assert disk.commits
    assert not disk.loop_wrote


@pytest.mark.parametrize(("method", "params"), KEPT)
async def test_a_write_that_fails_is_the_error_of_its_call_and_shows_nowhere(
    home: Home, monkeypatch: pytest.MonkeyPatch, method: str, params: dict[str, Any]
) -> None:
    await prepared(home)
    told: list[int] = []
    home.plugins.on_state_change(lambda _, revision, __: told.append(revision))
    disk = Disk(monkeypatch)
    disk.full = True
    with pytest.raises(StorageError):
        await asked(home, method, params)
    hosted = home.plugins._hosted["echo"]
    assert told == []
    assert home.plugins.states.get("echo") is None
    assert list(hosted.watches._running) == ["there"]
    assert list(hosted.schedule._timers) == ["there"]
    assert hosted.keys.known() == []
    disk.full = False
    await asked(home, method, params)
    await home.close()
    home.open()
    await home.plugins.start()
    hosted = home.plugins._hosted["echo"]
    assert set(hosted.watches._running) == {"there"} - ({"there"} if method == "layer1.unwatch" else set()) | (
        {"w"} if method == "layer1.watch" else set()
    )


async def test_publications_that_wait_together_share_a_sync_and_are_told_one_by_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.add(ECHO)
    disk = Disk(monkeypatch)
    told: list[tuple[int, int, Origin | None]] = []
    home.plugins.on_state_change(lambda _, revision, origin: told.append((revision, disk.commits, origin)))
    updates = [asked(home, "updateLayer2State", {"patch": {f"k{n}": n}}) for n in range(48)]
    bad = asked(home, "updateLayer2State", {"patch": {"a": "x" * 300_000}})
    own = asked(home, "updateLayer2State", {"state": {"own": True}, "origin": str(SITE)})
    last = asked(home, "updateLayer2State", {"patch": {"last": True}})
    answers = await asyncio.gather(*updates, own, last)
    assert [int(row["revision"], 16) for row in answers] == list(range(1, 51))
    with pytest.raises(LimitExceeded):
        await bad
    assert [row[0] for row in told] == list(range(1, 51))
    assert told[48][2] == SITE
    assert all(commits for _, commits, _ in told)  # after the disk
    assert disk.commits < 10
    await home.close()
    home.open()
    await home.plugins.start()
    kept = home.plugins.states.get("echo")
    assert kept is not None
    assert kept.state == {f"k{n}": n for n in range(48)} | {"last": True}
    assert kept.own == {str(SITE): {"own": True}}


async def test_who_is_told_that_the_published_state_holds_sees_the_one_that_was_on_its_way(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had before was kept for it beside the common state, until the next one."""
    await home.add(ECHO)
    await home.running("echo")
    await asked(home, "updateLayer2State", {"state": {"n": 1}})
    request, answered = Channel.request, asyncio.Event()

    async def answer(channel: Channel, method: str, *given: Any) -> Any:
        if method != "getLayer2State":
            return await request(channel, method, *given)
        answered.set()
        return None

    monkeypatch.setattr(Channel, "request", answer)
    disk = Disk(monkeypatch)
    disk.hold()
    publishing = asked(home, "updateLayer2State", {"state": {"n": 2}})
    await disk.reached()
    looking = asyncio.create_task(home.plugins.get_state("echo", None, True, SITE))
    await answered.wait()
    disk.release()
    await publishing
    assert (await looking)["state"] == {"n": 2}
    assert (await home.plugins.get_state("echo", None, False, SITE))["state"] == {"n": 2}


async def test_what_was_begun_is_told_also_when_its_asker_has_gone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    await home.running("echo")
    disk = Disk(monkeypatch)
    disk.hold()
    told = asyncio.Event()
    home.plugins.on_state_change(lambda *_: told.set())
    tasks = [
        asked(home, "updateLayer2State", {"state": {"n": 1}}),
        asked(home, "schedule", {"id": "t", "block": "0xffff"}),
        asked(home, "layer1.watch", {"name": "w", "blocks": True}),
    ]
    await disk.reached()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not told.is_set()
    disk.release()
    async with asyncio.timeout(60):
        await told.wait()
    hosted = home.plugins._hosted["echo"]
    assert await asked(home, "layer1.watch", {"name": "w", "blocks": True}) == {}
    assert list(hosted.schedule._timers) == ["t"]
    assert list(hosted.watches._running) == ["w"]


async def test_accounts_asked_for_at_once_are_different_ones(home: Home) -> None:
    await home.add(ECHO)
    rows = await asyncio.gather(*(asked(home, "getAccount", {}) for _ in range(10)))
    assert [row["path"] for row in rows] == [f"{n}'" for n in range(10)]


async def test_a_timer_set_anew_while_it_fires_is_not_lost(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    await home.running("echo")
    disk = Disk(monkeypatch)
    hosted, real = home.plugins._hosted["echo"], home.plugins._hosted["echo"].deliveries.deliver
    anew: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()

    async def deliver(*given: Any) -> bool:
        done = await real(*given)
        disk.hold()
        setting = asked(home, "schedule", {"id": "t", "block": "0xffff", "data": "anew"})
        await disk.reached()  # it is on its way
        anew.put_nowait(setting)
        return done

    monkeypatch.setattr(hosted.deliveries, "deliver", deliver)
    await asked(home, "schedule", {"id": "t", "block": "0x1", "data": "first"})
    home.l1.grow()
    assert await home.heard(1) == [["scheduled", "t", "first", False]]
    async with asyncio.timeout(60):
        setting = await anew.get()
    for _ in range(100):  # the schedule goes on meanwhile
        await asyncio.sleep(0)
    assert not setting.done()
    disk.release()
    await setting
    await home.close()
    home.open()
    await home.plugins.start()
    assert [timer.data for timer in home.plugins._hosted["echo"].schedule._timers.values()] == ["anew"]


async def test_a_full_disk_ends_neither_watches_nor_timers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.host.services.schedule.AGAIN", 0.05)
    await home.add(ECHO)
    await asked(home, "layer1.watch", {"name": "w", "blocks": True, "from": "0x0"})
    await asked(home, "schedule", {"id": "t", "block": "0x2"})
    await home.heard(1)
    disk = Disk(monkeypatch)
    disk.full = True
    home.l1.grow()
    home.l1.grow()
    rows = await home.heard(4)
    assert sorted(row[0] for row in rows) == ["block", "block", "block", "scheduled"]
    disk.full = False
    home.l1.grow()
    rows = await home.heard(5)
    assert [row[1] for row in rows if row[0] == "block"] == [0, 1, 2, 3]
    hosted = home.plugins._hosted["echo"]
    async with asyncio.timeout(60):  # the plugin hears of a block before its place is written
        while hosted.schedule._timers or hosted.watches._running["w"][0].record.cursor < 4:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)
    await home.close()
    home.open()
    await home.plugins.start()
    watch, _ = home.plugins._hosted["echo"].watches._running["w"]
    assert watch.record.cursor == 4
    assert [block.number for block in watch.record.told] == [0, 1, 2, 3]


async def test_a_full_disk_at_the_start_of_a_plugin_is_waited_for_and_is_no_crash(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.host.lifecycle.DISK_AGAIN", 0.01)
    disk = Disk(monkeypatch)
    await home.add(ECHO)
    disk.full = True
    life = home.plugins._hosted["echo"].life
    asking = asyncio.create_task(home.ask("persist", {"put": {"k": "v"}}))
    async with asyncio.timeout(60):
        while life.starts < 7 or "the disk is full" not in life.why:  # noqa: ASYNC110 - between two starts
            await asyncio.sleep(0.002)
    disk.full = False
    assert await asking == {}
    disk.full = True
    async with asyncio.timeout(60):
        await life.stop()  # and it does not keep the daemon from ending
    disk.full = False


async def test_a_plugin_that_ends_while_the_disk_is_full_runs_again_and_does_not_keep_the_daemon_from_ending(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of_the_node = home.l1.call

    async def call(method: str, *params: Any) -> Any:
        return "0x1" if method == "eth_getTransactionCount" else await asked_of_the_node(method, *params)

    monkeypatch.setattr(home.l1, "call", call)
    await home.add(ECHO)
    await home.running("echo")
    disk = Disk(monkeypatch)
    disk.full = True
    with pytest.raises(PluginUnavailable):
        await home.invoke("echo", "fail", ["exit"])
    await home.running("echo")  # its `ready` finds a disk that keeps no nonces
    life = home.plugins._hosted["echo"].life
    assert (life.starts, home.plugins._hosted["echo"].ready) == (2, True)
    await home.close()
    disk.full = False
    home.open()
    await home.plugins.start()
    assert await home.ask("persist", {"put": {"k": "v"}}) == {}  # its store was let go


async def test_the_store_is_written_before_what_is_shown_of_it() -> None:
    order: list[str] = []

    def writer(name: str) -> Callable[[list[Any]], list[Any]]:
        def commit(group: list[Any]) -> list[Any]:
            order.append(f"{name} {group}")
            return [None] * len(group)

        return commit

    turns, shown = Turns(writer("store"), "test"), writer("shown")
    await asyncio.gather(
        turns.write(1, shown), turns.write(2), turns.write(3, shown), turns.read(lambda: None), turns.write(4, shown)
    )
    assert order == ["store [2]", "shown [1, 3]", "shown [4]"]
    await turns.close()
    with pytest.raises(StorageError, match="closed"):
        await turns.write(5)
