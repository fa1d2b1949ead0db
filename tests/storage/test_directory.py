"""One data directory, one process; a vanished chain's state goes aside and nothing is lost."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from proxy.storage import Damaged
from proxy.storage.directory import DataDirectory, DirectoryInUse
from proxy.storage.files import write_atomic


def test_only_one_holds_it(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path / "d"), DataDirectory(tmp_path / "d")
    first.lock()
    with pytest.raises(DirectoryInUse, match="holds"):
        second.lock()
    first.release()
    second.lock()
    second.release()
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


def test_set_aside_keeps_everything_of_the_old_chain(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "d")
    directory.lock()
    directory.chain_database.space("operations").write({b"1": b"x"})
    directory.owner_database.space("tokens").write({b"t": b"y"})
    directory.release()
    for name in ("store", "code"):
        (directory.plugins / "p" / name).mkdir(parents=True)
        (directory.plugins / "p" / name / "f").write_text(name)
    write_atomic(directory.pin, b"{}")

    for expected in ("0xaa", "0xaa.2"):
        directory.lock()
        aside = directory.set_aside("0xaa")
        assert aside == directory.path / "old" / expected
        assert not directory.pin.exists()
        assert directory.owner_database.space("tokens").get(b"t") == b"y"
        assert directory.chain_database.space("operations").get(b"1") is None
        directory.release()
    kept = DataDirectory(tmp_path / "d" / "old" / "0xaa")
    assert kept.chain_database.space("operations").get(b"1") == b"x"
    assert (kept.plugins / "p" / "store" / "f").read_text() == "store"
    assert (directory.plugins / "p" / "code" / "f").exists()
    kept.release()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    write_atomic(target, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["owner", "chain"])
def test_security_23_damage_amid_a_database_is_said_and_a_torn_end_is_none(tmp_path: Path, name: str) -> None:
    written, torn, damaged = (DataDirectory(tmp_path / folder) for folder in ("written", "torn", "damaged"))
    space = getattr(written, f"{name}_database").space("x")
    for number in range(100):
        space.write({b"%d" % number: b"v" * 1000})
    written.release()
    for copy in (torn, damaged):
        shutil.copytree(written.path, copy.path, dirs_exist_ok=True)
    (log,) = torn.path.glob("*/*.log")
    log.write_bytes(log.read_bytes()[:-500])  # of a write that nobody was told of
    assert len(list(getattr(torn, f"{name}_database").space("x").scan())) == 99
    torn.release()
    (log,) = damaged.path.glob("*/*.log")
    log.write_bytes(log.read_bytes()[:5000] + b"\0\1" + log.read_bytes()[5002:])
    with pytest.raises(Damaged, match="cannot be opened"):
        getattr(damaged, f"{name}_database")
