"""Many connections on one chain: one subscription at the node, everybody's own id, and a slow reader is alone in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from middleware.waist import ANONYMOUS, Context
from proxy.methods.subscriptions import Subscriptions
from proxy.server.outbox import Outbox
from proxy.server.taking import SlowReader
from proxy.upstream.l1 import L1
from tests.methods.test_subscriptions import FakeOperations, FakePermissions, FakeStates
from tests.upstream.chain_node import ChainNode

CLIENTS = 1000


class Wire:
    """Takes frames as a WebSocket does, until the reader stops reading."""

    transport = None

    def __init__(self) -> None:
        self.clogged = False
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        raise AssertionError("no notification is large")

    async def drained(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def house(node: ChainNode, folder: Path) -> AsyncIterator[tuple[L1, Subscriptions]]:
    async with node.ipc(folder / "n.ipc") as url:
        l1 = L1([url])
        await l1.start()
        subscriptions = Subscriptions(l1, FakePermissions(), FakeStates(), FakeOperations())
        try:
            yield l1, subscriptions
        finally:
            await subscriptions.close()
            await l1.close()


async def subscribe(subscriptions: Subscriptions, outbox: Outbox, *params: Any) -> str:
    """Subscribe as a door does: in a task of the message's own."""
    context = Context(ANONYMOUS, connection=outbox)
    return await asyncio.create_task(subscriptions.subscribe(list(params), context))


async def listening(l1: L1) -> None:
    async with asyncio.timeout(60):
        while l1.blocks.figures.node_subscriptions == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_thousand_clients_are_one_subscription_at_the_node(short_tmp: Path) -> None:
    node = ChainNode()
    async with house(node, short_tmp) as (l1, subscriptions):
        wires = [Wire() for _ in range(CLIENTS)]
        outboxes = [Outbox(wire) for wire in wires]
        numbers = [await subscribe(subscriptions, outbox, "newHeads") for outbox in outboxes]
        await listening(l1)
        assert len(set(numbers)) == len(subscriptions) == subscriptions.active["newHeads"] == CLIENTS
        names = []
        for _ in range(3):
            names.append(node.mine())
            await node.announce()
        async with asyncio.timeout(60):
            while l1.blocks.figures.delivered < 3 * CLIENTS:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for number, wire in zip(numbers, wires, strict=True):
            pushed = [json.loads(frame)["params"] for frame in wire.frames]
            assert [one["subscription"] for one in pushed] == [number] * 3
            assert [one["result"]["hash"] for one in pushed] == names
        assert node.subscribed == [["newHeads"]]
        assert (l1.blocks.figures.shared, l1.blocks.figures.node_subscriptions) == (1, 1)
        for outbox in outboxes:
            await outbox.close()
        assert len(subscriptions) == 0
        await subscriptions.close()  # and with it what runs after them
        assert l1.blocks.figures.shared == 0


async def test_a_reader_too_slow_ends_and_the_others_miss_nothing(short_tmp: Path) -> None:
    node = ChainNode()
    async with house(node, short_tmp) as (l1, subscriptions):
        wires = [Wire() for _ in range(3)]
        outboxes = [Outbox(wire, most_bytes=2000, stall_seconds=0.1) for wire in wires]
        for outbox in outboxes:
            await subscribe(subscriptions, outbox, "newHeads")
        wires[1].clogged = True
        writing = asyncio.create_task(outboxes[1].run())
        for _ in range(20):
            node.mine()
            await l1.blocks.sync()
        with pytest.raises(SlowReader):
            await writing
        await outboxes[1].close()  # as the conversation does with the connection
        assert len(subscriptions) == 2
        assert [len(wire.frames) for wire in wires] == [20, 0, 20]
