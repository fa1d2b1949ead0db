"""Storage keeps order, keeps spaces apart, and writes all or nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import plyvel
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.storage import Database, StorageError

KEYS = st.binary(max_size=4)


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "db") as opened:
        yield opened


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sync costs nothing: a hundred databases with three each are too much for a disk that is busy."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else tmp_path_factory.mktemp("db")


def test_spaces_do_not_meet(database: Database) -> None:
    database.space("a").write({b"k": b"1"})
    database.space("ab").write({b"k": b"2"})
    assert list(database.space("a").scan()) == [(b"k", b"1")]
    assert database.space("b").get(b"k") is None


def test_a_batch_that_raises_writes_nothing(database: Database) -> None:
    space = database.space("a")
    with pytest.raises(RuntimeError), database.batch() as batch:
        batch.put(space, b"k", b"v")
        raise RuntimeError
    assert space.get(b"k") is None


def test_writes_survive_reopening(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        database.space("a").write({b"k": b"v", b"gone": b"x"})
        database.space("a").write(delete=[b"gone"])
    with Database(tmp_path / "db") as database:
        assert list(database.space("a").scan()) == [(b"k", b"v")]


def test_a_second_process_is_told_so(database: Database) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        Database(database.path)


@example(content={b"": b""}, prefix=b"", start=b"", end=None, limit=None, reverse=True)
@given(
    content=st.dictionaries(KEYS, st.binary(max_size=3), max_size=12),
    prefix=st.binary(max_size=2),
    start=KEYS,
    end=st.none() | KEYS,
    limit=st.none() | st.integers(0, 4),
    reverse=st.booleans(),
)
def test_scan_is_a_slice_of_the_sorted_content(memory, content, prefix, start, end, limit, reverse) -> None:
    with tempfile.TemporaryDirectory(dir=memory) as folder, Database(Path(folder) / "db") as database:
        database.space("`").write({b"\xff": b"before"})
        database.space("b").write({b"": b"after"})
        space = database.space("a")
        space.write(content)
        expected = [
            item
            for item in sorted(content.items(), reverse=reverse)
            if item[0].startswith(prefix) and item[0] >= start and (end is None or item[0] < end)
        ]
        assert list(space.scan(prefix, start=start, end=end, limit=limit, reverse=reverse)) == expected[:limit]


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from proxy.storage import Database, StorageError

path = Path(sys.argv[1])
database = Database(path)
space = database.space("s")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
written = []
for round in range(3):
    for number in range(20):
        space.write({(key := b"%d/%d" % (round, number)): os.urandom(3000)})
        written.append(key)
    space.write({b"kept": b"%d" % round})
    largest = max(file.stat().st_size for file in path.glob("*.log"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 1500, unlimited[1]))  # full in the middle of a record
    for attempt in range(3):
        try:
            space.write({b"kept": os.urandom(3000), b"never": os.urandom(3000)})
        except StorageError as error:
            assert str(path) in str(error), error
        else:
            raise SystemExit("a full disk took a write")
        assert (space.get(b"kept"), space.get(b"never")) == (b"%d" % round, None)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
for number in range(100):  # there is room again
    space.write({(key := b"after/%d" % number): os.urandom(1500)})
    written.append(key)
os._exit(0)  # as `kill -9` does
"""


def test_what_is_acknowledged_after_a_full_disk_is_there_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "db"
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=True, timeout=100)
    with Database(path) as database:
        space = database.space("s")
        found = {key for key, _ in space.scan()}
        assert found == {b"%d/%d" % (one, two) for one in range(3) for two in range(20)} | {
            b"kept",
            *(b"after/%d" % number for number in range(100)),
        }
        assert space.get(b"kept") == b"2"


def test_a_write_that_failed_late_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(tmp_path / "db") as database:
        space = database.space("s")
        space.write({b"old": b"1", b"gone": b"1"})
        write = database._write

        def late(operations: Any, *, synced: bool = True) -> None:  # on disk, and then the disk says no
            write(operations)
            raise plyvel.IOError(b"IO error: sync: Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(database, "_write", late)
            before = {space.prefix + b"old": b"1", space.prefix + b"new": None}
            with pytest.raises(StorageError):
                space.write({b"old": b"2", b"new": b"2"})
        database._failed = before  # LevelDB itself shows nothing of a write whose sync failed
        space.write({b"next": b"3"})
        assert dict(space.scan()) == {b"old": b"1", b"gone": b"1", b"next": b"3"}


def test_reading_goes_on_while_another_thread_opens_the_database_anew(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        space = database.space("a")
        rows = {b"%03d" % n: b"v" for n in range(200)}
        space.write(rows)
        forwards, backwards = space.scan(), space.scan(reverse=True)
        first, last = next(forwards), next(backwards)

        def write_after_failures() -> None:
            for _ in range(20):
                database._failed = {space.prefix + b"gone": None}
                space.write({b"000": b"v"})

        writer = threading.Thread(target=write_after_failures)
        writer.start()
        while writer.is_alive():
            assert space.get(b"100") == b"v"
            assert len(list(space.scan(start=b"150"))) == 50
        writer.join()
        assert dict([first, *forwards]) == rows
        assert [last[0], *(key for key, _ in backwards)] == sorted(rows, reverse=True)
