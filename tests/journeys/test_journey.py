"""The demo's journey: by its command, on a real node over every kind of upstream, from every library, through power cuts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.journey import Journey
from tests.conftest import TEST_PHRASE, Anvil
from tests.journeys.clients.drive import client

pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def journey_in(folder: Path, **options: Any) -> AsyncIterator[Journey]:
    phrase = folder / "phrase"
    phrase.write_text(TEST_PHRASE)
    journey = Journey(folder, phrase, **options)
    try:
        yield journey
    finally:
        await journey.end()


async def walk(journey: Journey, between: Callable[[str], Any] | None = None) -> None:
    """Do every step; call `between` with the step's name after each that leaves daemons running."""
    for name, step in journey.steps:
        await step()
        if name == "payments":  # its own key has gas for disputes before anything is locked (hardening.md 22)
            (paychan,) = (await journey.alice.admin("admin_status", {}))["plugins"]
            assert "unguarded" not in paychan
        if between is not None and journey.alice.daemon is not None:
            await between(name)
    assert [line.name for line in journey.balances] == ["Alice", "Bob", "Hub", "Contract"]


@pytest.mark.usefixtures("whole_starts")
async def test_the_demo_command() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["payments"] == 100
    assert {row["name"] for row in lines[-1]["balances"]} == {"Alice", "Bob", "Hub", "Contract"}
    assert all(row["wei"] == row["must"] for row in lines[-1]["balances"])


@pytest.mark.parametrize(
    ("upstream", "library"),
    [
        ("http", "web3.py-http"),
        ("ws", "web3.py-ws"),
        ("ipc", "ethers-ws"),
        ("ws", "viem-http"),
    ],
)
async def test_on_a_real_node_from_a_real_library(
    anvil: Anvil, node_modules: Path, short_tmp: Path, upstream: str, library: str
) -> None:
    opened: dict[str, Any] = {}  # as a dapp does: one connection for the whole visit
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def visit(url: str) -> AsyncIterator[Any]:
            if url not in opened:
                opened[url] = await stack.enter_async_context(client(library, url))
            yield opened[url]

        l1 = getattr(anvil, upstream)
        async with journey_in(short_tmp, l1=l1, open_client=visit, payments=10) as journey:
            await walk(journey)
            await stack.aclose()


async def test_a_power_cut_between_any_two_steps(short_tmp: Path) -> None:
    cuts = []
    async with journey_in(short_tmp, payments=10) as journey:

        async def cut(after: str) -> None:
            cuts.append(after)
            await journey.restart_daemons()

        await walk(journey, cut)
    assert cuts == [name for name, _ in journey.steps][2:]
