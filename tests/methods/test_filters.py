"""The filter methods on a real chain: every change once, reorgs included; ids nobody else can use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import Disconnected, InvalidParams, LimitExceeded, RpcError
from middleware.waist import ANONYMOUS, Context, Origin, Request
from proxy.methods import filter_changes
from proxy.methods.filters import Filters, handlers
from proxy.upstream.chain_events import NewHead, Reorg
from proxy.upstream.l1 import L1
from tests.conftest import Anvil
from tests.upstream.chain_node import ChainNode, failure
from tests.upstream.fake_node import result
from tests.upstream.test_failures import behind

PAGE, OTHER = Context(Origin.web("https://app.example")), Context(Origin.web("https://other.example"))
SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
OTHER_SENDER = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
EMITTER = "0x602a60006000a1"  # LOG1 with topic 0x2a on every call
ADDRESS = "0x" + "22" * 20


class House:
    """Filters over a real node, and a clock of the test's own."""

    def __init__(self, l1: L1, **options: Any) -> None:
        self.l1 = l1
        self.now = 0.0
        self.filters = Filters(l1, clock=lambda: self.now, **options)
        self.methods = handlers(self.filters)

    async def ask(self, method: str, *params: Any, context: Context = PAGE) -> Any:
        answer = await self.methods[method](list(params), context)
        return (await self.l1.forward(answer)).result() if isinstance(answer, Request) else answer

    async def emit(self, sender: str = SENDER) -> str:
        """Send a transaction that emits one log, and wait until its block is there (anvil answers before)."""
        sent: str = await self.l1.call("eth_sendTransaction", {"from": sender, "to": ADDRESS})
        async with asyncio.timeout(60):
            while await self.l1.call("eth_getTransactionReceipt", sent) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return sent


@contextlib.asynccontextmanager
async def house(anvil: Anvil, kind: str = "ipc", **options: Any) -> AsyncIterator[House]:
    l1 = L1([getattr(anvil, kind)])
    await l1.start()
    await l1.call("anvil_setCode", ADDRESS, EMITTER)
    try:
        yield House(l1, **options)
    finally:
        await l1.close()


@pytest.mark.parametrize("kind", ["http", "ws", "ipc"])
async def test_each_block_and_each_log_is_handed_out_once(kind: str, anvil: Anvil) -> None:
    async with house(anvil, kind) as h:
        await h.emit()
        blocks = await h.ask("eth_newBlockFilter")
        logs = await h.ask("eth_newFilter", {"address": ADDRESS})
        elsewhere = await h.ask("eth_newFilter", {"address": "0x" + "33" * 20})
        assert await h.ask("eth_getFilterChanges", blocks) == []
        sent = [await h.emit() for _ in range(3)]
        hashes = [(await h.l1.call("eth_getBlockByNumber", hex(n), False))["hash"] for n in (2, 3, 4)]
        assert await h.ask("eth_getFilterChanges", blocks) == hashes
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", logs)] == sent
        assert await h.ask("eth_getFilterChanges", elsewhere) == []
        for number in (blocks, logs):
            assert await h.ask("eth_getFilterChanges", number) == []


async def test_logs_taken_back_by_a_reorg_are_told_as_removed(anvil: Anvil) -> None:
    async with house(anvil) as h:
        told, untold = await h.ask("eth_newFilter", {}), await h.ask("eth_newFilter", {})
        snapshot = await h.l1.call("evm_snapshot")
        first = await h.emit()
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", told)] == [first]
        await h.l1.call("evm_revert", snapshot)
        second = await h.emit(OTHER_SENDER)  # another hash, without touching what anvil knows of the first sender
        changes = await h.ask("eth_getFilterChanges", told)
        assert [(log["transactionHash"], log["removed"]) for log in changes] == [(first, True), (second, False)]
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", untold)] == [second]


async def test_bounds_hold_at_both_ends(anvil: Anvil) -> None:
    async with house(anvil) as h:
        number = await h.ask("eth_newFilter", {"fromBlock": "0x2", "toBlock": "0x3"})
        sent = [await h.emit() for _ in range(4)]
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", number)] == sent[1:3]
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterLogs", number)] == sent[1:3]


async def test_all_logs_are_told_whether_handed_out_or_not(anvil: Anvil) -> None:
    async with house(anvil) as h:
        sent = [await h.emit()]
        number = await h.ask("eth_newFilter", {"address": ADDRESS, "fromBlock": "earliest"})
        sent.append(await h.emit())
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", number)] == sent[1:]
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterLogs", number)] == sent


