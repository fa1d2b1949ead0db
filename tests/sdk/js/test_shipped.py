"""The JavaScript SDK lies inside the wheel of l2proxy, where its commands look for it: no registry is asked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import proxy
from proxy.cli.plugin_javascript import sdk_folder
from proxy.cli.session import Failure

ROOT = Path(__file__).parents[3]


def test_the_wheel_brings_it_and_the_commands_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sdk_folder() == ROOT / "sdk" / "js"
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as opened:
        there = {name for name in opened.namelist() if name.startswith("proxy/sdk_js/")}
        opened.extractall(tmp_path / "site", there)
    ours = {path.relative_to(sdk_folder()).as_posix() for path in sdk_folder().rglob("*") if path.is_file()}
    assert there == {f"proxy/sdk_js/{name}" for name in ours}
    monkeypatch.setattr(proxy, "__file__", str(tmp_path / "site" / "proxy" / "__init__.py"))
    assert sdk_folder() == tmp_path / "site" / "proxy" / "sdk_js"
    monkeypatch.setattr(proxy, "__file__", str(tmp_path / "nowhere" / "proxy" / "__init__.py"))
    with pytest.raises(Failure, match="install it again"):
        sdk_folder()
