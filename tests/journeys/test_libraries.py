"""The first day of a dapp developer: ethers 6, viem 2, web3.js 4 and web3.py do their ordinary jobs through a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.conftest import TEST_PHRASE, start_anvil
from tests.journeys.conftest import Daemon, run_daemon

HERE = Path(__file__).parent
PROBE = HERE.parent / "upstream" / "embedded" / "Probe.json"
Account.enable_unaudited_hdwallet_features()
KEYS: list[LocalAccount] = [
    Account.from_mnemonic(TEST_PHRASE, account_path=f"m/44'/60'/0'/0/{number}") for number in range(10)
]

ETHERS = {
    "number": "11",
    "balance": "8",
    "status": 1,
    "reason": "not today",
    "custom": "Custom",
    "missing": None,
    "logs": ["ethers"],
    "heard": "ethers",
    "block": True,
    "latest": 1,
    "unserved": 4200,
}
VIEM = {
    "number": "12",
    "balance": "1",
    "status": "success",
    "reason": "not today",
    "custom": "Custom",
    "changes": ["viem"],
    "again": 0,
    "made": True,
    "all": 1,
    "gone": [True, False],
    "heard": "viem",
    "block": True,
    "missing": "TransactionNotFoundError",
    "unserved": 4200,
}
WEB3 = {
    "balance": "0x7",
    "number": "13",
    "status": "1",
    "reason": "execution reverted: not today",
    "logs": ["web3"],
    "unserved": 4200,
}


@contextlib.asynccontextmanager
async def daemon_on(upstream: str, folder: Path, anvil_binary: Path) -> AsyncIterator[Daemon]:
    """Run a developer's daemon on a fresh anvil over `upstream`, or on the embedded L1 ("dev")."""
    async with contextlib.AsyncExitStack() as stack:
        l1 = (
            "dev"
            if upstream == "dev"
            else getattr(await stack.enter_async_context(start_anvil(anvil_binary)), upstream)
        )
        yield await stack.enter_async_context(run_daemon(folder / "data", "--dev", "--l1", l1))


@pytest.mark.parametrize("upstream", ["http", "ipc"])
async def test_javascript_libraries(upstream: str, anvil_binary: Path, node_modules: Path, short_tmp: Path) -> None:
    async with daemon_on(upstream, short_tmp, anvil_binary) as daemon:
        seen = await _in_node(daemon, 31337)
    for way in ("http", "ws", "ipc"):
        assert seen[f"ethers-{way}"] == ETHERS | {"network": "31337"}
    for way in ("http", "ws"):
        assert seen[f"viem-{way}"] == VIEM | {"network": "31337"}
    for way, pushed in (("http", {}), ("ws", {"heard": 3, "block": True}), ("ipc", {})):
        assert seen[f"web3-{way}"] == WEB3 | {"network": "0x7a69"} | pushed


async def _in_node(daemon: Daemon, chain_id: int) -> Any:
    ready = daemon.ready
    process = await asyncio.create_subprocess_exec(
        *("node", HERE / "clients" / "first_day.mjs", ready["dapp"], ready["ws"], ready["ipc"], PROBE, str(chain_id)),
        *(key.key.to_0x_hex() for key in KEYS),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
