"""`[[middleware]]` of the config in a running daemon: web3.py's own classes, one the owner wrote, and bytes nobody touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_typing import HexStr
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import ExtraDataLengthError

from tests.conftest import Anvil
from tests.journeys.conftest import Daemon, run_daemon
from tests.upstream.fake_node import FakeNode, raw_id, result

SEAL = "0x" + "5e" * 97  # what a clique signer writes: more than the 32 bytes web3.py takes for a block
BLOCK = {
    **dict.fromkeys(("hash", "parentHash", "sha3Uncles", "stateRoot", "transactionsRoot"), "0x" + "11" * 32),
    **dict.fromkeys(("difficulty", "gasLimit", "gasUsed", "size", "timestamp", "totalDifficulty"), "0x0"),
    "number": "0x7",
    "extraData": SEAL,
    "miner": "0x" + "00" * 20,
    "transactions": [],
    "uncles": [],
}
HASH = HexStr(BLOCK["hash"])  # type: ignore[arg-type]
OWNERS = '''
from web3.middleware import Web3Middleware

class Round(Web3Middleware):
    """Rounds every balance, and lets "newest" be said for "latest"."""

    def request_processor(self, method, params):
        return method, ["latest" if param == "newest" else param for param in params]

    def response_processor(self, method, response):
        if method == "eth_getBalance" and "result" in response:
            response["result"] = hex(int(response["result"], 16) // 10**18 * 10**18)
        return response


class Blocks(Web3Middleware):
    """The asynchronous flavour: asks another method, and makes a typed value of it."""

    async def async_wrap_make_request(self, make_request):
        async def middleware(method, params):
            if method != "eth_gasPrice":
                return await make_request(method, params)
            return {"jsonrpc": "2.0", "id": 1, "result": hex(await self._w3.eth.block_number + 41)}

        return middleware
'''


def config(folder: Path, url: str, *uses: str) -> Path:
    """Write the config of a daemon that asks `url` through the middlewares `uses`."""
    file = folder / "config.toml"
    entries = "".join(f'[[middleware]]\nuse = "{use}"\n' for use in uses)
    file.write_text(f'[l1]\nurls = ["{url}"]\n{entries}')
    return file


async def poa(request: dict[str, Any]) -> bytes:
    """Answer as a proof-of-authority node does."""
    if request["method"] == "eth_getBlockByHash":
        return b'{"jsonrpc":"2.0","id":' + raw_id(request) + b',"result":' + json.dumps(BLOCK).encode() + b"}"
    return result(request, "0x1")


@pytest.fixture
async def node(short_tmp: Path) -> AsyncIterator[str]:
    """A proof-of-authority node."""
    async with FakeNode(poa).ipc(short_tmp / "node.ipc") as url:
        yield url


async def ask(daemon: Daemon, method: str, *params: Any) -> Any:
    async with aiohttp.ClientSession() as session:
        body = {"jsonrpc": "2.0", "id": "me", "method": method, "params": params}
        async with session.post(daemon.url, json=body) as response:
            return await response.json()


async def block_through(daemon: Daemon) -> Any:
    w3 = AsyncWeb3(AsyncHTTPProvider(daemon.url))
    try:
        return await w3.eth.get_block(HASH)
    finally:
        await w3.provider.disconnect()


async def test_a_proof_of_authority_block_can_be_read(node: str, short_tmp: Path) -> None:
    async with run_daemon(short_tmp / "bare", "--l1", node) as daemon:
        with pytest.raises(ExtraDataLengthError):
            await block_through(daemon)
    file = config(
        short_tmp, node, "web3.middleware:ExtraDataToPOAMiddleware", "web3.middleware:AttributeDictMiddleware"
    )
    async with run_daemon(short_tmp / "poa", "--config", file) as daemon:
        block = await block_through(daemon)
        raw = await ask(daemon, "eth_getBlockByHash", HASH, False)
    assert (block["number"], block["proofOfAuthorityData"]) == (7, SEAL)
    expected = {**BLOCK, "proofOfAuthorityData": SEAL}
    del expected["extraData"]
    assert raw == {"jsonrpc": "2.0", "id": "me", "result": expected}


async def test_middlewares_the_owner_wrote(anvil: Anvil, short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their module is on the path Python is given; tests/middleware/test_web3_adapter.py tries the present directory."""
    (short_tmp / "of_the_owner.py").write_text(OWNERS)
    monkeypatch.setenv("PYTHONPATH", str(short_tmp))
    file = config(short_tmp, anvil.http, "of_the_owner:Round", "of_the_owner:Blocks")
    rich = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    async with run_daemon(short_tmp / "data", "--config", file) as daemon, aiohttp.ClientSession() as session:
        assert (await ask(daemon, "eth_getBalance", rich, "newest"))["result"] == hex(10_000 * 10**18)
        assert (await ask(daemon, "eth_gasPrice"))["result"] == hex(41)
        many = await asyncio.gather(*(ask(daemon, "eth_getBalance", rich, "latest") for _ in range(30)))
        assert {answer["result"] for answer in many} == {hex(10_000 * 10**18)}
        error = await ask(daemon, "eth_getBalance", "nobody", "latest")
        assert error["error"]["code"] == -32602
        # What no middleware changed leaves as the node wrote it.
        body = b'{"jsonrpc":"2.0","id":7,"method":"eth_getBlockByNumber","params":["0x0",true]}'
        headers = {"Content-Type": "application/json"}
        answers = []
        for url in (daemon.url, anvil.http):
            async with session.post(url, data=body, headers=headers) as response:
                answers.append(await response.read())
        assert answers[0] == answers[1]
