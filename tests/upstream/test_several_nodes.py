"""Several nodes of one chain: who is asked, who is passed over, what goes to another and what never does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from middleware.errors import Disconnected, RpcError
from middleware.waist import NodeReply, Request
from proxy.upstream.breaker import Breaker
from proxy.upstream.failures import Broken, Late, Unreachable, WrongChain
from proxy.upstream.l1 import L1
from proxy.upstream.node_socket import in_memory
from tests.upstream.chain_node import ChainNode
from tests.upstream.fake_node import Die, FakeNode, Hang, Reply, block, ok, raw_id, result
from tests.upstream.test_failures import patience

RAW = "0x02f86c"
HASH = "0x" + keccak(bytes.fromhex(RAW[2:])).hex()
SEND = Request("eth_sendRawTransaction", f'["{RAW}"]'.encode(), b'"me"')
BALANCE = Request("eth_getBalance", b'["0x01"]', b"1")


class Script:
    """What a node answers by method: a JSON value, an error object, or an exception to raise."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def __call__(self, request: dict[str, Any]) -> bytes:
        value = self.answers.get(request["method"], "0x1")
        if isinstance(value, type):
            raise value
        if isinstance(value, asyncio.Event):
            await value.wait()
            value = "0x1"
        if isinstance(value, dict) and "code" in value:
            return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": value}, separators=(",", ":")).encode()
        return result(request, value)


@contextlib.asynccontextmanager
async def over(place: Path, *nodes: FakeNode, **options: Any) -> AsyncIterator[L1]:
    """Serve each node on a socket of its own and connect to all, following nothing."""
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(node.ipc(place / f"{n}.ipc")) for n, node in enumerate(nodes)]
        l1 = L1(urls, **options)
        stack.push_async_callback(l1.close)
        yield l1


async def test_a_transaction_goes_to_the_next_node_when_the_first_broke(short_tmp: Path) -> None:
    first, second = FakeNode(Script(eth_sendRawTransaction=Die)), FakeNode(Script(eth_sendRawTransaction=HASH))
    async with over(short_tmp, first, second) as l1:
        assert await l1.forward(SEND) == NodeReply(b'{"jsonrpc":"2.0","id":"me","result":"%b"}' % HASH.encode())
        assert first.methods() == second.methods() == ["eth_sendRawTransaction"]
        assert json.loads(second.asked[-1])["params"] == [RAW], "the same bytes"


@pytest.mark.parametrize("words", ["already known", "nonce too low", "transaction already imported"])
async def test_the_second_node_that_has_it_already_has_taken_it(words: str, short_tmp: Path) -> None:
    refusal = {"code": -32000, "message": words}
    first = FakeNode(Script(eth_sendRawTransaction=Die))
    second = FakeNode(Script(eth_sendRawTransaction=refusal, eth_getTransactionByHash={"hash": HASH}))
    async with over(short_tmp, first, second) as l1:
        reply = await l1.forward(SEND)
        assert reply == NodeReply(b'{"jsonrpc":"2.0","id":"me","result":"%b"}' % HASH.encode())
        assert json.loads(second.asked[-1])["params"] == [HASH]


async def test_a_refusal_of_what_no_node_knows_stays_as_it_is(short_tmp: Path) -> None:
    refusal = {"code": -32000, "message": "insufficient funds"}
    first = FakeNode(Script(eth_sendRawTransaction=Die))
    second = FakeNode(Script(eth_sendRawTransaction=refusal, eth_getTransactionByHash=None))
    async with over(short_tmp, first, second) as l1:
        with pytest.raises(RpcError, match="insufficient funds"):
            (await l1.forward(SEND)).result()


async def test_a_first_refusal_is_the_answer(short_tmp: Path) -> None:
    first = FakeNode(Script(eth_sendRawTransaction={"code": -32000, "message": "already known"}))
    second = FakeNode()
    async with over(short_tmp, first, second) as l1:
        with pytest.raises(RpcError, match="already known"):
            (await l1.forward(SEND)).result()
    assert second.methods() == []


