"""The daemon ends and starts again on its port while dapps stay open: their libraries go on, and hear of blocks again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from web3 import AsyncWeb3, Web3, WebSocketProvider
from websockets.exceptions import ConnectionClosed

from tests.conftest import Anvil
from tests.journeys.conftest import Daemon, run_daemon

pytestmark = pytest.mark.timeout(240)

HERE = Path(__file__).parent
ADDRESS = Web3.to_checksum_address("0x00000000000000000000000000000000000000ab")
EVERYBODY = ["ethers-http", "viem-http", "viem-ws", "web3-http", "web3-ws"]
LISTENERS = ["ethers-http", "viem-http", "viem-ws", "web3-ws"]


async def ask_node(anvil: Anvil, method: str, *params: object) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with aiohttp.ClientSession() as session, session.post(anvil.http, json=call) as answer:
        assert "result" in await answer.json()


@contextlib.asynccontextmanager
async def blocks(anvil: Anvil) -> Any:
    """Make a block every few hundredths of a second while the body runs."""

    async def make() -> None:
        while True:
            await ask_node(anvil, "evm_mine")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(make())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard_by_all(process: asyncio.subprocess.Process, anvil: Anvil, balance: str) -> None:
    """Read what the providers answered, then make blocks until each that listens has heard of one."""
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline()) == {"balances": dict.fromkeys(EVERYBODY, balance)}
    assert json.loads(await process.stdout.readline()) == {"listening": True}
    async with blocks(anvil):
        assert json.loads(await process.stdout.readline()) == {"heard": LISTENERS}


async def test_javascript_libraries_go_on(anvil: Anvil, node_modules: Path, short_tmp: Path) -> None:
    options = ("--dev", "--l1", anvil.ipc)
    process: asyncio.subprocess.Process | None = None
    async with asyncio.timeout(200):
        try:
            async with run_daemon(short_tmp / "data", *options) as daemon:
                process = await asyncio.create_subprocess_exec(
                    *("node", HERE / "clients" / "reconnect.mjs", daemon.ready["dapp"], daemon.ready["ws"]),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
                await heard_by_all(process, anvil, "0")
            await ask_node(anvil, "anvil_setBalance", ADDRESS, "0x5")
            async with run_daemon(short_tmp / "data", *options, "--port", port_of(daemon)):
                assert process.stdin is not None
                process.stdin.write(b"again\n")
                await heard_by_all(process, anvil, "5")
                assert await process.wait() == 0
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


async def test_web3_py_goes_on(anvil: Anvil, short_tmp: Path) -> None:
    """HTTP goes on by itself; over WebSocket `async for` connects again, as web3.py's documentation has it."""
    options = ("--dev", "--l1", anvil.ws)
    seen: list[int] = []
    async with asyncio.timeout(200), contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        daemon = await first.enter_async_context(run_daemon(short_tmp / "data", *options))
        http = Web3(Web3.HTTPProvider(daemon.ready["dapp"]))
        assert await asyncio.to_thread(http.eth.get_balance, ADDRESS) == 0
        async for w3 in AsyncWeb3(WebSocketProvider(daemon.ready["ws"])):
            try:
                seen.append(await w3.eth.get_balance(ADDRESS))
                await w3.eth.subscribe("newHeads")
                async with blocks(anvil):
                    async for message in w3.socket.process_subscriptions():
                        assert message["result"]["number"] > 0
                        break
                if len(seen) == 2:
                    break
                await first.aclose()
                await ask_node(anvil, "anvil_setBalance", ADDRESS, "0x5")
                await stack.enter_async_context(run_daemon(short_tmp / "data", *options, "--port", port_of(daemon)))
                await w3.eth.get_balance(ADDRESS)
            except ConnectionClosed:
                continue
        assert seen == [0, 5]
        assert await asyncio.to_thread(http.eth.get_balance, ADDRESS) == 5


def port_of(daemon: Daemon) -> str:
    return daemon.url.rpartition(":")[2]
