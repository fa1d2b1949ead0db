"""What `--dev` does when the chain behind it changes, and where it refuses to be used (hardening.md 7)."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from middleware.errors import RpcError
from proxy.demo.client import HttpClient
from proxy.demo.processes import ProcessFailed
from tests.conftest import Anvil, start_anvil
from tests.journeys.conftest import run_daemon
from tests.upstream.fake_node import FakeNode

pytestmark = pytest.mark.timeout(180)


async def chain_of(url: str) -> str:
    async with aiohttp.ClientSession() as session:
        return str(await HttpClient(session, url).request("eth_chainId", []))


async def test_another_genesis_is_4900_and_with_dev_the_old_state_goes_aside(
    anvil_binary: Path, short_tmp: Path
) -> None:
    data = short_tmp / "data"
    async with start_anvil(anvil_binary, 31337, "--timestamp", "1700000000") as anvil:
        async with run_daemon(data, "--dev", "--l1", anvil.http) as daemon:
            assert await chain_of(daemon.url) == "0x7a69"
        pinned = json.loads((data / "chain.json").read_text())
    async with start_anvil(anvil_binary, 31337, "--timestamp", "1800000000") as other:
        async with run_daemon(data, "--l1", other.http) as daemon:
            with pytest.raises(RpcError, match=pinned["genesis"]) as caught:
                await chain_of(daemon.url)
            assert caught.value.code == 4900
        async with run_daemon(data, "--dev", "--l1", other.http) as daemon:
            assert await chain_of(daemon.url) == "0x7a69"
            assert f"old/{pinned['genesis']}" in daemon.said
        assert (data / "old" / pinned["genesis"] / "chain.json").exists()
        assert (data / "old" / pinned["genesis"] / "chain.db").is_dir()


async def test_dev_is_refused_on_a_node_that_is_no_dev_node(short_tmp: Path) -> None:
    async with FakeNode(version="Geth/v1.16", chain_id=4242).http() as url:
        with pytest.raises(ProcessFailed, match="--dev is for a dev node"):
            async with run_daemon(short_tmp / "data", "--dev", "--l1", url):
                pass


async def test_dev_is_refused_on_a_public_chain_id(anvil_binary: Path, short_tmp: Path) -> None:
    async with start_anvil(anvil_binary, 1) as anvil:
        with pytest.raises(ProcessFailed, match="--dev is for a dev node"):
            async with run_daemon(short_tmp / "data", "--dev", "--l1", anvil.http):
                pass


async def test_dev_is_refused_on_a_directory_of_a_real_chain(anvil: Anvil, short_tmp: Path) -> None:
    data = short_tmp / "data"
    async with FakeNode(version="Geth/v1.16", chain_id=4242).http() as url, run_daemon(data, "--l1", url):
        pass
    with pytest.raises(ProcessFailed, match="no dev chain"):
        async with run_daemon(data, "--dev", "--l1", anvil.http):
            pass


async def test_a_daemon_with_a_pin_starts_without_its_node(anvil_binary: Path, short_tmp: Path) -> None:
    data = short_tmp / "data"
    async with start_anvil(anvil_binary) as anvil:
        async with run_daemon(data, "--l1", anvil.http) as daemon:
            assert await chain_of(daemon.url) == "0x7a69"
        url = anvil.http
    async with run_daemon(data, "--l1", url) as daemon:
        assert daemon.ready["chainId"] == "0x7a69"
        with pytest.raises(RpcError) as caught:
            await chain_of(daemon.url)
        assert caught.value.code == 4900
