"""The long run of tests/security/test_store_crash.py (`make soak`): a plugin's store survives a thousand kills."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.security.test_store_crash import check, kill_while_it_writes

pytestmark = pytest.mark.timeout(7200)

KILLS, LOOKS = int(os.environ.get("SOAK_KILLS", "1000")), 20  # kills; after how many everything is looked through


async def test_a_thousand_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng, acknowledged = random.Random(1), list[str]()
    for round_ in range(KILLS):
        acknowledged += kill_while_it_writes(tmp_path, rng, round_ * 1000)
        if round_ % LOOKS == LOOKS - 1:
            await check(tmp_path, acknowledged)
