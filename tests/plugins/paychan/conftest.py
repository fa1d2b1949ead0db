"""A world per test: anvil, the contract, the hub as a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.paychan.world import World, make_world


@pytest.fixture(autouse=True)
def _quick_starts(quick_starts: None) -> None:
    """Start our programs quickly, the hub for each test."""


@pytest.fixture
async def world(anvil: Any, tmp_path: Path) -> AsyncIterator[World]:
    """A chain with the contract and a hub reached over HTTP."""
    made = await make_world(anvil.http, anvil.chain_id, tmp_path)
    yield made
    await made.close()
