"""The long run of tests/security/test_store_crash.py (`make soak`): a plugin's store survives a thousand kills."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.security.test_store_crash import check, kill_while_it_writes
from tests.soak.conftest import Progress

pytestmark = pytest.mark.timeout(7200)

KILLS, LOOKS = 1000, 20  # kills; after how many everything is looked through


async def test_a_thousand_kills_lose_nothing_that_was_acknowledged(
    tmp_path: Path, kills: int, chance: random.Random, progress: Progress
) -> None:
    acknowledged = list[str]()
    for killed in range(1, kills + 1):
        acknowledged += kill_while_it_writes(tmp_path, chance, killed * 1000)
        if killed % LOOKS == 0 or killed == kills:
            await check(tmp_path, acknowledged)
        progress(f"{killed} of {kills} kills of the writer, {len(acknowledged)} writes acknowledged and found")
