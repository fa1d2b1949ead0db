"""A world per test: anvil, the contract, the hub as a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.party import Party
from tests.forked import Nursery
from tests.plugins.paychan.world import World, make_world
from tests.quick_keys import quick_init


@pytest.fixture(autouse=True)
def _quick_starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork our programs where another would be started, the hub for each test, and make keystores that cost nothing."""
    if "whole_starts" not in request.fixturenames:
        started: Nursery = request.getfixturevalue("running_nursery")
        monkeypatch.setattr(asyncio, "create_subprocess_exec", started.start)
        monkeypatch.setattr(Party, "init", quick_init)


@pytest.fixture
async def world(anvil: Any, tmp_path: Path) -> AsyncIterator[World]:
    """A chain with the contract and a hub reached over HTTP."""
    made = await make_world(anvil.http, anvil.chain_id, tmp_path)
    yield made
    await made.close()
