"""Cache and sharing over real nodes: with `[cache] enabled = true` the answers on anvil are still those of anvil."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from eth_account import Account

from middleware.chain import Chain
from middleware.forward import Forward
from middleware.methods import MethodTable
from middleware.waist import ANONYMOUS, Context, NodeReply, Request, answered
from proxy.app.node_answers import NodeAnswers
from proxy.config import CacheSettings, Config
from proxy.methods.dispatcher import Dispatcher
from proxy.upstream.l1 import L1
from tests.conftest import TEST_PHRASE, Anvil
from tests.upstream.fake_node import FakeNode, Reply, result

SECONDS = 60


class Proxied:
    """The chain of links over one node, and the same node asked directly."""

    def __init__(self, url: str, enabled: bool | Literal["auto"]) -> None:
        self.l1, self.direct = L1([url]), L1([url])
        table, own = MethodTable(dev=True), Dispatcher({})
        self.answers = NodeAnswers(self.l1, table, Config(cache=CacheSettings(enabled=enabled)))
        self._chain = Chain(self.answers.links(), Forward(table, self.l1, own, own), table=table)

    async def body(self, method: str, *params: Any) -> bytes:
        answer = await self._chain(Request(method, msgspec.json.encode(params), b"1"), Context(ANONYMOUS))
        return getattr(answer, "body", b"")

    async def ask(self, method: str, *params: Any) -> Any:
        return answered(await self._chain(Request(method, msgspec.json.encode(params), b"1"), Context(ANONYMOUS)))

    async def hits(self, method: str, *params: Any) -> int:
        """Ask twice; return how often memory answered, after the answer was compared with the node's own."""
        before = self.answers.cache.figures.hits
        for _ in range(2):
            assert await self.ask(method, *params) == await self.direct.call(method, *params), (method, params)
        return self.answers.cache.figures.hits - before


@asynccontextmanager
async def proxied(url: str, enabled: bool | Literal["auto"] = True) -> AsyncIterator[Proxied]:
    one = Proxied(url, enabled)
    await one.l1.start()
    await one.direct.start()
    try:
        async with asyncio.timeout(SECONDS):
            while one.l1.blocks.head is None:  # noqa: ASYNC110  the tracker's first look
                await asyncio.sleep(0.01)
        yield one
    finally:
        await one.l1.close()
        await one.direct.close()


def payment(to: str, chain_id: int) -> tuple[str, str]:
    """Return a sender of anvil's, and a signed payment of 7 wei from it."""
    Account.enable_unaudited_hdwallet_features()
    sender = Account.from_mnemonic(TEST_PHRASE)
    fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 1, "gas": 21_000}
    signed = sender.sign_transaction({"nonce": 0, "to": to, "value": 7, "chainId": chain_id} | fees)
    return sender.address, "0x" + bytes(signed.raw_transaction).hex()