async def test_a_transaction_nobody_answered_for_is_unknown(short_tmp: Path) -> None:
    nodes = [FakeNode(Script(eth_sendRawTransaction=Die)) for _ in range(2)]
    async with over(short_tmp, *nodes) as l1:
        with pytest.raises(Disconnected, match="whether it took effect is unknown"):
            await l1.forward(SEND)
    assert [node.methods() for node in nodes] == [["eth_sendRawTransaction"]] * 2


@pytest.mark.parametrize(
    "method", ["evm_mine", "eth_getFilterChanges", "anvil_setBalance", "eth_sendRawTransactionSync"]
)
async def test_nothing_else_that_may_take_effect_is_asked_twice(method: str, short_tmp: Path) -> None:
    first, second = FakeNode(Script(**{method: Die})), FakeNode()
    async with over(short_tmp, first, second) as l1:
        with pytest.raises(Disconnected, match="it was sent"):
            await l1.call(method)
    assert (first.methods(), second.methods()) == ([method], [])


async def test_a_node_with_too_many_requests_hands_reads_to_the_next(short_tmp: Path) -> None:
    busy = {"code": -32005, "message": "too many requests"}
    first = FakeNode(Script(eth_getBalance=busy, eth_call=busy, evm_mine=busy))
    second = FakeNode(Script(eth_getBalance="0x2", eth_call={"code": -32005, "message": "me too"}))
    async with over(short_tmp, first, second) as l1:
        for _ in range(2):
            assert await l1.call("eth_getBalance") == "0x2"
        with pytest.raises(RpcError, match="too many requests"):
            await l1.call("eth_call")  # the first one's own words, where no node answers
        with pytest.raises(RpcError, match="too many requests"):
            await l1.call("evm_mine")
        assert "evm_mine" not in second.methods()
        assert l1.nodes[0].figures.failures == 0, "it answered"


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
async def test_so_does_one_that_says_it_in_http(status: bytes, short_tmp: Path) -> None:
    first, second = FakeNode(), FakeNode(Script(eth_getBalance="0x2"))

    def reply(body: bytes) -> bytes:
        return ok(body).replace(b"200 OK", status) if b'"0x1"' in body else ok(body)

    async with first.http(reply=reply) as one, second.ipc(short_tmp / "b.ipc") as two:
        l1, alone = L1([one, two]), L1([one])
        assert await l1.call("eth_getBalance") == "0x2"
        assert l1.nodes[0].figures.failures == 1
        assert await alone.call("eth_getBalance") == "0x1", "its answer is good where no other node is"
        await l1.close()
        await alone.close()


async def test_each_nodes_trouble_is_named_when_none_is_left(short_tmp: Path) -> None:
    l1 = L1([str(short_tmp / "a.ipc"), "http://127.0.0.1:1/secret", "ws://127.0.0.1:2"])
    with pytest.raises(Disconnected) as caught:
        await l1.forward(BALANCE)
    assert caught.value.code == 4900
    assert caught.value.message == (
        "no L1 node can be asked: a unix socket: there is no socket there; is the node running?; "
        "http://127.0.0.1:1: it refused the connection (Connection refused); "
        "ws://127.0.0.1:2: it refused the connection (Connection refused)"
    )
    assert [node.figures.breaker for node in l1.nodes] == ["open"] * 3
    assert l1.trouble == caught.value.message.removeprefix("no L1 node can be asked: ")
    await l1.close()


class Peer(ChainNode):
    """A node with blocks, the same as every other's of the same `branch`; `says`: which block it claims to be at."""

    def __init__(self, blocks: int, balance: str, branch: int = 0) -> None:
        super().__init__(pushes_heads=False)
        self._made = branch * 1_000_000
        self.balance = balance
        self.says: Any = None
        self.grow(blocks)

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.mine()

    async def respond(self, raw: bytes) -> Reply:
        request = json.loads(raw)
        match request["method"]:
            case "eth_getBalance" if self.balance == "":
                raise Die
            case "eth_getBalance":
                return result(request, self.balance)
            case "eth_blockNumber" if self.says is not None:
                return result(request, self.says)
        return await super().respond(raw)


async def look(l1: L1) -> list[int | None]:
    """Compare the nodes now; return how far each is behind."""
    l1._look_at = 0
    await l1._revive()
    return [node.figures.head_lag for node in l1.nodes]


