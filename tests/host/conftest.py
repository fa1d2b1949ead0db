"""A plugin host of the test's own, with real processes and an unlocked wallet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.host.neighbours import Home, new_keyring


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """A running host without plugins."""
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    yield home
    await home.close()
