"""The answer through the proxy is the node's, byte for byte (rpc.md, "Passed through": equal), for each transport to the
node and through every door: both lanes of HTTP, WebSocket, unix socket, and with the cache switched on.

Each request is sent straight to a real node, through the doors, and straight again: an exchange the node itself answers
differently the second time says nothing and is left out; how many that are is bounded and printed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance import callers
from tests.conformance.callers import Ask
from tests.conformance.exchanges import IDS, Exchange, recorded
from tests.conformance.pairs import TRANSPORTS, Doors, doors, node
from tests.conftest import Anvil

EXCHANGES = recorded()
READS = [exchange for exchange in EXCHANGES if not exchange.changes_state]
CHANGES = [exchange for exchange in EXCHANGES if exchange.changes_state]
A_FEW = [*READS[::12], *(one for one in READS if one.method in ("eth_chainId", "eth_syncing", "eth_call"))]

TIMES = 20
UNSTEADY = {"eth_getStorageValues"}  # anvil writes its maps in an order of the moment

pytestmark = pytest.mark.node


@pytest.fixture
async def anvil(anvil_binary: Path) -> AsyncIterator[Anvil]:
    """A node with the recorded genesis and transactions on it."""
    async with node(anvil_binary) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
async def asked(request: pytest.FixtureRequest, anvil: Anvil, short_tmp: Path) -> AsyncIterator[Doors]:
    """A proxy over one transport, the recorded transactions mined behind it."""
    async with doors(anvil, request.param, short_tmp) as running:
        for exchange in CHANGES:
            await running.direct(exchange.raw)
        await until_mined(running)
        yield running


async def until_mined(asked: Doors) -> None:
    """Wait until the node has put into blocks what it took: it answers a send before it mines."""
    status = b'{"jsonrpc":"2.0","id":1,"method":"txpool_status","params":[]}'
    async with asyncio.timeout(60):
        while json.loads(await asked.direct(status))["result"]["pending"] != "0x0":  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the node is another process, and says nothing when it is done


class Comparison:
    """What was compared, and what the node answers differently every time."""

    def __init__(self) -> None:
        self.same = 0
        self.unsteady: list[str] = []

    async def compare(self, asked: Doors, name: str, body: bytes) -> None:
        before = await asked.direct(body)
        proxied = {door: await ask(body) for door, ask in asked.proxied.items()}
        after = await asked.direct(body)
        different = {door: answer for door, answer in proxied.items() if answer != before}
        if before != after or (different and not await is_steady(asked.direct, body, before)):
            self.unsteady.append(name)
            return
        assert not different, f"{name}: {body.decode()[:300]} is answered {before.decode()[:300]} by the node"
        self.same += 1


async def is_steady(ask: Ask, body: bytes, answer: bytes) -> bool:
    """Tell whether the node gives `answer` every time: it writes out some maps in an order of the moment."""
    for _ in range(TIMES):
        if await ask(body) != answer:
            return False
    return True


def test_every_recorded_exchange_is_there() -> None:
    assert len(EXCHANGES) == 158
    assert len(CHANGES) == 7


async def test_every_recorded_exchange(asked: Doors) -> None:
    comparison = Comparison()
    for number, exchange in enumerate(EXCHANGES):
        await comparison.compare(asked, exchange.name, exchange.raw)
        other_id = IDS[number % len(IDS)]
        await comparison.compare(asked, f"{exchange.name} id {other_id}", exchange.written(other_id, number))
    hits = asked.memory.figures.hits
    print(f"equal: {comparison.same}, left out: {comparison.unsteady}, from the cache: {hits}")  # noqa: T201
    assert hits >= 20
    assert len(comparison.unsteady) <= 10
    assert comparison.same >= 2 * len(EXCHANGES) - 10


async def test_every_id(asked: Doors) -> None:
    for raw_id in IDS:
        comparison = Comparison()
        for number, exchange in enumerate(A_FEW):
            await comparison.compare(asked, f"{exchange.name} id {raw_id}", exchange.written(raw_id, number))
        assert comparison.same >= len(A_FEW) - 2, raw_id


async def test_inside_batches(asked: Doors) -> None:
    """Each item of a batch is what the node answers to it alone, and the batch keeps the order."""
    same = 0
    for start in range(0, len(READS), 50):
        calls, answers = [], []
        for at, exchange in enumerate(READS[start : start + 50]):
            call = exchange.written(IDS[(start + at) % len(IDS)], at)
            answer = await asked.direct(call)
            if exchange.method not in UNSTEADY and await asked.direct(call) == answer:
                calls.append(call)
                answers.append(answer)
        for door, ask in asked.proxied.items():
            assert await ask(b"[" + b",".join(calls) + b"]") == b"[" + b",".join(answers) + b"]", door
        same += len(calls)
    assert same >= len(READS) - 10


async def test_notifications_get_no_answer(asked: Doors) -> None:
    quiet = b'{"jsonrpc":"2.0","method":"eth_chainId"}'
    loud = b'{"jsonrpc":"2.0","id":7,"method":"eth_chainId"}'
    for door, ask in asked.proxied.items():
        answer = await ask(b"[" + quiet + b"," + loud + b"," + quiet + b"]")
        assert answer == b"[" + await asked.direct(loud) + b"]", door


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_transactions_sent_through_the_proxy(anvil_binary: Path, transport: str, short_tmp: Path) -> None:
    """Two nodes that began alike: what changes one through the proxy changes the other directly, with the same answers."""
    quiet = "--no-mining"  # a block of a moment between two sends would tell the nodes apart
    async with (
        node(anvil_binary, quiet) as one,
        node(anvil_binary, quiet) as twin,
        doors(one, transport, short_tmp, beside=twin) as asked,
    ):
        accepted = 0
        for number, exchange in enumerate(CHANGES):
            door = list(asked.proxied)[number % len(asked.proxied)]
            for raw_id in ("1", '"again"'):
                body = exchange.written(raw_id)
                proxied, direct = await asked.proxied[door](body), await asked.direct(body)
                assert proxied == direct, exchange.name
                accepted += "result" in json.loads(direct)
        assert accepted >= 3
        for anvil in (one, twin):
            async with callers.http(anvil.http) as ask:
                await ask(b'{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":["0x77359500"]}')
        mined = Exchange("", "eth_getBlockByNumber", '["0x1",true]', b"").written("1")
        block = await asked.proxied["fast"](mined)
        assert block == await asked.direct(mined)
        assert len(json.loads(block)["result"]["transactions"]) > 0
