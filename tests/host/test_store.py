"""A plugin's store: in order, all or nothing, sealed, accounted for; damage is repaired and told, a backup is noticed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import LimitExceeded
from middleware.waist import Origin
from proxy.host.provider import Asker
from proxy.host.services.store import Load, Persist, Store
from proxy.host.services.store_sealing import Plain, Sealing
from proxy.host.store_opening import open_store
from proxy.storage import Database, StorageError
from proxy.storage.counter import Counter
from tests.host.neighbours import ECHO, Home

KEY = bytes(range(32))
NOBODY: Any = Asker(Origin.plugin("p"), None, lambda: None)  # type: ignore[arg-type, return-value]


async def opened(path: Path, sealing: Plain | None = None, quota: int = 1 << 20) -> tuple[Store, bool]:
    store = Store(Database(path), quota)
    return store, await store.open(sealing or Sealing(KEY))


async def items(store: Store) -> list[Any]:
    return list((await store.load(Load(prefix=""), NOBODY))["items"])


async def test_writes_that_wait_together_share_a_commit_and_keep_their_order(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s")
    writes = [store.persist(Persist(put={"same": str(n), f"k{n:02}": "v"}), NOBODY) for n in range(50)]
    *_, read = await asyncio.gather(*writes, store.load(Load(keys=["same"]), NOBODY))
    assert read == {"items": [["same", "49"]]}
    assert store.book.counter < 50
    assert (store.book.entries, store.used) == (51, len("same49") + 50 * 4)
    await store.close()


async def test_over_the_quota_alone_fails_and_the_others_are_written(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s", quota=100)
    answers: list[Any] = await asyncio.gather(
        store.persist(Persist(put={"a": "x" * 40}), NOBODY),
        store.persist(Persist(put={"b": "x" * 40, "a": "x" * 60}), NOBODY),
        store.persist(Persist(put={"c": "x" * 40}), NOBODY),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == ({}, {})
    assert isinstance(answers[1], LimitExceeded)
    assert await items(store) == [["a", "x" * 40], ["c", "x" * 40]]
    assert store.used == 82
    await store.close()
    store, whole = await opened(tmp_path / "s", quota=10)
    assert whole
    await store.persist(Persist(delete=["a"]), NOBODY)  # what makes it smaller is taken, also over a quota that shrank
    await store.close()


async def test_values_lie_sealed_and_are_bound_to_their_key(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s")
    await store.persist(Persist(put={"a": "the secret", "b": "other"}), NOBODY)
    data = store._database.space("data")
    stored = data.get(b"a")
    assert stored is not None
    assert b"secret" not in stored
    for forged in (data.get(b"b"), b"tplain", stored[:-1], b"\x01"):
        assert forged is not None
        data.write({b"a": forged})
        with pytest.raises(StorageError, match="changed"):
            await store.load(Load(keys=["a"]), NOBODY)
    await store.close()
    _, whole = await opened(tmp_path / "s")
    assert not whole  # what came past the book is noticed


async def test_an_older_plain_store_is_sealed_at_its_first_opening(tmp_path: Path) -> None:
    with Database(tmp_path / "s") as old:
        old.space("data").write({b"a": b"told", b"b": b"b\xff\xfe"})
        old.space("meta").write({b"bytes": b"8"})
    store, whole = await opened(tmp_path / "s")
    assert whole
    assert await items(store) == [["a", "old"], ["b", {"base64": "//4="}]]
    assert b"told" not in {value for _, value in store._database.space("data").scan()}
    assert (store.book.sealed, store.book.counter, store.used) == (True, 1, 7)
    await store.close()
    store, whole = await opened(tmp_path / "s")
    assert whole
    await store.close()


async def test_a_store_is_sealed_once_its_plugin_gets_keys_also_after_a_crash_in_between(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s", Plain())
    await store.persist(Persist(put={"a": "1", "b": "2"}), NOBODY)
    await store.close()
    with Database(tmp_path / "s") as cut_off:  # as a crash between two parts leaves it
        cut_off.space("meta").write({b"bytes": b""})
        cut_off.space("data").write({b"a": Sealing(KEY).seal(b"a", b"t1")})
    store, whole = await opened(tmp_path / "s")
    assert whole
    assert await items(store) == [["a", "1"], ["b", "2"]]
    await store.close()


async def test_a_lost_entry_is_noticed(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s")
    await store.persist(Persist(put={"a": "1", "b": "2"}), NOBODY)
    store._database.space("data").write(delete=[b"a"])
    await store.close()
    _, whole = await opened(tmp_path / "s")
    assert not whole


async def test_damage_is_repaired_with_a_copy_kept_and_said(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s")
    for number in range(40):
        await store.persist(Persist(put={f"k{number}": "v" * 100}), NOBODY)
    await store.close()
    (log,) = (tmp_path / "s").glob("*.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 0xFF
    log.write_bytes(data)
    notices: list[str] = []
    again = open_store("p", tmp_path / "s", notices.append)
    again.database.close()
    assert again.repaired
    assert [word in notices[i] for i, word in enumerate(("damaged", "s.damaged"))] == [True, True]
    assert (tmp_path / "s.damaged" / log.name).read_bytes() == data
    again = open_store("p", tmp_path / "s", notices.append)
    assert not again.repaired
    again.database.close()


async def test_a_database_without_its_index_is_no_empty_one(tmp_path: Path) -> None:
    store, _ = await opened(tmp_path / "s")
    await store.persist(Persist(put={"a": "1"}), NOBODY)
    await store.close()
    (tmp_path / "s" / "CURRENT").unlink()
    again = open_store("p", tmp_path / "s", lambda _: None)
    assert again.repaired
    store = Store(again.database, 1 << 20)
    assert await store.open(Sealing(KEY))
    assert await items(store) == [["a", "1"]]
    await store.close()


def test_the_counter_outside(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "none" / "yet", "ab" * 16)
    assert counter.read() is None
    assert counter.write(7)
    assert counter.write(12)
    assert Counter(tmp_path / "none" / "yet", "ab" * 16).read() == 12
    (tmp_path / "none" / "yet" / ("ab" * 16)).write_bytes(b"garbage")
    assert counter.read() is None
    counter.forget()
    assert not list((tmp_path / "none" / "yet").iterdir())
    (tmp_path / "file").write_text("")
    assert not Counter(tmp_path / "file" / "x", "ab" * 16).write(1)
    with pytest.raises(ValueError, match="hexadecimal"):
        Counter(tmp_path, "../../etc/passwd")


async def again(home: Home) -> Any:
    """Start the daemon's host anew; return `restored` as the plugin is told it."""
    home.open()
    await home.plugins.start()
    home.plugins._hosted["echo"].life._needed.set()
    home.plugins._hosted["echo"].ready = False
    restored = home.plugins._hosted["echo"].freshness
    looked = restored.look
    seen: list[Any] = []

    async def look(*args: Any, **more: Any) -> Any:
        seen.append(await looked(*args, **more))
        return seen[-1]

    restored.look = look  # type: ignore[method-assign]
    await home.running("echo")
    return seen[0]