async def test_a_node_that_lags_is_asked_when_there_is_no_other(short_tmp: Path) -> None:
    behind, best = Peer(16, "0xa"), Peer(20, "0xb")
    async with over(short_tmp, behind, best) as l1:
        assert await l1.call("eth_getBalance") == "0xa"
        assert await look(l1) == [4, 0]
        assert await l1.call("eth_getBalance") == "0xb"
        behind.grow(1)
        assert await look(l1) == [3, 0]
        assert await l1.call("eth_getBalance") == "0xa", "a few blocks are no lag"
        best.grow(80)
        assert await look(l1) == [83, 0]
        best.balance = ""
        assert await l1.call("eth_getBalance") == "0xa", "better than none"


@pytest.mark.parametrize("claim", ["0xffffffff", "0xffffffffffffffff", "0x19", "0x015"])
async def test_a_height_that_is_only_claimed_makes_no_other_lag(claim: str, short_tmp: Path) -> None:
    liar, good = Peer(17, "0xa"), Peer(17, "0xb")
    (short_tmp / "b").mkdir()
    async with over(short_tmp, good, liar) as l1, over(short_tmp / "b", liar, good) as backwards:
        liar.says = claim
        for each, lags in ((l1, [0, None]), (backwards, [None, 0])):
            for _ in range(2):
                assert await look(each) == lags
                assert await each.call("eth_getBalance") == "0xb", "and who claims it is passed over"
        assert l1.nodes[1].figures.last_error == f"it says it is at block {int(claim, 16)}, and shows no such block"
        good.balance = ""
        assert await l1.call("eth_getBalance") == "0xa", "better than none"
        liar.says = None
        assert await look(backwards) == [0, 0]
        assert await backwards.call("eth_getBalance") == "0xa", "it is believed as soon as it shows what it says"


@pytest.mark.parametrize("claim", ["0x" + "f" * 17, "0x1_0", "-0x1", "", 17, None, "0x" + "f" * 100_000])
async def test_a_height_that_is_no_number_is_none(claim: Any, short_tmp: Path) -> None:
    liar, good = Peer(17, "0xa"), Peer(17, "0xb")
    liar.says = claim if claim is not None else []
    async with over(short_tmp, liar, good) as l1:
        await look(l1)
        assert l1.nodes[0].figures.head is None
        assert await l1.call("eth_getBalance") == "0xb"


async def test_a_height_on_another_branch_says_nothing(short_tmp: Path) -> None:
    ours, other = Peer(100, "0xa"), Peer(200, "0xb", branch=1)
    async with over(short_tmp, ours, other) as l1:
        assert await look(l1) == [0, 0]
        assert await l1.call("eth_getBalance") == "0xa", "the order of the config stands"


async def test_a_node_stuck_on_a_block_that_left_the_chain_lags(short_tmp: Path) -> None:
    stuck, good = Peer(100, "0xa"), Peer(100, "0xb")
    stuck.cut(2)
    stuck._made = 1_000_000
    stuck.grow(2)
    good.grow(10)
    async with over(short_tmp, stuck, good) as l1:
        assert await look(l1) == [10, 0]
        assert await l1.call("eth_getBalance") == "0xb"


async def test_a_node_that_pushes_an_absurd_header_moves_nothing(short_tmp: Path) -> None:
    liar, good = Peer(17, "0xa"), Peer(17, "0xb")
    liar.pushes_heads = True
    async with over(short_tmp, liar, good) as l1:
        await l1.start()
        async with asyncio.timeout(60):
            while not liar.subscribed:  # noqa: ASYNC110  (the proxy's own start)
                await asyncio.sleep(0.01)
            absurd = block(0xFFFFFFFF, "0x" + "ee" * 32, "0x" + "dd" * 32)
            await liar.push_result("heads", absurd)
            before = l1.blocks.figures.announced
            await liar.announce()
            while l1.blocks.figures.announced == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await l1.blocks.sync()) == l1.blocks.head
        assert l1.blocks.head is not None
        assert l1.blocks.head.number == 17
        assert await look(l1) == [0, 0]
        assert await l1.call("eth_getBalance") == "0xa"


