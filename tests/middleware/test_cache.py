"""The cache: what it remembers and for how long, compared with a node asked directly; the bugs of others do not occur."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.cache import HELD, RENEWED, Cache
from middleware.cache_switch import CacheSwitch, Standing, is_throwaway
from middleware.epoch import Epoch
from middleware.methods import MethodTable
from middleware.waist import ANONYMOUS, SOCKET, Context, LargeReply, NodeReply, Origin, Request, Result
from proxy.upstream.envelope import travels_alone
from tests.middleware.model_chain import Block, Node, Tracker, at_once

PAGE = Origin.web("https://a.example")
OTHER_PAGE = Origin.web("https://b.example")
BALANCE = "eth_getBalance"


class Stand:
    """A cache over a model node."""

    def __init__(self, *, most_bytes: int = 1 << 20, enabled: bool | Literal["auto"] = True) -> None:
        self.node = Node()
        self.node.mine("a", 9)
        self.node.final = 4
        self.tracker = Tracker(self.node)
        self.epoch = Epoch(self.tracker)
        self.standing = Standing(reachable=True, throwaway=False)
        self.now = 1000.0
        self.cache = Cache(
            self.epoch,
            CacheSwitch(enabled, lambda: self.standing),
            MethodTable(dev=True),
            travels_alone,
            most_bytes,
            lambda: self.now,
        )
        self.look()

    def look(self) -> None:
        self.tracker.look(self.epoch)

    def stand(self, **what: bool) -> None:
        self.standing = Standing(**{"reachable": True, "throwaway": False} | what)
        self.now += 0.2

    def body(self, method: str, *params: Any, raw_id: bytes | None = b"1", origin: Origin = ANONYMOUS) -> bytes:
        return self.raw(Request(method, json.dumps(params).encode(), raw_id), origin)

    def raw(self, request: Request, origin: Origin = ANONYMOUS) -> bytes:
        answer = at_once(self.cache(request, Context(origin), self.node.answer))
        assert isinstance(answer, NodeReply)
        return answer.body

    def calls(self, method: str, *params: Any, raw_id: bytes | None = b"1", origin: Origin = ANONYMOUS) -> int:
        """Return how often the node was asked for one call, whose answer must be right."""
        before = len(self.node.asked)
        request = Request(method, json.dumps(params).encode(), raw_id)
        assert self.body(method, *params, raw_id=raw_id, origin=origin) == self.node.body(request)
        return len(self.node.asked) - before

    def twice(self, method: str, *params: Any) -> int:
        """Return how often the node was asked for the same call twice."""
        return self.calls(method, *params) + self.calls(method, *params)


LASTING: list[Any] = [
    ("eth_chainId",),
    ("eth_call", {"to": "0x1"}, "0x4"),
    ("eth_call", {"to": "0x1"}, "earliest"),
    ("eth_getBlockByNumber", "0x3", False),
    ("eth_getTransactionReceipt", "0x2"),
    ("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x4"}),
]
WITH_HEAD: list[Any] = [
    (BALANCE, "0x1", "latest"),
    (BALANCE, "0x1"),
    (BALANCE, "0x1", "0x9"),
    (BALANCE, "0x1", {"blockNumber": "0x8"}),
    (BALANCE, "0x1", "safe"),
    (BALANCE, "0x1", "finalized"),
    ("eth_getTransactionByHash", "0x9"),
    ("eth_getLogs", {"fromBlock": "0x1", "toBlock": "latest"}),
    ("eth_getBlockByNumber", "0x9", True),
    ("eth_getBlockByNumber", "finalized", True),
]


@pytest.mark.parametrize("call", LASTING)
def test_what_holds_for_ever(call: tuple[Any, ...]) -> None:
    stand = Stand()
    assert stand.twice(*call) == 1
    stand.node.mine()
    stand.look()
    stand.now += 10 * HELD
    assert stand.calls(*call) == 0
    stand.node.reorg(2, "b")  # blocks went away: nothing is believed
    stand.look()
    assert stand.calls(*call) == 1


@pytest.mark.parametrize("call", WITH_HEAD)
def test_what_holds_for_a_head(call: tuple[Any, ...]) -> None:
    stand = Stand()
    assert stand.twice(*call) == 1
    stand.node.mine()
    stand.look()
    assert stand.twice(*call) == 1
    stand.now += HELD  # and in any case for a short while only
    assert stand.calls(*call) == 1


@pytest.mark.parametrize(
    "call",
    [
        (BALANCE, "0x1", "0xa"),  # above the head: an error, or nothing
        ("eth_getTransactionReceipt", "0xa"),
        ("eth_blockNumber",),
        ("eth_getBlockByNumber", "latest", False),
        ("eth_estimateGas", {}, "latest"),
        ("eth_gasPrice", {}, "latest"),
        ("eth_getBlockByNumber", "0x77", False),
    ],
)
def test_what_is_never_remembered(call: tuple[Any, ...]) -> None:
    assert Stand().twice(*call) == 2


@pytest.mark.parametrize(
    "params",
    [
        b'["0x1","pending"]',
        b'["0x1","LATEST"]',
        b'["0x1","0x01"]',
        b'["0x1",9]',
        b'["0x1",{"blockNumber":"0x1","blockNumber":"latest"}]',
        b'["0x1",{"blockNumber":"0x1","BlockNumber":"latest"}]',
        b'["0x1",{"blockNumber":"0x1","blockHash":"latest"}]',
        b'{"address":"0x1"}',
    ],
)
def test_params_that_nodes_read_differently(params: bytes) -> None:
    stand = Stand()
    stand.node.body = lambda request: b'{"jsonrpc":"2.0","id":1,"result":"0x7"}'  # type: ignore[method-assign]
    for _ in range(2):
        stand.raw(Request(BALANCE, params, b"1"))
    assert len(stand.node.asked) == 2


@pytest.mark.parametrize("empty", [b"[]", b"{}"])
def test_nothing_found_does_not_hold_for_ever(empty: bytes) -> None:
    """A node that has not caught up yet says the same."""
    stand = Stand()
    stand.node.body = lambda request: b'{"jsonrpc":"2.0","id":1,"result":%b}' % empty  # type: ignore[method-assign]
    assert stand.twice("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"}) == 1
    stand.node.mine()
    stand.look()
    assert stand.calls("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"}) == 1


def block_hash(stand: Stand, number: int) -> str:
    return stand.node.chain[number].hash


def test_a_block_by_its_hash() -> None:
    """Two EIP-1898 hashes are two answers (eth-json-rpc-middleware 25.0.0 gave the first one's to both)."""
    stand = Stand()
    first, second = ({"blockHash": block_hash(stand, number)} for number in (5, 6))
    assert stand.twice("eth_call", {}, first) == 1
    assert stand.twice("eth_call", {}, second) == 1
    assert stand.body("eth_call", {}, first) != stand.body("eth_call", {}, second)
    stand.node.mine()
    stand.look()
    assert stand.calls("eth_call", {}, first) == 0
    canonical = {"blockHash": block_hash(stand, 5), "requireCanonical": True}
    assert stand.twice("eth_call", {}, canonical) == 1
    stand.node.mine()
    stand.look()
    assert stand.calls("eth_call", {}, canonical) == 1, "whether it is canonical may change"


def test_an_override_is_another_call() -> None:
    """eth-json-rpc-middleware 25.0.0 answered a call with a state override from the one without."""
    stand = Stand()
    assert stand.twice("eth_call", {}, "latest") == 1
    assert stand.twice("eth_call", {}, "latest", {"0x1": {"balance": "0x0"}}) == 1
    assert stand.twice("eth_call", {}, "latest", {"0x1": {"balance": "0x1"}}, {"number": "0x1"}) == 1


@pytest.mark.parametrize("tag", ["safe", "finalized"])
def test_a_tag_names_another_block_later(tag: str) -> None:
    """eRPC #223 kept `finalized` for ever, eth-json-rpc-middleware 25.0.0 `safe`."""
    stand = Stand()
    assert stand.twice(BALANCE, "0x1", tag) == 1
    stand.node.final = 6  # the head stays
    stand.look()
    assert stand.twice(BALANCE, "0x1", tag) == 1


@pytest.mark.parametrize(
    "raw_id", [b"2", b"0", b"-7", b"null", b'"x"', b'"a b"', b"9223372036854775807", b"123456789012345678"]
)
def test_everybody_gets_the_own_id(raw_id: bytes) -> None:
    """eRPC #59 served the first caller's id."""
    stand = Stand()
    stand.body(BALANCE, "0x1", raw_id=b'"first"')
    assert stand.calls(BALANCE, "0x1", raw_id=raw_id) == 0


@pytest.mark.parametrize(
    "raw_id", [b"1.5", b"1e3", b"-0", b"99999999999999999999", '"ü"'.encode(), rb'"\u0061"', b"[1]", b'"<"']
)
def test_an_id_a_node_may_echo_differently_is_asked(raw_id: bytes) -> None:
    stand = Stand()
    assert stand.calls(BALANCE, "0x1", raw_id=raw_id) == 1, "not kept"
    assert stand.calls(BALANCE, "0x1") == 1
    assert stand.calls(BALANCE, "0x1", raw_id=raw_id) == 1, "not given"


@pytest.mark.parametrize(
    "form",
    [
        b'{"jsonrpc":"2.0","id":%b,"result":"0x1"}',
        b'{"id":%b,"jsonrpc":"2.0","result":"0x1"}',
        b'{"jsonrpc":"2.0","result":"0x1","id":%b}',
        b'{ "jsonrpc" : "2.0", "result" : {"id":1}, "id" : %b }\n',
        b'{"result":"0x1","jsonrpc":"2.0","id":%b}',
    ],
)
def test_the_id_stands_where_the_node_put_it(form: bytes) -> None:
    stand = Stand()
    stand.node.body = lambda request: form % (request.id or b"")  # type: ignore[method-assign]
    assert stand.calls(BALANCE, "0x1", raw_id=b"1") == 1
    assert stand.calls(BALANCE, "0x1", raw_id=b'"0x1"') == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}',
        b'{"jsonrpc":"2.0","id":1,"result":null}',
        b'{"jsonrpc":"2.0","id":1,"result":"0x1","error":null}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","result":"0x1","id":1,"more":0}',
        b"garbage",
    ],
)
def test_answers_that_are_none(body: bytes) -> None:
    stand = Stand()
    stand.node.body = lambda request: body  # type: ignore[method-assign]
    assert stand.twice(BALANCE, "0x1") == 2


