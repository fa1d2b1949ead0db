"""A real node over each transport: the same bytes, the same errors, the same chain after it was away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.children import held_port
from middleware.errors import Disconnected, RpcError
from middleware.waist import NodeReply, Request
from proxy.upstream.block_tracker import NewHead, Reorg
from proxy.upstream.l1 import L1
from tests.conftest import Anvil, start_anvil

KINDS = ["http", "ws", "ipc"]
IDS = [
    *(
        b"1",
        b"0",
        b"-7",
        b"9223372036854775807",
        b"18446744073709551615",
        b"123456789012345678901234567890",
        b"1.5",
        b"1e3",
    ),
    *(b"null", b'"a"', b'"a b/c"', b'"\\u0041"', b'"a\\"b"', b'"<&>"', '"é"'.encode(), b'""'),
]
REQUESTS = [
    ("eth_chainId", b""),
    ("eth_chainId", b"[]"),
    ("eth_getBlockByNumber", b'["0x0",true]'),
    ("eth_getBlockByNumber", b'[ "latest" , false ]'),
    ("eth_getBalance", b'["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266","latest"]'),
    ("eth_getBalance", b'["nonsense"]'),
    ("eth_call", b'[{"to":"0x0000000000000000000000000000000000000004","data":"0x1234"},"latest"]'),
    ("eth_call", b'["\\ud800"]'),
    ("eth_call", b"[" * 200 + b"]" * 200),
    ("eth_getTransactionByHash", b'["0x' + b"00" * 32 + b'"]'),
    ("eth_noSuchMethod", b"[]"),
    ("eth_sendRawTransaction", b'["0x00"]'),
    ("web3_sha3", b'["0x68656c6c6f"]'),
    ("eth_feeHistory", b'["0x1","latest",[25.0]]'),
]


@pytest.fixture
def port() -> Iterator[int]:
    """Where one node comes after the other."""
    with held_port() as kept:
        yield kept


async def directly(node: Anvil, kind: str, body: bytes) -> bytes:
    """Ask the node itself and return its bytes."""
    if kind == "ipc":
        reader, writer = await asyncio.open_unix_connection(node.ipc, limit=2**24)
        writer.write(body + b"\n")
        answer = (await reader.readline()).removesuffix(b"\n")
        writer.close()
        return answer
    async with aiohttp.ClientSession() as session:
        if kind == "http":
            async with session.post(node.http, data=body, headers={"Content-Type": "application/json"}) as response:
                return await response.read()
        async with session.ws_connect(node.ws) as socket:
            await socket.send_bytes(body) if not body.isascii() else await socket.send_str(body.decode())
            return (await socket.receive_str()).encode()


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[L1]:
    l1 = L1([url], **options)
    await l1.start()
    try:
        yield l1
    finally:
        await l1.close()


def written(method: str, params: bytes, raw_id: bytes) -> bytes:
    tail = b',"params":' + params if params else b""
    return b'{"jsonrpc":"2.0","id":' + raw_id + b',"method":"' + method.encode() + b'"' + tail + b"}"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_bytes_are_the_nodes_own(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        for raw_id in IDS:
            for method, params in REQUESTS if raw_id in (b"1", b"1.5") else REQUESTS[:2]:
                wanted = await directly(anvil, kind, written(method, params, raw_id))
                got = await l1.forward(Request(method, params, raw_id))
                assert got == NodeReply(wanted), (method, params[:40], raw_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_many_at_once_get_their_own(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        await asyncio.gather(*(l1.call("anvil_setBalance", f"0x{n:040x}", hex(n)) for n in range(1, 200)))
        balances = await asyncio.gather(*(l1.call("eth_getBalance", f"0x{n:040x}", "latest") for n in range(1, 200)))
    assert balances == [hex(n) for n in range(1, 200)]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_nodes_errors_keep_code_message_and_data(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        with pytest.raises(RpcError) as caught:
            await l1.call("eth_getBalance", "nonsense")
        assert caught.value.code == -32602
        # PUSH1 4 PUSH1 0 REVERT: four bytes of revert data
        code = "0x60046000fd"
        await l1.call("anvil_setCode", "0x" + "11" * 20, code)
        with pytest.raises(RpcError) as caught:
            await l1.call("eth_call", {"to": "0x" + "11" * 20}, "latest")
        assert (caught.value.code, caught.value.data) == (3, "0x00000000")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restarted_node_of_the_same_chain_is_taken_up_again(
    kind: str, port: int, anvil_binary: Path, short_tmp: Path
) -> None:
    fixed = ("--timestamp", "1700000000", "--block-time", "1000")
    async with start_anvil(anvil_binary, 31337, *fixed, port=port) as first:
        url = getattr(first, kind)
        if kind == "ipc":
            (short_tmp / "link.ipc").symlink_to(first.ipc)
            url = str(short_tmp / "link.ipc")
        l1 = L1([url], pin=short_tmp / "chain.json")
        await l1.start()
        genesis = l1.genesis
    with pytest.raises(Disconnected):
        await l1.call("eth_blockNumber")
    async with start_anvil(anvil_binary, 31337, *fixed, port=port) as second:
        if kind == "ipc":
            (short_tmp / "link.ipc").unlink()
            (short_tmp / "link.ipc").symlink_to(second.ipc)
        async with asyncio.timeout(60):
            while l1.trouble is not None:  # noqa: ASYNC110  (poll with a deadline)
                await asyncio.sleep(0.05)
        assert (await l1.call("eth_getBlockByNumber", "0x0", False))["hash"] == genesis
    async with start_anvil(anvil_binary, 31337, "--timestamp", "1800000000", port=port) as third:
        if kind == "ipc":
            (short_tmp / "link.ipc").unlink()
            (short_tmp / "link.ipc").symlink_to(third.ipc)
        async with asyncio.timeout(60):
            while "pinned" not in (l1.trouble or ""):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        with pytest.raises(Disconnected, match=genesis):
            await l1.call("eth_blockNumber")
    await l1.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_blocks_and_reorgs_are_told(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1, asyncio.timeout(60):
        await l1.blocks.sync()
        events = l1.blocks.events()
        for _ in range(3):
            await l1.call("evm_mine")
        told = [await anext(events) for _ in range(3)]
        assert [event.head.number for event in told if isinstance(event, NewHead)] == [1, 2, 3]
        snapshot = await l1.call("evm_snapshot")
        await l1.call("anvil_mine", "0x5")
        for number in range(4, 9):
            event = await anext(events)
            assert isinstance(event, NewHead)
            assert event.head.number == number
        await l1.call("evm_revert", snapshot)
        event = await anext(events)
        assert isinstance(event, Reorg)
        assert (event.from_head.number, event.ancestor_number, event.to_head.number) == (8, 3, 3)
        await l1.call("anvil_reorg", 2, [])
        reorg, *heads = [await anext(events) for _ in range(3)]
        assert isinstance(reorg, Reorg)
        assert reorg.ancestor_number == 1
        assert [event.head.number for event in heads if isinstance(event, NewHead)] == [2, 3]
        assert l1.blocks.head is not None
        assert l1.blocks.head.hash == (await l1.call("eth_getBlockByNumber", "latest", False))["hash"]


async def test_a_node_reset_to_another_genesis_is_no_longer_asked(anvil: Anvil, short_tmp: Path) -> None:
    async with connected(anvil.ipc, pin=short_tmp / "chain.json") as l1, asyncio.timeout(60):
        await l1.call("anvil_mine", "0x5")
        await l1.blocks.sync()
        before = l1.genesis
        await l1.call("anvil_reset")
        after = (await directly_decoded(anvil))["hash"]
        if after == before:
            assert await l1.call("eth_blockNumber") == "0x0"
            return
        while "pinned" not in (l1.trouble or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        with pytest.raises(Disconnected, match=after):
            await l1.call("eth_blockNumber")


async def directly_decoded(node: Anvil) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x0", False]}
        async with session.post(node.http, json=request) as response:
            block: dict[str, Any] = (await response.json())["result"]
            return block
