"""Every annotated example config starts a daemon that answers."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from proxy.demo.client import HttpClient
from tests.conftest import Anvil
from tests.journeys.conftest import run_daemon

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
async def test_an_example_starts(anvil: Anvil, short_tmp: Path, config: Path) -> None:
    options = ["--config", config, "--l1", anvil.http, *(["--dev"] if config.stem == "developer" else [])]
    async with run_daemon(short_tmp / "data", *options) as daemon, aiohttp.ClientSession() as session:
        assert await HttpClient(session, daemon.url).request("eth_chainId", []) == "0x7a69"
        block = await HttpClient(session, daemon.url).request("eth_getBlockByNumber", ["latest", False])
        assert block["number"] == "0x0"