async def test_a_node_that_does_not_tell_its_head_is_passed_over(short_tmp: Path) -> None:
    nodes = [
        FakeNode(Script(eth_blockNumber={"code": 1, "message": "no"}, eth_getBalance="0xa")),
        FakeNode(Script(eth_getBalance="0xb")),
    ]
    async with over(short_tmp, *nodes) as l1:
        assert await l1.call("eth_getBalance") == "0xa"
        await l1._revive()
        assert await l1.call("eth_getBalance") == "0xb"


async def test_a_head_of_megabytes_is_not_read(short_tmp: Path) -> None:
    nodes = [
        FakeNode(Script(eth_blockNumber="0x" + "f" * 5_000_000, eth_getBalance="0xa")),
        FakeNode(Script(eth_getBalance="0xb")),
    ]
    async with over(short_tmp, *nodes) as l1:
        assert await l1.call("eth_getBalance") == "0xa"
        await l1._revive()
        assert l1.nodes[0].figures.head is None
        assert await l1.call("eth_getBalance") == "0xb", "it is passed over, and the others do not lag behind it"


async def test_a_node_that_breaks_every_call_is_probed_once_for_all(short_tmp: Path) -> None:
    script = Script(eth_getBalance=Die)
    first = FakeNode(script)
    async with over(short_tmp, first) as l1:
        for _ in range(5):
            with pytest.raises(Disconnected):
                await l1.forward(BALANCE)
        assert l1.nodes[0].figures.breaker == "open"
        script.answers["eth_getBalance"] = "0x5"
        asked = len(first.asked)
        assert await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(20))) == ["0x5"] * 20
        methods = [json.loads(raw)["method"] for raw in first.asked[asked:]]
        assert methods.count("eth_chainId") <= 2, "one probe, and one look at a new connection"
        assert l1.nodes[0].figures.breaker == "closed"
        assert l1.trouble is None


async def test_a_probe_that_is_answered_with_megabytes_is_no_sign_of_life(short_tmp: Path) -> None:
    node = FakeNode()
    async with over(short_tmp, node, response_limit=4096) as l1:
        assert await l1.call("eth_call") == "0x1"
        l1.nodes[0].failed(Late("it did not answer in time"))
        respond = node.respond

        async def huge(raw: bytes) -> Reply:
            return result(json.loads(raw), "0x" + "00" * 4096)

        node.respond = huge  # type: ignore[method-assign]
        await l1._revive()
        assert l1.trouble is not None
        assert "megabytes" in l1.trouble
        node.respond = respond  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            while l1.trouble is not None:  # it rests for a moment
                await l1._revive()
                await asyncio.sleep(0.01)


async def test_a_node_that_hangs_is_passed_over_and_a_good_one_never_waits(short_tmp: Path) -> None:
    gate = asyncio.Event()
    first, second = FakeNode(Script(eth_call=Hang, eth_getBalance=gate)), FakeNode(Script(eth_call="0x2"))
    async with over(short_tmp, first, second) as l1:
        await asyncio.gather(*(node.line() for node in l1.nodes))  # a connection to each stands
        patience(l1, 0.3)
        waiting = [asyncio.create_task(l1.call("eth_call")) for _ in range(10)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"the L1 node did not answer eth_call within 0.3 s"}
        patience(l1, 60)
        assert await l1.call("eth_call") == "0x2"
        assert l1.nodes[0].figures.breaker == "open"
        assert (l1.nodes[0].figures.in_flight, l1.nodes[1].figures.failures) == (0, 0)
        for _ in range(50):
            assert await l1.call("eth_call") == "0x2"
        assert first.methods().count("eth_call") == 10


async def test_a_node_whose_callers_ask_for_much_does_not_hang(short_tmp: Path) -> None:
    """Calls that were late say nothing of the others that are due: they are not taken from it, to begin anew with less time."""
    gate = asyncio.Event()
    first, second = FakeNode(Script(eth_call=Hang, eth_getBalance=gate)), FakeNode(Script())
    async with over(short_tmp, first, second) as l1:
        node = l1.nodes[0]
        await asyncio.gather(*(one.line() for one in l1.nodes))
        node._breaker = Breaker(3600, 3600)  # opened, it rests for as long as this takes
        due = asyncio.create_task(node.exchange(BALANCE))
        async with asyncio.timeout(60):
            while first.methods() != ["eth_getBalance"]:  # noqa: ASYNC110  (what a node was asked makes no event)
                await asyncio.sleep(0)
        patience(l1, 0.3)
        await asyncio.gather(*(l1.call("eth_call") for _ in range(3)), return_exceptions=True)
        assert node.resting
        assert l1.trouble is None
        await l1._revive()
        gate.set()
        assert NodeReply(in_memory(await due)).result() == "0x1"


