"""An authority over fresh databases, a clock the test moves, and the lines the owner would read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from middleware.questions import Facts, Question, digest_of
from middleware.waist import Origin
from proxy.authority.assembly import Authority, open_authority
from proxy.storage import Database

APP = Origin.web("https://app.example")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "owner.db") as database:
        yield database


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "chain.db") as database:
        yield database


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
async def authority(
    owner: Database, chain: Database, tmp_path: Path, lines: list[str], clock: Clock
) -> AsyncIterator[Authority]:
    opened = open_authority(owner, chain, tmp_path / "my data", lines.append, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def question() -> Callable[..., Question]:
    """Make a question; any member can be given."""

    def make(**given: object) -> Question:
        members: dict[str, object] = {
            "origin": APP,
            "kind": "transaction",
            "summary": "send 1 ETH to 0x01",
            "digest": digest_of({"value": "0x1"}),
            "facts": Facts("eth_sendTransaction", to="0x01", asset="ETH", value=10**18),
        }
        return Question(**{**members, **given})  # type: ignore[arg-type]

    return make
