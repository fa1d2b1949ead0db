"""Where the module of a `[[middleware]]` entry is looked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from middleware.loading import BadEntry, load


def test_a_module_of_the_present_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here_l2proxy.py").write_text("LINK = 7\n")
    with pytest.raises(BadEntry, match="no module only_here_l2proxy; install it"):
        load("only_here_l2proxy:LINK")
    monkeypatch.chdir(tmp_path)
    assert load("only_here_l2proxy:LINK") == 7
    assert str(tmp_path) not in sys.path


def test_what_is_installed_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "msgspec.py").write_text("raise RuntimeError\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "msgspec.inspect", raising=False)
    assert callable(load("msgspec.inspect:type_info"))


def test_a_module_that_misses_another_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_here_l2proxy.py").write_text("import never_anywhere_l2proxy\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadEntry, match="no module never_anywhere_l2proxy"):
        load("half_here_l2proxy:LINK")