def test_pages_do_not_see_each_other() -> None:
    """A page must not learn from the time an answer takes what another page asked (hardening.md 3)."""
    stand = Stand()
    assert [stand.calls(BALANCE, "0x1", origin=origin) for origin in (PAGE, OTHER_PAGE, ANONYMOUS)] == [1, 1, 1]
    together = (PAGE, OTHER_PAGE, SOCKET, Origin.token("https://a.example"), Origin.plugin("paychan"))
    assert [stand.calls(BALANCE, "0x1", origin=origin) for origin in together] == [0] * 5


def test_a_newer_block_in_any_answer_ends_the_epoch() -> None:
    shown: list[Any] = [
        ("eth_blockNumber",),
        ("eth_getTransactionReceipt", "0xa"),
        ("eth_getBlockByNumber", "latest", False),
    ]
    for shows in shown:
        stand = Stand()
        stand.body(BALANCE, "0x1")
        stand.node.mine()  # the tracker has not looked yet
        stand.body(*shows)
        assert stand.tracker.pokes == 1
        assert stand.calls(BALANCE, "0x1") == 1
        stand.body(*shows)
        assert stand.calls(BALANCE, "0x1") == 0, "shown once"
        stand.look()
        assert stand.calls(BALANCE, "0x1") == 1


