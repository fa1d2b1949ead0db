"""The audit log: what was written cannot be changed unnoticed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.authority import audit
from proxy.authority.audit import AuditBroken, AuditLog, Head
from proxy.storage import Database, Space, StorageError


@pytest.fixture
def space(owner: Database) -> Space:
    return owner.space("audit")


@pytest.fixture
def log(space: Space, clock: Any) -> AuditLog:
    opened = AuditLog(space, clock)
    for number in range(5):
        opened.append({"event": "decision", "id": f"q{number}"})
    return opened


def entries_of(space: Space) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in space.scan(b"e")]


def rewritten(space: Space, edit: dict[int, dict[str, Any]]) -> None:
    """Change entries and chain everything behind them anew, as a careful forger would."""
    previous = "0" * 64
    for number, (key, value) in enumerate(entries_of(space), 1):
        entry = {**json.loads(value), **edit.get(number, {}), "previous": previous}
        forged = json.dumps(entry, separators=(",", ":")).encode()
        space.write({key: forged})
        previous = hashlib.sha256(forged).hexdigest()


def test_the_chain_holds_over_a_restart(log: AuditLog, space: Space, clock: Any) -> None:
    again = AuditLog(space, clock)
    again.append({"event": "decision", "id": "q5"})
    assert again.verify().n == 6
    assert [entry["id"] for entry in again.entries(2)] == ["q4", "q5"]
    assert [entry["id"] for entry in again.entries(2, before=5)] == ["q2", "q3"]
    assert again.entries(1)[0]["hash"] == again.head.hash


def test_an_empty_log_is_whole(space: Space) -> None:
    assert AuditLog(space).verify() == Head(0, "0" * 64)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_an_edit_is_found(space: Space, log: AuditLog, number: int) -> None:
    key, value = entries_of(space)[number]
    space.write({key: value.replace(f'"q{number}"'.encode(), b'"zz"')})
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_removal_is_found(space: Space, log: AuditLog, number: int) -> None:
    space.write(delete=[entries_of(space)[number][0]])
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("junk", [b"", b"{}", b"not json", b'"text"', b"[]"])
def test_junk_is_found(space: Space, log: AuditLog, junk: bytes) -> None:
    space.write({entries_of(space)[1][0]: junk})
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_chain_rewritten_as_a_whole_no_longer_leads_to_the_head_shown(
    space: Space, log: AuditLog, clock: Any, number: int
) -> None:
    head = log.show_head()
    log.append({"event": "decision", "id": "later"})
    rewritten(space, {number: {"id": "forged"}})
    forged = AuditLog(space, clock)
    with pytest.raises(AuditBroken, match="rewritten"):
        forged.verify()
    with pytest.raises(AuditBroken):
        forged.verify(head)


def test_an_end_cut_off_is_found_by_the_head_the_owner_kept(space: Space, log: AuditLog, clock: Any) -> None:
    head = log.head
    space.write(delete=[entries_of(space)[-1][0]])
    shorter = AuditLog(space, clock)
    shorter.verify()
    with pytest.raises(AuditBroken, match="cut off"):
        shorter.verify(head)


def test_a_head_is_read_back_and_nonsense_is_not() -> None:
    assert Head.parse(str(Head(5, "ab" * 32))) == Head(5, "ab" * 32)
    for text in ("", "5", "x:" + "a" * 64, "5:abc", "-1:" + "a" * 64):
        with pytest.raises(ValueError, match="no head"):
            Head.parse(text)


async def test_what_is_decided_at_once_is_written_together_and_stays_one_chain(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = Counted(database)
        log = AuditLog(space)
        log.append({"event": "before"})
        decided = [asyncio.create_task(log.appended({"event": f"e{n}"})) for n in range(40)]
        await decided[0]
        log.append({"event": "between"})
        await asyncio.gather(*decided)
        assert log.verify() == log.head
        assert [entry["event"] for entry in log.entries(100) if entry["event"][0] == "e"] == [
            f"e{n}" for n in range(40)
        ]
        assert (log.head.n, space.writes < 10) == (42, True)


async def test_a_log_being_written_is_not_taken_for_an_edited_one(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = Held(database)
        log = AuditLog(space)
        deciding = asyncio.create_task(log.appended({"event": "decided"}))
        await asyncio.to_thread(space.on_disk.wait)  # the entry lies on disk, and the log has not heard of it yet
        checking = asyncio.create_task(asyncio.to_thread(log.verify))
        shown = asyncio.create_task(asyncio.to_thread(log.show_head))
        await asyncio.to_thread(space.scanned.wait, 0.2)  # time to go wrong: a check that does not wait scans by now
        space.go_on.set()
        found = await asyncio.gather(deciding, checking, shown, return_exceptions=True)
        assert list(found) == [None, log.head, log.head]
        assert log.head.n == 1


async def test_a_record_that_cannot_be_written_refuses_who_waits_for_it_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    with Database(tmp_path / "db") as database:
        space = Counted(database)
        log = AuditLog(space)
        space.broken = True
        with pytest.raises(StorageError):
            await log.appended({"event": "lost"})
        space.broken = False
        await log.appended({"event": "kept"})
        assert (log.verify().n, log.entries()[0]["event"]) == (1, "kept")


async def test_what_spends_nothing_is_noted_at_once_and_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "NOTED", 3600)  # the moment does not come by itself, however busy the machine is
    with Database(tmp_path / "db") as database:
        space = Counted(database)
        log = AuditLog(space)
        for n in range(5):
            await log.noted({"event": f"n{n}"})
            assert log.entries(1)[0]["event"] == f"n{n}"  # written before it takes effect
        assert space.synced == 0
        await log.appended({"event": "decided"})  # takes along what was noted
        assert space.synced == 1
        await log.noted({"event": "last"})
        await log.close()
        assert space.synced == 2
        assert log.verify() == log.head == AuditLog(space).head == AuditLog(space).verify()
        assert log.head.n == 7


async def test_what_was_noted_is_synced_a_moment_later(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = Counted(database)
        log = AuditLog(space)
        await log.noted({"event": "noted"})
        async with asyncio.timeout(60):
            while not space.synced:  # noqa: ASYNC110  (poll with a deadline)
                await asyncio.sleep(0.005)
        await log.close()
        assert (space.writes, space.synced) == (2, 1)


async def test_what_is_noted_while_the_disk_is_busy_waits_beside_the_loop(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = Held(database)
        log = AuditLog(space)
        deciding = asyncio.create_task(log.appended({"event": "decided"}))
        await asyncio.to_thread(space.on_disk.wait)
        noting = asyncio.create_task(log.noted({"event": "noted"}))
        await asyncio.sleep(0)
        assert not noting.done()
        space.go_on.set()
        await asyncio.gather(deciding, noting)
        await log.close()
        assert [entry["event"] for entry in log.entries()] == ["decided", "noted"]
        assert log.verify().n == 2


async def test_a_note_that_cannot_be_written_refuses_and_what_a_failed_sync_may_have_lost_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        audit, "NOTED", 3600
    )  # else the moment may come while the disk is "broken", and try it once more
    with Database(tmp_path / "db") as database:
        space = Counted(database)
        log = AuditLog(space)
        await log.noted({"event": "first"})
        entry = next(iter(space.scan(b"e")))
        space.broken = True
        with pytest.raises(StorageError):
            await log.noted({"event": "refused"})
        with pytest.raises(StorageError):
            await log.appended({"event": "refused"})
        space.broken = False
        space.write(delete=[entry[0]])  # what a disk that did not sync may come to
        await log.appended({"event": "second"})
        await log.close()
        assert [entry["event"] for entry in log.entries()] == ["first", "second"]
        assert log.verify().n == 2


class Counted(Space):
    """A space that counts its writes, and fails them at will."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, b"audit\0")
        self.writes, self.synced, self.broken = 0, 0, False

    def write(
        self, put: Mapping[bytes, bytes] | None = None, delete: Iterable[bytes] = (), *, synced: bool = True
    ) -> None:
        if self.broken:
            raise StorageError("no room")
        self.writes += 1
        self.synced += synced
        super().write(put, delete, synced=synced)


class Held(Space):
    """A space whose writes are on disk well before the writer hears of it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, b"audit\0")
        self.on_disk, self.scanned, self.go_on = threading.Event(), threading.Event(), threading.Event()

    def write(
        self, put: Mapping[bytes, bytes] | None = None, delete: Iterable[bytes] = (), *, synced: bool = True
    ) -> None:
        super().write(put, delete, synced=synced)
        self.on_disk.set()
        assert self.go_on.wait(60)

    def scan(self, *args: Any, **limits: Any) -> Iterator[tuple[bytes, bytes]]:
        if self.on_disk.is_set():
            self.scanned.set()
        return super().scan(*args, **limits)
