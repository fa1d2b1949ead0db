"""Storage keeps order, keeps spaces apart, and writes all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.storage import Database, StorageError

KEYS = st.binary(max_size=4)


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "db") as opened:
        yield opened


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
def test_scan_is_a_slice_of_the_sorted_content(tmp_path_factory, content, prefix, start, end, limit, reverse) -> None:
    with Database(tmp_path_factory.mktemp("db") / "db") as database:
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
