"""What was seen to go wrong in a peer's cache (benchmarks/README.md, "Their bugs"), done again here with the cache on.

Real node, real doors: every answer through the remembering door is the node's own of that moment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.pairs import Doors, doors, node

pytestmark = pytest.mark.node

ADDRESS = "0x00000000000000000000000000000000000000ab"
# Returns what lies at storage slot 0: PUSH0 SLOAD PUSH0 MSTORE PUSH1 32 PUSH0 RETURN.
CODE = "0x5f545f5260205ff3"


@pytest.fixture
async def asked(anvil_binary: Path, short_tmp: Path) -> AsyncIterator[Doors]:
    # It makes a block when it is told to, and at no moment of its own: that would part two answers meant to be equal.
    async with node(anvil_binary, "--no-mining") as anvil, doors(anvil, "ipc", short_tmp) as running:
        yield running


async def call(ask: Any, method: str, *params: Any, raw_id: str = "1") -> Any:
    return json.loads(
        await ask(f'{{"jsonrpc":"2.0","id":{raw_id},"method":"{method}","params":{json.dumps(params)}}}'.encode())
    )


async def same(asked: Doors, method: str, *params: Any) -> Any:
    """Ask the cache twice and the node once; return their one result."""
    first, again = [await call(asked.proxied["cached"], method, *params) for _ in range(2)]
    assert first == again == await call(asked.direct, method, *params)
    return first["result"]


async def do(asked: Doors, method: str, *params: Any) -> None:
    assert "result" in await call(asked.direct, method, *params)


async def mine(asked: Doors, count: int = 1) -> None:
    """Make blocks behind the proxy's back, and wait until it has heard of the last."""
    await do(asked, "anvil_mine", hex(count))
    height = (await call(asked.direct, "eth_blockNumber"))["result"]
    async with asyncio.timeout(60):
        while (await call(asked.proxied["cached"], "eth_blockNumber"))["result"] != height:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the head reaches the proxy by the node's own push


async def test_a_call_with_an_override_and_without(asked: Doors) -> None:
    """eth-json-rpc-middleware 25.0.0 answers the second from the first."""
    await do(asked, "anvil_setCode", ADDRESS, CODE)
    plain = {"to": ADDRESS}
    slot = "0x" + "00" * 32
    override = {ADDRESS: {"stateDiff": {slot: "0x" + "00" * 31 + "07"}}}
    other = {ADDRESS: {"stateDiff": {slot: "0x" + "00" * 31 + "08"}}}
    for _ in range(2):
        assert int(await same(asked, "eth_call", plain, "latest"), 16) == 0
        assert int(await same(asked, "eth_call", plain, "latest", override), 16) == 7
        assert int(await same(asked, "eth_call", plain, "latest", other), 16) == 8


async def test_two_blocks_by_their_hashes(asked: Doors) -> None:
    """eth-json-rpc-middleware 25.0.0 takes two EIP-1898 hashes for one."""
    hashes = []
    rich = (await call(asked.direct, "eth_accounts"))["result"][0]
    for _ in range(2):
        await do(asked, "eth_sendTransaction", {"from": rich, "to": ADDRESS, "value": "0x5"})
        await mine(asked)
        hashes.append((await same(asked, "eth_getBlockByNumber", "latest", False))["hash"])
    for _ in range(2):
        seen = [await same(asked, "eth_getBalance", ADDRESS, {"blockHash": one}) for one in hashes]
        assert seen == ["0x5", "0xa"]


@pytest.mark.parametrize("tag", ["safe", "finalized", "latest"])
async def test_a_tag_is_the_block_it_names_now(asked: Doors, tag: str) -> None:
    """eth-json-rpc-middleware 25.0.0 keeps `safe` for ever, eRPC #223 kept `finalized`."""
    before = await same(asked, "eth_getBlockByNumber", tag, False)
    await mine(asked, 100)
    after = await same(asked, "eth_getBlockByNumber", tag, False)
    assert int(after["number"], 16) > int(before["number"], 16)


async def test_each_caller_has_the_own_id(asked: Doors) -> None:
    """eRPC #59 served the first caller's id; a float or a huge id is not ours to write."""
    for raw_id in ("1", '"x"', "null", "2", '"\\u0061"', "1.5", "123456789012345678901234567890"):
        body = f'{{"jsonrpc":"2.0","id":{raw_id},"method":"eth_chainId","params":[]}}'.encode()
        assert await asked.proxied["cached"](body) == await asked.direct(body)


async def test_a_node_that_rewrites_history(asked: Doors) -> None:
    """A developer takes a state back at the node's own door: nothing of the vanished blocks is answered."""
    through = asked.proxied["cached"]
    snapshot = (await call(asked.direct, "evm_snapshot"))["result"]
    await mine(asked, 3)
    gone = await same(asked, "eth_getBlockByNumber", "latest", False)
    await do(asked, "evm_revert", snapshot)
    async with asyncio.timeout(60):
        # Done behind the proxy's back: it learns of it from the node's next head, or within two seconds.
        while (await call(through, "eth_getBlockByHash", gone["hash"], False))["result"] is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await same(asked, "eth_getBlockByNumber", "latest", False))["number"] != gone["number"]
