"""Subscriptions at the node: the node's own where it has them, made from reads where not; shared, and made anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from middleware.errors import Disconnected, RpcError
from proxy.upstream import polled
from proxy.upstream.l1 import L1
from tests.conftest import Anvil
from tests.upstream.chain_node import ChainNode, failure
from tests.upstream.fake_node import block, result

KINDS = ["http", "ws", "ipc"]
SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
# Emits LOG1 with topic 0x2a and no data on every call: PUSH1 2a PUSH1 0 PUSH1 0 LOG1
EMITTER = "0x602a60006000a1"
TOPIC = "0x" + "00" * 31 + "2a"
ADDRESS = "0x" + "22" * 20


class Inbox:
    """Takes what is delivered."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, raw: msgspec.Raw) -> None:
        self.queue.put_nowait(json.loads(bytes(raw)))

    async def next(self) -> Any:
        async with asyncio.timeout(60):
            return await self.queue.get()


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[L1]:
    l1 = L1([url], **options)
    await l1.start()
    await l1.blocks.sync()
    try:
        yield l1
    finally:
        await l1.close()


async def listening(l1: L1) -> None:
    """Wait until the node announces new heads to us."""
    while l1.blocks.figures.node_subscriptions == 0:  # noqa: ASYNC110  (poll with a deadline: the caller's)
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", KINDS)
async def test_new_heads(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1, aiohttp.ClientSession() as session:
        directly = await session.ws_connect(anvil.ws)
        await directly.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
        assert "result" in await directly.receive_json(timeout=60)
        inbox = Inbox()
        stop = await l1.subscribe(["newHeads"], inbox)
        for number in (1, 2):
            await l1.call("evm_mine")
            head = await inbox.next()
            block = await l1.call("eth_getBlockByNumber", hex(number), False)
            for member in ("number", "hash", "parentHash", "logsBloom", "timestamp", "gasLimit", "baseFeePerGas"):
                assert head[member] == block[member]
            told = (await directly.receive_json(timeout=60))["params"]["result"]
            assert list(head.items()) == list(told.items()), "to the letter what the node's own subscribers hear"
        await stop()
        await l1.call("evm_mine")
        await l1.blocks.sync()
        assert inbox.queue.empty()


@pytest.mark.parametrize("kind", KINDS)
async def test_logs_by_filter(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        await l1.call("anvil_setCode", ADDRESS, EMITTER)
        mine, others = Inbox(), Inbox()
        await l1.subscribe(["logs", {"address": ADDRESS, "topics": [TOPIC]}], mine)
        await l1.subscribe(["logs", {"address": "0x" + "33" * 20}], others)
        for _ in range(2):
            sent = await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS})
            log = await mine.next()
            assert (log["transactionHash"], log["address"], log["topics"]) == (sent, ADDRESS, [TOPIC])
            assert log.get("removed") is False
        assert others.queue.empty()


async def test_logs_of_a_block_that_went_away_come_again_as_removed(anvil: Anvil) -> None:
    async with connected(anvil.http) as l1:
        await l1.call("anvil_setCode", ADDRESS, EMITTER)
        inbox = Inbox()
        await l1.subscribe(["logs", {"address": ADDRESS}], inbox)
        snapshot = await l1.call("evm_snapshot")
        hashes = [await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS}) for _ in range(2)]
        assert [(await inbox.next())["transactionHash"] for _ in hashes] == hashes
        await l1.call("evm_revert", snapshot)
        gone = [await inbox.next() for _ in hashes]
        assert [(log["transactionHash"], log["removed"]) for log in gone] == [(sent, True) for sent in reversed(hashes)]