def test_another_block_at_the_same_height_ends_the_epoch() -> None:
    stand = Stand()
    stand.body(BALANCE, "0x1")
    stand.node.chain[-1] = Block(9, "0x" + "ee" * 32)
    stand.body("eth_getBlockByNumber", "latest", False)
    assert stand.calls(BALANCE, "0x1") == 1


def test_an_answer_fetched_while_the_head_moved_is_not_kept() -> None:
    stand = Stand()
    old = stand.node.body(Request(BALANCE, b'["0x1"]', b"1"))

    async def late(request: Request, context: Context) -> NodeReply:
        stand.node.mine()
        stand.look()
        return NodeReply(old)

    at_once(stand.cache(Request(BALANCE, b'["0x1"]', b"1"), Context(ANONYMOUS), late))
    assert stand.calls(BALANCE, "0x1") == 1


@pytest.mark.parametrize(
    "method", ["anvil_setBalance", "evm_revert", "evm_mine", "hardhat_reset", "debug_setHead", "x_y"]
)
def test_a_developers_call_flushes(method: str) -> None:
    stand = Stand()
    for call in (*LASTING, *WITH_HEAD):
        stand.body(*call)
    stand.body(method)
    stand.node.poked = "yes"
    assert [stand.calls(*call) for call in (*LASTING, *WITH_HEAD)] == [1] * (len(LASTING) + len(WITH_HEAD))


