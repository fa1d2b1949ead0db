"""What the long runs share: how many kills, from which seed, and a line of progress now and then.

`SOAK_KILLS` is the number of kills of each test (portions of one long run take other seeds), `SOAK_SEED` where chance begins.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

EVERY = 20.0  # seconds between two lines of progress

Progress: TypeAlias = Callable[[str], None]


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the test kills: `SOAK_KILLS`, or what the module calls KILLS."""
    return int(os.environ.get("SOAK_KILLS", request.module.KILLS))


@pytest.fixture
def chance() -> random.Random:
    """The chance that chooses the moments: the same again with the same `SOAK_SEED`."""
    return random.Random(int(os.environ.get("SOAK_SEED", "1")))


@pytest.fixture
def progress(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Iterator[Progress]:
    """Say on the terminal, past pytest's capture, how far the run is: at most every 20 seconds, and at its end."""
    began = last = time.monotonic()
    latest = ""

    def tell() -> None:
        with capfd.disabled():
            print(f"{time.monotonic() - began:6.0f} s  {request.node.name}: {latest}", flush=True)  # noqa: T201

    def say(text: str) -> None:
        nonlocal last, latest
        latest = text
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            tell()

    yield say
    tell()
