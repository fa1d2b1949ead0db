"""A plugin host of the test's own, with real processes and an unlocked wallet."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.host.bundling.program import VERSION
from tests.conftest import need
from tests.host.neighbours import Home, new_keyring


@pytest.fixture(scope="session")
def bundler_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the pinned bundler, so that no test fetches it."""
    (name,) = (name for name, machine in (("x64", "x86_64"), ("arm64", "aarch64")) if machine == os.uname().machine)
    program = Path(__file__).parent.parent / "node_modules" / "@esbuild" / f"linux-{name}" / "bin" / "esbuild"
    need(program.is_file(), "esbuild, the bundler of npm plugins,")
    cache = tmp_path_factory.mktemp("cache")
    kept = cache / f"esbuild-{VERSION}-{os.uname().machine}"
    shutil.copyfile(program, kept)
    kept.chmod(0o555)
    return cache


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """A running host without plugins."""
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    yield home
    await home.close()