@pytest.mark.parametrize(
    ("method", "handled"),
    [
        ("eth_call", True),
        ("eth_blockNumber", True),
        ("eth_sendRawTransactionSync", True),
        ("eth_sendTransaction", True),
        ("l2_invoke", True),
        ("anvil_mine", True),
        ("hostile_flush", False),  # refused behind, so it may not flush here
        ("debug_setHead", False),
        ("eth_estimateGas", False),
        ("debug_traceCall", False),
        ("l2_getState", False),
    ],
)
def test_whom_it_stands_before(method: str, handled: bool) -> None:
    assert Stand().cache.handles(method) is handled


def test_on_a_throwaway_chain_nothing_holds_longer_than_a_moment_and_a_send_flushes() -> None:
    stand = Stand()
    stand.stand(throwaway=True)
    for call in LASTING:
        assert stand.twice(*call) == 1
        stand.now += HELD
        assert stand.calls(*call) == 1
    for send in ("eth_sendRawTransaction", "eth_sendTransaction", "l2_invoke"):
        assert stand.twice(BALANCE, send) == 1
        stand.body(send)
        assert stand.calls(BALANCE, send) == 1


def test_auto_is_off_on_a_throwaway_chain_and_on_elsewhere() -> None:
    stand = Stand(enabled="auto")
    assert stand.twice(BALANCE, "0x1") == 1
    stand.stand(throwaway=True)
    assert stand.twice(BALANCE, "0x1") == 2
    stand.stand()
    assert stand.calls(BALANCE, "0x1") == 0


def test_without_a_node_nothing_is_answered_from_memory() -> None:
    stand = Stand()
    stand.body("eth_chainId")
    stand.stand(reachable=False)
    assert stand.twice("eth_chainId") == 2


@pytest.mark.parametrize(
    ("versions", "chain_id", "throwaway"),
    [
        (["anvil/v1.4.4"], 1, True),  # a fork of the main chain
        (["HardhatNetwork/2.22"], 31338, True),
        (["Geth/v1.16.7", "Ganache/v7"], 5, True),
        (["l2proxy/1 eth-tester/0.13"], 7, True),
        (["Geth/v1.16.7"], 1337, True),
        (["Geth/v1.16.7", ""], 1, False),
        ([], 1, False),
    ],
)
def test_what_a_throwaway_chain_is(versions: list[str], chain_id: int, throwaway: bool) -> None:
    assert is_throwaway(versions, chain_id) is throwaway


def test_bytes_are_bounded_and_the_least_used_goes_first() -> None:
    stand = Stand(most_bytes=16_000)
    for number in range(100):
        stand.body(BALANCE, hex(number), "0x1")
        stand.body(BALANCE, "0x0", "0x1")
    figures = stand.cache.figures
    assert 0 < figures.bytes <= 16_000
    assert figures.evictions == figures.stores - figures.entries > 50
    assert stand.calls(BALANCE, "0x0", "0x1") == 0
    assert stand.calls(BALANCE, "0x1", "0x1") == 1
    stand.node.body = lambda request: b'{"jsonrpc":"2.0","id":1,"result":"0x%b"}' % (b"0" * 2000)  # type: ignore[method-assign]
    assert stand.twice(BALANCE, "0x55555", "0x1") == 2, "one answer takes a sixteenth at most"


