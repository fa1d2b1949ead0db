"""Subscriptions at the node: the node's own where it has them, made from reads where not; shared, and made anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from middleware.errors import Disconnected, RpcError
from proxy.upstream.l1 import L1
from tests.conftest import Anvil
from tests.upstream.fake_node import FakeNode, result

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
        async with asyncio.timeout(10):
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


@pytest.mark.parametrize("kind", KINDS)
async def test_new_heads(kind: str, anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        inbox = Inbox()
        stop = await l1.subscribe(["newHeads"], inbox)
        for number in (1, 2):
            await l1.call("evm_mine")
            head = await inbox.next()
            block = await l1.call("eth_getBlockByNumber", hex(number), False)
            for member in ("number", "hash", "parentHash", "logsBloom", "timestamp", "gasLimit", "baseFeePerGas"):
                assert head[member] == block[member]
            assert kind != "http" or "transactions" not in head  # over sockets it is what the node says
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
@pytest.mark.parametrize("params", [["nonsense"], ["logs", {"address": "nonsense"}], ["syncing"], []])
async def test_what_cannot_be_subscribed_to_is_an_error(kind: str, params: list[Any], anvil: Anvil) -> None:
    async with connected(getattr(anvil, kind)) as l1:
        with pytest.raises(RpcError) as caught:
            await l1.subscribe(params, Inbox())
        assert not isinstance(caught.value, Disconnected)
        assert await l1.call("eth_chainId") == "0x7a69"


async def test_equal_wishes_are_one_subscription_at_the_node(short_tmp: Path) -> None:
    subscribed, forgotten = [], asyncio.Event()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_subscribe":
            subscribed.append(request["params"])
            return result(request, f"0x{len(subscribed)}")
        if request["method"] == "eth_unsubscribe" and request["params"] == ["0x2"]:
            forgotten.set()
        return result(request, "0x1")

    node = FakeNode(answer)
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        async with asyncio.timeout(5):
            while not subscribed:  # noqa: ASYNC110  (the tracker's own)
                await asyncio.sleep(0.01)
        first, second = Inbox(), Inbox()
        stop_first = await l1.subscribe(["logs", {"address": ADDRESS}], first)
        stop_second = await l1.subscribe(["logs", {"address": ADDRESS}], second)
        assert subscribed == [["newHeads"], ["logs", {"address": ADDRESS}]]
        push = {"jsonrpc": "2.0", "method": "eth_subscription", "params": {"subscription": "0x2", "result": {"n": 1}}}
        for send in node.pushes:
            await send(json.dumps(push).encode())
        assert await first.next() == await second.next() == {"n": 1}
        await stop_first()
        assert not forgotten.is_set()
        await stop_second()
        async with asyncio.timeout(5):
            await forgotten.wait()


async def test_news_that_overtakes_its_answer_is_not_lost(short_tmp: Path) -> None:
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_subscribe" and request["params"][0] == "logs":
            push = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x9","result":%d}}\n'
            return push % 1 + push % 2 + result(request, "0x9")
        return result(request, "0x1")

    async with FakeNode(answer).ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["logs", {}], inbox)
        assert [await inbox.next(), await inbox.next()] == [1, 2]


async def test_a_subscription_lives_on_over_a_new_connection(short_tmp: Path) -> None:
    asked = asyncio.Queue[str]()

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_subscribe" and request["params"][0] == "logs":
            asked.put_nowait("logs")
            return result(request, "0x9")
        return result(request, "0x1")

    node = FakeNode(answer)
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1, asyncio.timeout(10):
        inbox = Inbox()
        await l1.subscribe(["logs", {}], inbox)
        await asked.get()
        node.drop_all()
        await asked.get()
        push = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x9","result":7}}'
        await node.pushes[-1](push)
        assert await inbox.next() == 7


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
    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_subscribe":
            error = {"code": 4200, "message": "eth_subscribe is not served"}
            return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
        if request["method"] == "eth_getBlockByHash":
            return result(request, {"number": "0x0", "hash": request["params"][0], "transactions": []})
        return result(request, [])

    node = FakeNode(answer)
    async with node.ipc(short_tmp / "n.ipc") as url, connected(url) as l1:
        inbox = Inbox()
        await l1.subscribe(["newHeads"], inbox)
        await l1.subscribe(["logs", {}], Inbox())
        node.genesis = "0x" + "99" * 32
        with contextlib.suppress(
            Disconnected
        ):  # the fake's only block is its genesis; a changed one shows that it is looked at
            await l1.blocks.sync()
        assert "eth_getLogs" in node.methods()