@pytest.mark.parametrize("kind", KINDS)
async def test_pending_transactions(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        inbox = Inbox()
        await l1.subscribe(["newPendingTransactions"], inbox)
        assert await l1.call("eth_sendTransaction", {"from": SENDER, "to": ADDRESS}) == await inbox.next()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params", [["nonsense"], ["logs", {"address": "nonsense"}], ["newHeads", 1], []])
async def test_what_cannot_be_subscribed_to_is_an_error(kind: str, params: list[Any], anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        with pytest.raises(RpcError) as caught:
            await l1.subscribe(params, Inbox())
        assert not isinstance(caught.value, Disconnected)
        assert await l1.call("eth_chainId") == "0x7a69"


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_all_who_follow_the_chain_share_one_subscription_at_the_node(kind: str, short_tmp: Path) -> None:
    node = ChainNode()
    async with node.over(kind, short_tmp) as url, connected(url) as l1, asyncio.timeout(60):
        inboxes = [Inbox() for _ in range(50)]
        stops = [await l1.subscribe(["newHeads"], inbox) for inbox in inboxes]
        await listening(l1)
        node.mine()
        await node.announce()
        for inbox in inboxes:
            assert (await inbox.next())["number"] == "0x1"
        assert node.subscribed == [["newHeads"]]
        assert l1.blocks.figures.node_subscriptions == 1
        for stop in stops:
            await stop()
        assert node.unsubscribed == [], "the tracker listens on"


async def test_equal_wishes_are_read_once(short_tmp: Path) -> None:
    node = ChainNode()
    async with node.http() as url, connected(url) as l1, asyncio.timeout(60):
        inboxes = [Inbox() for _ in range(4)]
        shouted = ADDRESS[:2] + ADDRESS[2:].upper()
        for inbox, wish in zip(inboxes, ({"address": ADDRESS}, {"address": [shouted, ADDRESS]}), strict=False):
            await l1.subscribe(["logs", wish], inbox)
        await l1.subscribe(["logs", {"address": ADDRESS, "topics": [], "fromBlock": "latest"}], inboxes[2])
        await l1.subscribe(
            ["logs", {"address": ADDRESS, "topics": [[]]}], inboxes[3]
        )  # of one topic at least: another wish
        assert l1.blocks.figures.shared == 2
        before = node.times("eth_getLogs")
        node.mine("0x01")
        l1.blocks.poke()
        for inbox in inboxes:
            assert (await inbox.next())["data"] == "0x01"
        assert node.times("eth_getLogs") - before == 2


async def test_news_that_overtakes_its_answer_is_not_lost(short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes | None:
        if request["method"] == "eth_subscribe" and request["params"] == ["newPendingTransactions"]:
            push = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x9","result":%d}}\n'
            return push % 1 + push % 2 + result(request, "0x9")
        return None

    node = ChainNode()
    node.answer = answer
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["newPendingTransactions"], inbox)
        assert [await inbox.next(), await inbox.next()] == [1, 2]


async def test_the_nodes_own_subscription_lives_on_over_a_new_connection_and_is_taken_back(short_tmp: Path) -> None:
    node = ChainNode()
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1, asyncio.timeout(60):
        first, second = Inbox(), Inbox()
        stop_first = await l1.subscribe(["newPendingTransactions"], first)
        stop_second = await l1.subscribe(["newPendingTransactions", False], second)
        node.drop_all()
        while node.subscribed.count(["newPendingTransactions"]) < 2:  # noqa: ASYNC110  (the proxy's own pause)
            await asyncio.sleep(0.01)
        while first.queue.empty():
            await node.push_result("newPendingTransactions", "0xaa")
            await asyncio.sleep(0.01)
        assert await first.next() == await second.next() == "0xaa"
        await stop_first()
        await stop_second()
        while node.unsubscribed != ["newPendingTransactions"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["whole", "hashes", "refused", "polled"])
async def test_whole_transactions_whatever_the_node_gives(way: str, short_tmp: Path) -> None:
    async def refuse(request: dict[str, Any]) -> bytes | None:
        if way == "refused" and request["method"] == "eth_subscribe" and True in request["params"]:
            return failure(request, -32602, "no such option")
        return None

    node = ChainNode(pushes_heads=way != "polled")
    node.answer = refuse
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["newPendingTransactions", True], inbox)
        if way == "polled":
            node.pending.append("0xaa")
        else:
            whole = {"hash": "0xaa", "nonce": "0x0"}
            await node.push_result("newPendingTransactions", whole if way == "whole" else "0xaa")
        assert await inbox.next() == {"hash": "0xaa", "nonce": "0x0"}


@pytest.mark.parametrize("code", [-32601, -32004, 4200])
async def test_where_the_node_has_no_such_filter_transactions_are_seen_in_blocks(
    code: int, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polled, "_PENDING_SECONDS", 0.01)
    node, waiting = ChainNode(), ["0x01"]

    async def answer(request: dict[str, Any]) -> bytes | None:
        if request["method"] == "eth_newPendingTransactionFilter":
            return failure(request, code, "no such method")
        if request["method"] == "eth_getBlockByNumber" and request["params"][0] == "pending":
            return result(request, {"transactions": waiting})
        return None

    node.answer = answer
    async with node.http() as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["newPendingTransactions"], inbox)
        waiting.append("0x02")
        assert await inbox.next() == "0x02", "what was there before is not new"
        node.by_hash[node.mine()]["transactions"] = ["0x01", "0x02", "0x03"]
        node.by_hash[node.mine()]["transactions"] = ["0x04"]
        assert [await inbox.next(), await inbox.next()] == ["0x03", "0x04"]
        node.cut(1)
        node.by_hash[node.mine()]["transactions"] = ["0x05", "0x04"]
        waiting[:] = []
        waiting.append("0x06")
        assert {await inbox.next(), await inbox.next()} == {"0x05", "0x06"}
        assert inbox.queue.empty()


async def test_syncing_is_told_when_it_begins_and_ends(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "_SYNCING_SECONDS", 0.01)
    node = ChainNode()
    async with node.http() as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["syncing"], inbox)
        node.syncing = {"currentBlock": "0x1", "highestBlock": "0x9"}
        assert await inbox.next() == {"syncing": True, "status": node.syncing}
        node.syncing = {"currentBlock": "0x2", "highestBlock": "0x9"}
        asked = node.times("eth_syncing")
        while node.times("eth_syncing") < asked + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        node.syncing = False
        assert await inbox.next() is False
        assert inbox.queue.empty()


async def test_a_kind_only_the_node_knows_is_the_nodes(short_tmp: Path) -> None:
    node = ChainNode()
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["transactionReceipts", {"transactionHashes": []}], inbox)
        assert ["transactionReceipts", {"transactionHashes": []}] in node.subscribed
        await node.push_result("transactionReceipts", [1])
        assert await inbox.next() == [1]


async def test_a_receiver_that_fails_is_alone(anvil: Anvil) -> None:
    async with connected(anvil.ipc) as l1:

        def broken(_: msgspec.Raw) -> None:
            raise RuntimeError("broken receiver")

        inbox = Inbox()
        await l1.subscribe(["newHeads"], broken)
        await l1.subscribe(["newHeads"], inbox)
        await l1.call("evm_mine")
        assert (await inbox.next())["number"] == "0x1"


async def test_a_node_that_pushes_nothing_over_its_socket_is_polled(short_tmp: Path) -> None:
    node = ChainNode(pushes_heads=False, version="Geth/v1")
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        heads, logs = Inbox(), Inbox()
        await l1.subscribe(["newHeads"], heads)
        await l1.subscribe(["logs", {}], logs)
        name = node.mine("0x01")
        assert await heads.next() == block(1, name, node.genesis)
        assert (await logs.next())["data"] == "0x01"