def test_one_asker_renews_what_ends_soon_and_the_others_do_not_wait() -> None:
    stand = Stand()
    assert stand.twice(BALANCE, "0x1") == 1
    stand.now += RENEWED
    assert stand.calls(BALANCE, "0x1") == 1
    assert stand.calls(BALANCE, "0x1") == 0
    stand.now += RENEWED - 0.01
    assert stand.calls(BALANCE, "0x1") == 0, "it is a new one"

    async def never(request: Request, context: Context) -> NodeReply:
        return NodeReply(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"busy"}}')

    stand.now += 0.01
    at_once(stand.cache(Request(BALANCE, b'["0x1"]', b"1"), Context(ANONYMOUS), never))
    assert stand.calls(BALANCE, "0x1") == 0, "the old one holds to its end"
    stand.now += HELD - RENEWED
    assert stand.calls(BALANCE, "0x1") == 1


def test_a_large_answer_and_our_own_are_passed_on() -> None:
    stand = Stand()
    for answer in (Result(b"1"), LargeReply(open("/dev/null", "rb"), 0)):  # noqa: SIM115  closed below

        async def node(request: Request, context: Context, answer: Any = answer) -> Any:
            return answer

        for _ in range(2):
            assert at_once(stand.cache(Request(BALANCE, b"[]", b"1"), Context(ANONYMOUS), node)) is answer
        if isinstance(answer, LargeReply):
            answer.close()


def test_a_notification_is_passed_on() -> None:
    stand = Stand()
    assert stand.calls(BALANCE, "0x1", raw_id=None) + stand.calls(BALANCE, "0x1", raw_id=None) == 2


ASKED: Any = st.sampled_from(
    [
        *LASTING,
        *WITH_HEAD,
        (BALANCE, "0x1", "0xb"),
        ("eth_call", {}, {"blockHash": Node().chain[0].hash}),
        ("eth_call", {}, "latest", {"0x1": {}}),
        ("eth_blockNumber",),
        ("eth_getTransactionReceipt", "0xb"),
        ("eth_getBlockByNumber", "latest", False),
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("mine"), st.sampled_from("abc"), st.integers(1, 2)),
    st.tuples(st.just("reorg"), st.integers(1, 4), st.sampled_from("abc")),
    st.tuples(st.just("look")),
    st.tuples(st.just("finalize")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("poke"), st.sampled_from("xy")),
    st.tuples(st.just("ask"), ASKED, st.sampled_from([PAGE, ANONYMOUS])),
    st.tuples(st.just("ask hash"), st.integers(0, 12)),
)


def change(stand: Stand, step: Any) -> bool:
    """Let something happen; tell whether the proxy knows that it did."""
    node = stand.node
    match step:
        case ("mine", branch, blocks):
            node.mine(branch, blocks)
            return False
        case ("reorg", depth, branch):
            node.reorg(depth, branch)
            return False
        case ("finalize",):
            node.final = max(node.final, len(node.chain) - 3)
        case ("wait",):
            stand.now += HELD
            return False
        case ("poke", value):
            stand.body("anvil_setStorageAt")
            node.poked = value
            return True
    stand.look()
    return True


@given(st.lists(STEPS, max_size=60))
def test_an_answer_is_the_nodes_own_since_the_chain_was_last_seen(steps: list[Any]) -> None:
    """Whatever happens to the chain: an answer is one the node itself would have given since the tracker last looked."""
    stand = Stand()
    node = stand.node
    believable: list[Callable[[Request], bytes]] = [Node(list(node.chain), node.final).body]
    for step in steps:
        if step[0] in ("ask", "ask hash"):
            by_hash = {"blockHash": node.chain[min(step[1], len(node.chain) - 1)].hash} if step[0] == "ask hash" else {}
            (method, *params), origin = (
                (step[1], step[2]) if step[0] == "ask" else (("eth_call", {}, by_hash), ANONYMOUS)
            )
            request = Request(method, json.dumps(params).encode(), b"5")
            assert stand.raw(request, origin) in [body(request) for body in believable]
        else:
            known = change(stand, step)
            now = Node(list(node.chain), node.final, node.poked).body
            believable = [now] if known else [*believable, now]