@pytest.mark.parametrize("pushes", [True, False])
async def test_a_node_that_hangs_does_not_hold_up_who_follows_the_chain(
    pushes: bool, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Peer(5, "0xa"), Peer(5, "0xb")
    first.pushes_heads = second.pushes_heads = pushes
    async with over(short_tmp, first, second) as l1:
        await l1.start()
        await l1.blocks.sync()
        heard: asyncio.Queue[int] = asyncio.Queue()
        stop = await l1.subscribe(["newHeads"], lambda raw: heard.put_nowait(int(json.loads(bytes(raw))["number"], 16)))

        async def hang(_: dict[str, Any]) -> Reply:
            raise Hang

        async with asyncio.timeout(60):
            while l1.blocks._chain.lowest.number > 0:  # noqa: ASYNC110  (nothing is asked by the tracker then)
                await asyncio.sleep(0.01)
        monkeypatch.setattr("proxy.upstream.l1._LOOK_SECONDS", 0.3)  # no sooner: what came before may take its time
        first.answer = hang
        second.grow(3)
        async with asyncio.timeout(60):
            assert [await heard.get() for _ in range(3)] == [6, 7, 8]
        await stop()


async def test_what_was_on_its_way_when_a_node_was_shut_out_says_nothing_of_why(short_tmp: Path) -> None:
    async with over(short_tmp, FakeNode()) as l1:
        node = l1.nodes[0]
        node._breaker = Breaker(3600, 3600)  # it rests for as long as this takes
        node.failed(WrongChain("it serves another chain"))
        for late in (Broken("the connection ended", repeatable=True), Unreachable("the connection ended")):
            node.failed(late)
        with pytest.raises(Disconnected, match="it serves another chain"):
            await l1.forward(BALANCE)
        assert "it serves another chain" in (l1.trouble or "")


async def test_what_is_counted_of_a_node(short_tmp: Path) -> None:
    gate = asyncio.Event()
    script = Script(eth_getBalance=gate)
    node = FakeNode(script)
    async with over(short_tmp, node) as l1:
        figures = l1.nodes[0].figures
        waiting = [asyncio.create_task(l1.forward(BALANCE)) for _ in range(3)]
        async with asyncio.timeout(60):
            while len(node.methods()) < 3:  # noqa: ASYNC110  (poll with a deadline)
                await asyncio.sleep(0.01)
        assert (figures.requests, figures.in_flight, figures.failures) == (3, 3, 0)
        gate.set()
        await asyncio.gather(*waiting)
        assert (figures.requests, figures.in_flight, figures.failures) == (3, 0, 0)
        assert figures.latency > 0
        assert figures.reconnects == 0
        node.drop_all()
        assert await l1.call("eth_getBalance") == "0x1"
        assert figures.reconnects == 1
        script.answers["eth_getBalance"] = Die
        before = figures.failures
        with pytest.raises(Disconnected):
            await l1.forward(BALANCE)
        assert (figures.failures - before, figures.last_error) == (2, "the L1 node closed the connection")
        assert figures.error_rate > 0


async def test_an_answer_is_told_by_its_id_alone_whatever_node_it_comes_from(short_tmp: Path) -> None:
    """Numbers never repeat at one node, so that an answer to a socket that was given up meets nobody on the next."""
    numbers: list[int] = []

    async def answer(request: dict[str, Any]) -> bytes:
        numbers.append(int(raw_id(request)))
        raise Die

    async with over(short_tmp, FakeNode(answer)) as l1:
        for _ in range(3):
            with pytest.raises(Disconnected):
                await l1.call("evm_mine")
    assert len(set(numbers)) == 3
