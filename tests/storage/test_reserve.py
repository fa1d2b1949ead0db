"""Room kept on the disk is made once, given up piece by piece, and made again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.storage.reserve import Reserve


def test_pieces_are_made_given_and_made_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", pieces=2, size=8192)
    assert not reserve.give()
    assert reserve.keep()
    assert sorted(piece.stat().st_blocks * 512 for piece in (tmp_path / "reserve").iterdir()) == [8192, 8192]
    assert [reserve.give(), reserve.give(), reserve.give()] == [True, True, False]
    (tmp_path / "reserve" / "1").write_bytes(b"half")
    assert reserve.keep()
    assert len(list((tmp_path / "reserve").iterdir())) == 2
    assert {piece.stat().st_mode & 0o777 for piece in (tmp_path / "reserve").iterdir()} <= {0o600, 0o644}


def test_a_disk_that_is_nearly_full_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=8192))
    assert not Reserve(tmp_path / "reserve", pieces=2, size=8192).keep()
    assert list((tmp_path / "reserve").iterdir()) == []
