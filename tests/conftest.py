"""What tests of every part share: a real L1 node (anvil) with its npm packages, and nothing skipped in CI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, settings

from proxy.demo.party import Party
from proxy.wallet.key_libraries import RECURSION_LIMIT
from tests.forked import Nursery, nursery
from tests.quick_keys import quick_init

# A busy machine makes single examples slow; that is no finding. What may not take long has a bound of its own.
settings.register_profile("l2proxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("l2proxy")

TESTS = Path(__file__).parent
NODE_MODULES = TESTS / "node_modules"

# The phrase every Ethereum test tool knows; its accounts are funded on anvil.
TEST_PHRASE = "test test test test test test test test test test test junk"


def pytest_sessionstart() -> None:
    """Test no code but the one that can be read: a compiled module older than its source would be tested in its place."""
    for folder in (TESTS.parent / "proxy", TESTS.parent / "middleware"):
        for made in folder.rglob(f"*.{sys.implementation.cache_tag}-*.so"):
            source = made.with_name(made.name.partition(".")[0] + ".py")
            if source.exists() and source.stat().st_mtime > made.stat().st_mtime:
                pytest.exit(
                    f"{made.name} is older than its source; run `make pytest`, or L2PROXY_PURE=1 python compile.py"
                )


def need(condition: bool, what: str) -> None:
    """Skip loudly where `what` is missing; in CI nothing may be skipped, there it fails."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI may skip nothing; `make test` installs it")
    pytest.skip(f"{what} is missing; `make test` installs it")


@pytest.fixture(autouse=True)
def _usual_recursion() -> None:
    """Python's own recursion limit, as in the daemon: what tests import (py_ecc, py-evm) raises it to where the C stack ends."""
    sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what daemons write outside their data directory (second counters, locks of phrases) to these tests alone."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    runtime = tempfile.mkdtemp(prefix="l2r-")  # short: sockets lie there
    os.environ["XDG_RUNTIME_DIR"] = runtime
    yield
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="session")
def running_nursery() -> Iterator[Nursery]:
    """The process our own programs are forked from, in this worker."""
    with tempfile.TemporaryDirectory(prefix="l2n-", dir="/tmp") as folder, nursery(Path(folder)) as started:
        yield started


@pytest.fixture
def quick_starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork our programs where another would be started, and make keystores that cost nothing."""
    if "whole_starts" not in request.fixturenames:
        started: Nursery = request.getfixturevalue("running_nursery")
        monkeypatch.setattr(asyncio, "create_subprocess_exec", started.start)
        monkeypatch.setattr(Party, "init", quick_init)


@pytest.fixture
def whole_starts() -> None:
    """For a test of the start itself: a new interpreter each time, and keystores as the command makes them."""


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    """The anvil executable of tests/package.json."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    binary = NODE_MODULES / "@foundry-rs" / f"anvil-linux-{machine}" / "bin" / "anvil"
    need(binary.exists(), f"anvil ({binary})")
    return binary


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with ethers, viem, web3 and solc."""
    need(shutil.which("node") is not None, "Node.js")
    need((NODE_MODULES / "ethers").exists(), f"the npm packages of tests/package.json ({NODE_MODULES})")
    return NODE_MODULES


@dataclass(frozen=True)
class Anvil:
    """A running anvil of this test's own."""

    chain_id: int
    port: int
    ipc: str
    process: asyncio.subprocess.Process

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def start_anvil(binary: Path, chain_id: int = 31337, *options: str, port: int = 0) -> AsyncIterator[Anvil]:
    """Run an anvil on a free port and a socket of its own; wait until it says where it listens, check its chain id."""
    folder = tempfile.mkdtemp(prefix="anvil-")
    ipc = f"{folder}/anvil.ipc"
    process = await asyncio.create_subprocess_exec(
        binary,
        *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id), "--ipc", ipc, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": folder},
    )
    assert process.stdout is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(60):
            while not (
                match := re.search(rb"Listening on 127\.0\.0\.1:(\d+)", line := await process.stdout.readline())
            ):
                assert line, "anvil ended before it listened"
        drain = asyncio.create_task(process.stdout.read())
        anvil = Anvil(chain_id, int(match[1]), ipc, process)
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}
        async with aiohttp.ClientSession() as session, session.post(anvil.http, json=request) as response:
            assert int((await response.json())["result"], 16) == chain_id, "another node answers on this port"
        yield anvil
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if drain is not None:
            await drain
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def anvil(anvil_binary: Path) -> AsyncIterator[Anvil]:
    """A fresh anvil with chain id 31337."""
    async with start_anvil(anvil_binary) as running:
        yield running


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary directory with a short path, for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="l2p-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: processes die here, not machines, and each write is synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)