async def test_pending_transactions(anvil: Anvil) -> None:
    async with house(anvil) as h:
        number = await h.ask("eth_newPendingTransactionFilter")
        sent = await h.emit()
        assert await h.ask("eth_getFilterChanges", number) == [sent]


async def test_a_long_absence_hands_out_the_blocks_of_the_gap(anvil: Anvil) -> None:
    async with house(anvil) as h:
        number = await h.ask("eth_newBlockFilter")
        logs = await h.ask("eth_newFilter", {})
        sent = await h.emit()
        await h.l1.call("anvil_mine", hex(600))
        hashes = await h.ask("eth_getFilterChanges", number)
        assert len(hashes) == 601
        assert hashes[300] == (await h.l1.call("eth_getBlockByNumber", hex(301), False))["hash"]
        assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", logs)] == [sent]


async def test_a_filter_is_its_makers_alone(anvil: Anvil) -> None:
    async with house(anvil) as h:
        number = await h.ask("eth_newFilter", {})
        assert len(number) == 2 + 32
        for context in (OTHER, Context(ANONYMOUS)):
            for method in ("eth_getFilterChanges", "eth_getFilterLogs"):
                with pytest.raises(RpcError, match="filter not found"):
                    await h.ask(method, number, context=context)
            assert await h.ask("eth_uninstallFilter", number, context=context) is False
        assert await h.ask("eth_uninstallFilter", number) is True
        assert await h.ask("eth_uninstallFilter", number) is False
        with pytest.raises(RpcError, match="filter not found"):
            await h.ask("eth_getFilterChanges", number)


async def test_block_filters_have_no_logs(anvil: Anvil) -> None:
    async with house(anvil) as h:
        with pytest.raises(RpcError, match="filter not found"):
            await h.ask("eth_getFilterLogs", await h.ask("eth_newBlockFilter"))


async def test_a_filter_for_the_past_has_its_past_in_getFilterLogs_alone(anvil: Anvil) -> None:
    async with house(anvil) as h:
        sent = [await h.emit() for _ in range(3)]
        block = await h.l1.call("eth_getBlockByNumber", "0x2", False)
        past = await h.ask("eth_newFilter", {"fromBlock": "0x1", "toBlock": "0x2"})
        one = await h.ask("eth_newFilter", {"blockHash": block["hash"]})
        newest = await h.ask("eth_newFilter", {"fromBlock": "latest", "toBlock": "pending"})
        settled = await h.ask("eth_newFilter", {"fromBlock": "finalized"})
        sent.append(await h.emit())
        for number, logs in ((past, sent[:2]), (one, [sent[1]])):
            assert await h.ask("eth_getFilterChanges", number) == []
            assert [log["transactionHash"] for log in await h.ask("eth_getFilterLogs", number)] == logs
        for number in (newest, settled):
            assert [log["transactionHash"] for log in await h.ask("eth_getFilterChanges", number)] == sent[3:]


async def test_block_hashes_of_a_new_branch_are_handed_out(anvil: Anvil) -> None:
    async with house(anvil) as h:
        number = await h.ask("eth_newBlockFilter")
        await h.emit()
        await h.emit()
        assert len(await h.ask("eth_getFilterChanges", number)) == 2
        await h.l1.call("anvil_reorg", 1, [])
        newest = await h.l1.call("eth_getBlockByNumber", "latest", False)
        assert await h.ask("eth_getFilterChanges", number) == [newest["hash"]]


async def test_pending_transactions_of_all_filters_are_one_filter_at_the_node(short_tmp: Path) -> None:
    node = ChainNode()
    async with behind(node, "http", short_tmp) as l1:
        h = House(l1)
        first = await h.ask("eth_newPendingTransactionFilter")
        node.pending = ["0x01"]
        second = await h.ask("eth_newPendingTransactionFilter", True, context=OTHER)
        node.pending = ["0x02"]
        assert await h.ask("eth_getFilterChanges", first) == ["0x01", "0x02"]
        assert await h.ask("eth_getFilterChanges", second, context=OTHER) == [{"hash": "0x02", "nonce": "0x0"}]
        assert node.times("eth_newPendingTransactionFilter") == 1
        assert h.filters.active == {"pending": 2}

        async def forgotten(request: dict[str, Any]) -> bytes | None:
            unknown = request["method"] == "eth_getFilterChanges"
            return failure(request, -32000, "filter not found") if unknown else None

        node.answer = forgotten
        assert await h.ask("eth_getFilterChanges", first) == []
        assert node.times("eth_newPendingTransactionFilter") == 2
        node.answer = None
        for number, context in ((first, PAGE), (second, OTHER)):
            assert await h.ask("eth_uninstallFilter", number, context=context) is True
        assert node.times("eth_uninstallFilter") == 1