async def test_on_anvil_every_change_is_seen_at_once(anvil: Anvil) -> None:
    someone = "0x" + "11" * 20
    sender, raw = payment(someone, anvil.chain_id)
    reads: list[Any] = [
        ("eth_getBalance", someone, "latest"),
        ("eth_call", {"to": someone}, "latest", {someone: {"balance": "0x1"}}),
        ("eth_getTransactionCount", sender, "latest"),
        ("eth_getBlockByNumber", "finalized", False),
        ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}),
    ]
    async with proxied(anvil.ipc) as one:

        async def hits() -> int:
            return sum([await one.hits(*read) for read in reads], 0)

        assert await hits() >= len(reads) - 1
        snapshot = await one.ask("evm_snapshot")
        await one.ask("anvil_setBalance", someone, "0x1")
        await hits()
        sent = await one.ask("eth_sendRawTransaction", raw)
        while (receipt := await one.ask("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # anvil answers a send before it mines
        assert await one.ask("eth_getBalance", someone, "latest") == "0x8"
        await hits()
        await one.hits("eth_getBalance", someone, {"blockHash": receipt["blockHash"]})
        await one.ask("evm_mine")
        await one.ask("anvil_reorg", 2, [])
        assert await one.ask("eth_getTransactionReceipt", sent) == await one.direct.call(
            "eth_getTransactionReceipt", sent
        )
        await hits()
        await one.ask("evm_revert", snapshot)
        assert await one.ask("eth_getBalance", someone, "latest") == "0x0"
        await hits()
        # Behind the proxy: any answer that shows the new block is enough.
        await one.direct.call("anvil_setBalance", someone, "0x99")
        await one.direct.call("evm_mine")
        assert await one.ask("eth_blockNumber") == await one.direct.call("eth_blockNumber")
        assert await one.ask("eth_getBalance", someone, "latest") == "0x99"
        # And without one, the head, or two seconds.
        await one.direct.call("anvil_setBalance", someone, "0x77")
        async with asyncio.timeout(SECONDS):
            while await one.ask("eth_getBalance", someone, "latest") != "0x77":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_by_default_anvil_is_asked_every_time(anvil: Anvil) -> None:
    async with proxied(anvil.http, "auto") as one:
        assert await one.hits("eth_chainId") == 0


async def test_identical_reads_at_once_are_one_call_to_a_node() -> None:
    node = FakeNode(version="Geth/v1.16.7", chain_id=1)
    go = asyncio.Event()

    async def answer(request: dict[str, Any]) -> Reply:
        await go.wait()
        return result(request, "0x7")

    node.answer = answer
    async with node.http() as url, proxied(url, "auto") as one:
        asked = [asyncio.ensure_future(one.body("eth_getBalance", "0x1", "latest")) for _ in range(20)]
        while "eth_getBalance" not in node.methods():  # noqa: ASYNC110  the node is reached over a socket
            await asyncio.sleep(0.01)
        go.set()
        assert len(set(await asyncio.gather(*asked))) == 1
        assert node.methods().count("eth_getBalance") == 1
        await one.body("eth_getBalance", "0x1", "latest")
        assert node.methods().count("eth_getBalance") == 1
        assert one.answers.in_flight.figures.shared == 19


@asynccontextmanager
async def refusing(anvil: Anvil, most_blocks: int) -> AsyncIterator[str]:
    """Serve `anvil` as a provider does that refuses an eth_getLogs over more than `most_blocks`."""
    async with aiohttp.ClientSession() as session:

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            asked = json.loads(body)
            if asked["method"] == "eth_getLogs":
                ends = asked["params"][0]
                head = (await (await session.post(anvil.http, json=HEIGHT)).json())["result"]
                first, last = (
                    int(head if end == "latest" else end, 16) for end in (ends["fromBlock"], ends["toBlock"])
                )
                if last - first + 1 > most_blocks:
                    error = {"code": -32005, "message": f"eth_getLogs is limited to a {most_blocks} block range"}
                    return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "error": error})
            async with session.post(anvil.http, data=body, headers=JSON) as response:
                return web.Response(body=await response.read(), content_type="application/json")

        async with RawTestServer(serve) as server:
            yield str(server.make_url("/"))


HEIGHT = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"}
JSON = {"Content-Type": "application/json"}
ONE_LOG = {"data": "0x60006000a000"}  # a constructor: PUSH1 0, PUSH1 0, LOG0, STOP


async def test_logs_a_provider_refuses_are_those_of_the_node(anvil: Anvil) -> None:
    async with refusing(anvil, 7) as url, proxied(url) as one:
        node = L1([anvil.ipc])
        await node.start()
        try:
            sender = (await node.call("eth_accounts"))[0]
            for _ in range(12):
                sent = await node.call("eth_sendTransaction", {"from": sender, **ONE_LOG})
                while await node.call("eth_getTransactionReceipt", sent) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # else its block may come between the two answers that are compared
                await node.call("anvil_mine", "0x2")
            for ends in ({"fromBlock": "0x0", "toBlock": "latest"}, {"fromBlock": "0x3", "toBlock": "0x14"}):
                direct = await node.forward(Request("eth_getLogs", msgspec.json.encode([ends]), b"1"))
                assert isinstance(direct, NodeReply)
                assert direct.body.count(b"transactionHash") > 4
                assert await one.body("eth_getLogs", ends) == direct.body
            assert one.answers.log_ranges.figures.splits == 2
        finally:
            await node.close()