async def test_a_restored_backup_is_told_until_the_plugin_is_ready(home: Home, tmp_path: Path) -> None:
    await home.add(ECHO)
    await home.ask("persist", {"put": {"a": "1"}})
    await home.close()
    store = home.folder / "plugins" / "echo" / "store"
    shutil.copytree(store, tmp_path / "backup")
    assert await again(home) is False
    await home.ask("persist", {"put": {"a": "2"}})
    await home.ask("persist", {"put": {"a": "3"}})
    await home.close()
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "backup", store)
    restored = await again(home)
    assert restored["expectedCounter"] - restored["storeCounter"] == 2
    (told,) = home.notices  # the owner too: it may have been put back by mistake
    assert "plugin echo: the store was written" in told
    assert "known of outside of it" in told
    await home.ask("ready")
    counter = home.plugins._hosted["echo"].store.book.counter
    assert counter > restored["expectedCounter"]
    await home.close()
    assert await again(home) is False
    assert home.notices == [told]


async def test_a_doubt_that_ready_could_not_write_away_stands(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    await home.running("echo")
    hosted = home.plugins._hosted["echo"]
    doubted = {"storeCounter": 2, "expectedCounter": 4}
    hosted.freshness.restored, hosted.freshness.why = doubted, "it was put back"

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "commit", full)
        with pytest.raises(StorageError):
            await hosted.provider.request("ready", {})
    assert (hosted.freshness.restored, hosted.freshness.why) == (doubted, "it was put back")
    await hosted.provider.request("ready", {})
    assert (hosted.freshness.restored, hosted.freshness.why) == (False, "")
    assert hosted.store.book.counter > 4