async def test_a_whole_transaction_that_was_read_is_not_lost_with_the_next_one(short_tmp: Path) -> None:
    node = ChainNode()
    async with behind(node, "http", short_tmp) as l1:
        h = House(l1)
        number = await h.ask("eth_newPendingTransactionFilter", True)

        async def refused(request: dict[str, Any]) -> bytes | None:
            refuse = request["method"] == "eth_getTransactionByHash" and request["params"] == ["0x02"]
            return failure(request, -32000, "not now") if refuse else None

        node.answer, node.pending = refused, ["0x01", "0x02"]
        with pytest.raises(RpcError, match="not now"):
            await h.ask("eth_getFilterChanges", number)
        node.answer = None
        assert [one["hash"] for one in await h.ask("eth_getFilterChanges", number)] == ["0x01", "0x02"]
        assert await h.ask("eth_getFilterChanges", number) == []


async def test_what_could_not_be_read_is_handed_out_by_the_next_poll(short_tmp: Path) -> None:
    node = ChainNode()
    async with behind(node, "http", short_tmp) as l1:
        h = House(l1)
        number = await h.ask("eth_newFilter", {})
        node.mine("0x01")
        node.unknown.add(node.mine("0x02"))
        with pytest.raises(RpcError, match="unknown block"):
            await h.ask("eth_getFilterChanges", number)
        node.unknown.clear()
        assert [log["data"] for log in await h.ask("eth_getFilterChanges", number)] == ["0x01", "0x02"]
        node.unknown.add(node.mine("0x03"))
        with pytest.raises(RpcError, match="unknown block"):
            await h.ask("eth_getFilterChanges", number)
        node.cut(1)
        node.mine("0x04")
        assert [log["data"] for log in await h.ask("eth_getFilterChanges", number)] == ["0x04"]
        both = await asyncio.gather(*(h.ask("eth_getFilterChanges", number) for _ in range(2)))
        assert both == [[], []]
        node.mine("0x05")
        first, second = await asyncio.gather(*(h.ask("eth_getFilterChanges", number) for _ in range(2)))
        assert [log["data"] for log in first + second] == ["0x05"], "two polls at once share the changes"


async def test_a_block_that_leaves_while_its_logs_are_asked_for_fails_no_poll(short_tmp: Path) -> None:
    node = ChainNode(pushes_heads=False)
    node.mine()
    leaves = False

    plain = node.respond

    async def respond(raw: bytes) -> bytes | None:
        nonlocal leaves
        if leaves and b"blockHash" in raw:
            leaves = False
            node.cut(1)
            node.mine("0x02")
        return await plain(raw)

    node.respond = respond  # type: ignore[method-assign]
    async with behind(node, "ipc", short_tmp) as l1:
        filters = Filters(l1)
        number = await filters.new_log_filter([{}], PAGE)
        node.mine("0x01")
        leaves = True
        assert [log["data"] for log in await filters.changes([number], PAGE)] == ["0x02"]
        assert await filters.changes([number], PAGE) == []


async def test_a_filter_stuck_on_a_block_keeps_and_asks_no_more_than_a_little(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_changes, "_LEFT", 20)
    node = ChainNode(pushes_heads=False)
    node.mine()
    async with behind(node, "ipc", short_tmp) as l1:
        filters = Filters(l1)
        number = await filters.new_log_filter([{}], PAGE)
        await filters.new_block_filter([], PAGE)
        node.unknown.add(node.mine("0x00"))
        asked = 0
        for one in range(1, 50):
            node.mine(f"0x{one:02x}")
            asked = node.times("eth_getLogs")
            with pytest.raises(RpcError, match="unknown block"):
                await filters.changes([number], PAGE)
            changes = filters._all[number].changes
            assert isinstance(changes, filter_changes.LogChanges)
            assert len(changes._followed.left) <= 21
        assert node.times("eth_getLogs") - asked <= 2
        node.unknown.clear()
        told = [log["data"] for log in await filters.changes([number], PAGE)]
        assert told == [f"0x{one:02x}" for one in range(50)]