@pytest.mark.parametrize("doubt", ["no counter", "behind", "killed", "imported", "operations", "nonce", "damage"])
async def test_what_gives_no_certainty_is_unknown(home: Home, tmp_path: Path, doubt: str) -> None:
    await home.add(ECHO)
    if doubt not in ("operations", "imported"):
        await home.ask("persist", {"put": {"a": "1"}})
    account = (await home.ask("getAccount", {"index": 0}))["address"]
    nonces = {account: "0x0"}
    asked = home.l1.call

    async def call(method: str, *params: Any) -> Any:
        if method == "eth_getTransactionCount":
            return nonces.get(params[0], "0x5")
        return await asked(method, *params)

    home.l1.call = call  # type: ignore[method-assign]
    home.operations.get = lambda *_, **__: []  # type: ignore[method-assign]
    await home.ask("ready")
    await home.close()
    (counter,) = (tmp_path / "counters").iterdir()
    if doubt in ("no counter", "imported"):
        counter.unlink()
        home.imported = doubt == "imported"
    elif doubt == "behind":
        counter.write_bytes(b"%020d\n" % 0)
    elif doubt == "killed":
        counter.write_bytes(b"%020d\n" % (int(counter.read_bytes()) - 1))
    elif doubt == "operations":
        with Database(home.folder / "plugins" / "echo" / "store") as database:
            fresh = Store(database, 1).book
            database.space("meta").write({b"book": type(fresh)(id="cd" * 16, sealed=True).to_bytes()})
        home.operations.get = lambda *_, **__: [{"id": "op1", "status": "done"}]  # type: ignore[method-assign]
    elif doubt == "nonce":
        nonces[account] = "0x1"
    else:
        with Database(home.folder / "plugins" / "echo" / "store") as database:
            database.space("data").write(delete=[b"a"])
    assert await again(home) == "unknown"
    assert home.operations.looks[-1][1], "its operations are asked again (hardening.md 13)"
    assert home.operations.killed is (doubt == "killed")
    await home.ask("ready")
    await home.close()
    assert await again(home) is False
    assert home.operations.looks[-1] == ("echo", "")


async def test_a_store_that_was_never_written_is_told_from_one_that_was_deleted(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("ready")
    home.operations.get = lambda *_, **__: [{"id": "op1", "status": "done"}]  # type: ignore[method-assign]
    await home.close()
    assert await again(home) is False
    await home.close()
    shutil.rmtree(home.folder / "plugins" / "echo" / "store")
    assert await again(home) == "unknown"


@pytest.mark.parametrize("key", [KEY, bytes(32)])
async def test_of_a_repaired_store_what_nobody_can_read_is_dropped(tmp_path: Path, key: bytes) -> None:
    store, _ = await opened(tmp_path / "s")
    await store.persist(Persist(put={"a": "1", "b": "2"}), NOBODY)
    sealed = store._data.get(b"a") or b""
    store._data.write({b"a": sealed[:-1] + bytes([sealed[-1] ^ 1])})
    await store.close()
    store = Store(Database(tmp_path / "s"), 1 << 20)
    assert not await store.open(Sealing(key), repaired=True)
    if key == KEY:
        assert await items(store) == [["b", "2"]]
    else:
        assert len(list(store._data.scan())) == 2, "another wallet's, and all there is"
    await store.close()


@pytest.mark.parametrize(
    ("space", "key"),
    [
        *(("meta", b"book"), ("meta", b"nonces"), ("accounts", b"next"), ("accounts", b"a\0\0\0\0")),
        *(("watches", b"wx"), ("schedule", b"t"), ("schedule", b"\xff"), ("operations", b"12345678")),
    ],
)
async def test_a_record_that_a_repair_left_torn_is_dropped(home: Home, space: str, key: bytes) -> None:
    await home.add(ECHO)
    first = await home.ask("getAccount", {"index": 0})
    await home.ask("persist", {"put": {"a": "1"}})
    await home.close()
    store = home.folder / "plugins" / "echo" / "store"
    with Database(store) as database:
        database.space(space).write({key: b'{"torn'})
    (store / "CURRENT").unlink()
    home.open()
    await home.plugins.start()
    assert any("1 records" in notice for notice in home.notices)
    assert (await home.ask("load", {"prefix": ""}))["items"] == [["a", "1"]]
    assert await home.ask("getAccount", {"index": 0}) == first
    assert (await home.ask("getAccount"))["path"] == "1'"
    assert home.operations.looks[-1][1]
    await home.ask("ready")
    await home.close()
    home.open()
    await home.plugins.start()
    assert (await home.ask("load", {"prefix": ""}))["items"] == [["a", "1"]]
    assert home.operations.looks[-1] == ("echo", "")