async def test_a_gap_that_who_answers_does_not_know_yet_loses_no_block(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_changes, "_LEFT", 1)
    node = ChainNode(pushes_heads=False)
    node.mine()
    lags = False

    async def answer(request: dict[str, Any]) -> bytes | None:
        which = request.get("params") or [""]
        return result(request, None) if lags and which[0] == "0x4" else None

    node.answer = answer
    async with behind(node, "ipc", short_tmp) as l1:
        filters = Filters(l1)
        number = await filters.new_block_filter([], PAGE)
        mined = [node.mine() for _ in range(5)]
        lags = True
        with pytest.raises(Disconnected, match="does not have the newest blocks"):
            await filters.changes([number], PAGE)
        lags = False
        assert await filters.changes([number], PAGE) == mined
        assert await filters.changes([number], PAGE) == []


async def test_blocks_that_a_reorg_of_unknown_depth_tells_again_are_not_handed_out_again(short_tmp: Path) -> None:
    node = ChainNode(pushes_heads=False)
    node.mine()
    async with behind(node, "ipc", short_tmp) as l1:
        filters = Filters(l1)
        number = await filters.new_block_filter([], PAGE)
        mined = [node.mine() for _ in range(5)]
        assert await filters.changes([number], PAGE) == mined
        changes, head = filters._all[number].changes, l1.blocks.head
        assert isinstance(changes, filter_changes.BlockChanges)
        assert head is not None
        changes._followed.left = [Reorg(head, 0, head), NewHead(head, gap_from=1)]
        assert await filters.changes([number], PAGE) == []
        node.cut(2)
        mined = [node.mine() for _ in range(3)]
        assert await filters.changes([number], PAGE) == mined


async def test_unused_filters_are_forgotten_with_the_next_block(short_tmp: Path) -> None:
    node = ChainNode()
    async with behind(node, "http", short_tmp) as l1:
        h = House(l1)
        for _ in range(3):
            await h.ask("eth_newBlockFilter")
        h.now = 301.0
        node.mine()
        await l1.blocks.sync()
        assert len(h.filters) == 0


async def test_unused_for_five_minutes_it_ends(anvil: Anvil) -> None:
    async with house(anvil) as h:
        used, unused = await h.ask("eth_newFilter", {}), await h.ask("eth_newFilter", {})
        h.now = 299.0
        await h.ask("eth_getFilterChanges", used)
        h.now = 301.0
        await h.ask("eth_getFilterChanges", used)
        with pytest.raises(RpcError, match="filter not found"):
            await h.ask("eth_getFilterChanges", unused)
        await h.ask("eth_newBlockFilter")
        assert len(h.filters) == 2


async def test_one_caller_cannot_have_them_all(anvil: Anvil) -> None:
    async with house(anvil, limit=8) as h:
        for _ in range(2):
            await h.ask("eth_newBlockFilter")
        with pytest.raises(LimitExceeded):
            await h.ask("eth_newBlockFilter")
        await h.ask("eth_newBlockFilter", context=OTHER)


async def test_what_the_node_refuses_is_the_nodes_error(anvil: Anvil) -> None:
    async with house(anvil) as h:
        with pytest.raises(RpcError) as caught:
            await h.ask("eth_newFilter", {"address": "nonsense"})
        assert caught.value.code == -32602


NO_FILTERS: list[Any] = [None, [], [1], [[]], {}, [{}, {}]]
NO_BLOCKS: list[Any] = [1, "1", "0x", "0xzz", [], "nonsense", "0x" + "f" * 70]
NO_IDS: list[Any] = [None, [], [1], {}]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        *(("eth_newFilter", params) for params in NO_FILTERS),
        *(("eth_newFilter", [{"fromBlock": value}]) for value in NO_BLOCKS),
        ("eth_newFilter", [{"fromBlock": "0x5", "toBlock": "0x4"}]),
        ("eth_newBlockFilter", [1]),
        *(("eth_newPendingTransactionFilter", params) for params in (["true"], [1], [0], [True, True], {"a": 1})),
        ("eth_newFilter", [{"blockHash": "0x" + "11" * 32, "toBlock": "0x1"}]),
        ("eth_newFilter", [{"toBlock": "finalized"}]),
        *((method, params) for method in ("eth_getFilterChanges", "eth_uninstallFilter") for params in NO_IDS),
    ],
)
async def test_params_that_mean_nothing_are_named(method: str, params: Any) -> None:
    l1 = L1(["/nowhere.ipc"])
    with pytest.raises(InvalidParams):
        await handlers(Filters(l1))[method](params, PAGE)
