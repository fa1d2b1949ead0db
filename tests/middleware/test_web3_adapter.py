"""Existing web3.py middlewares take effect, and leave no trace where they have nothing to say."""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from middleware.chain import Chain
from middleware.errors import Disconnected, InvalidParams, LimitExceeded, RpcError, Unsupported
from middleware.loading import BadEntry
from middleware.waist import ANONYMOUS, Answer, Context, Next, NodeReply, Request, result
from middleware.web3_adapter import configured_links

HERE = "tests.middleware.entries"
CONTEXT = Context(ANONYMOUS)


@dataclass
class Entry:
    """As the config has it."""

    use: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Node:
    """Answers as a node would; remembers what reached it."""

    seen: list[Request] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def __call__(self, request: Request, context: Context) -> Answer:
        self.seen.append(request)
        if self.gate is not None:
            await self.gate.wait()
        raw_id = request.id or b"null"
        match request.method:
            case "eth_chainId":
                return NodeReply(b'{"jsonrpc":"2.0","id":' + raw_id + b',"result":"0x7a69"}')
            case "eth_getBlockByNumber":
                block = b'{ "number":"0x12", "extraData" : "0x0102","size":12345678901234567890123}'
                return NodeReply(b'{"id":' + raw_id + b' ,"result":' + block + b"}")
            case "eth_fails":
                return NodeReply(b'{"id":' + raw_id + b', "error":{"code":3,"message":"reverted","data":"0x01"}}')
            case "eth_refused":
                raise Unsupported("eth_refused")
        return NodeReply(b'{"id":' + raw_id + b',"result":' + (request.params or b"null") + b"}")


def chain(node: Node, *uses: str | Entry) -> Chain:
    return Chain([], node, configured_links([Entry(use) if isinstance(use, str) else use for use in uses]))


async def ask(made: Chain, method: str, params: bytes = b"[]") -> Answer:
    return await made(Request(method, params, b"1"), CONTEXT)


def body(answer: Answer) -> Any:
    return json.loads(answer.body)["result"] if isinstance(answer, NodeReply) else json.loads(answer.json)


async def test_the_poa_middleware_of_web3() -> None:
    node = Node()
    made = chain(node, "web3.middleware:ExtraDataToPOAMiddleware")
    block = body(await ask(made, "eth_getBlockByNumber", b'["latest", false]'))
    assert block == {"number": "0x12", "proofOfAuthorityData": "0x0102", "size": 12345678901234567890123}
    assert node.seen[-1].params == b'["latest", false]', "unchanged params go on as the bytes they were"
    untouched = await ask(made, "eth_chainId")
    assert untouched == NodeReply(b'{"jsonrpc":"2.0","id":1,"result":"0x7a69"}')


async def test_a_middleware_that_changes_nothing_leaves_the_nodes_bytes() -> None:
    direct = await ask(chain(Node()), "eth_getBlockByNumber", b'[ "latest",1.50 ]')
    node = Node()
    for use in ("web3.middleware:AttributeDictMiddleware", "web3.middleware:PythonicMiddleware", f"{HERE}:AsyncLatest"):
        assert await ask(chain(node, use), "eth_getBlockByNumber", b'[ "latest",1.50 ]') == direct, use
        assert node.seen[-1].params == b'[ "latest",1.50 ]'
    assert await ask(chain(node, "web3.middleware:AttributeDictMiddleware"), "eth_fails") == await node(
        Request("eth_fails", b"", b"1"), CONTEXT
    )


async def test_a_synchronous_middleware_runs_beside_the_loop() -> None:
    block = body(await ask(chain(Node(), f"{HERE}:SyncTag"), "eth_getBlockByNumber"))
    assert block["tag"] == "l2proxy-link"


@pytest.mark.parametrize(
    "params",
    [
        b'[{"to":"0xaa","to":"0xbb"}, "latest"]',
        b'[{"to":"0xaa","To":"0xbb"}, "latest"]',
        b'[{"to":"0xaa","\\u0074o":"0xaa"}, "latest"]',
        '[{"keys":1,"\u212aeys":2}]'.encode(),
    ],
)
@pytest.mark.parametrize("use", [f"{HERE}:AsyncLatest", f"{HERE}:SyncTag"])
async def test_params_a_node_may_read_otherwise_are_refused_where_a_middleware_reads_them(
    params: bytes, use: str
) -> None:
    node = Node()
    with pytest.raises(InvalidParams, match="params"):
        await ask(chain(node, use), "eth_call", params)
    assert node.seen == []
    assert body(await ask(chain(node), "eth_call", params)) == json.loads(params), "as ever without one"


async def test_changed_params_reach_the_node_in_wire_form() -> None:
    node = Node()
    await ask(chain(node, f"{HERE}:AsyncLatest"), "eth_getBalance", b'["0x1", "newest"]')
    assert node.seen[-1] == Request("eth_getBalance", b'["0x1","latest"]', b"1")


async def test_the_whole_synchronous_flavour() -> None:
    node = Node()
    assert body(await ask(chain(node, f"{HERE}:SyncWrap"), "eth_call", b"[7]")) == ["0x7a69", [7]]
    assert [request.method for request in node.seen] == ["eth_call", "eth_chainId", "eth_call"]


@pytest.mark.parametrize("use", [f"{HERE}:SyncW3", f"{HERE}:AsyncW3"])
async def test_w3_reaches_the_node_through_the_chain(use: str) -> None:
    asked: list[str] = []

    class Permission:
        def handles(self, method: str) -> bool:
            return True

        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            asked.append(f"{request.method} by {context.origin}")
            return await next(request, context)

    made = Chain([Permission()], Node(), configured_links([Entry(use)]))
    assert body(await ask(made, "eth_call", b"[1]")) == [{"gas": "0x7a69"}, 1]
    assert asked == ["eth_chainId by anonymous", "eth_call by anonymous"]


@pytest.mark.parametrize("use", [f"{HERE}:SyncW3", f"{HERE}:SyncWrap"])
async def test_many_synchronous_calls_at_once_do_not_starve_each_other(use: str) -> None:
    made = chain(Node(), use, f"{HERE}:SyncTag", use)
    async with asyncio.timeout(100):
        answers = await asyncio.gather(*(ask(made, "eth_call", b"[%d]" % number) for number in range(150)))
    assert len({json.dumps(body(answer)) for answer in answers}) == 150


async def test_the_first_entry_is_outermost() -> None:
    made = chain(Node(), Entry(f"{HERE}:Builder", {"added": "-outer"}), Entry(f"{HERE}:Builder", {"added": "-inner"}))
    assert body(await ask(made, "eth_chainId")) == "0x7a69-inner-outer"


async def test_a_changed_method_goes_through_its_own_chain() -> None:
    node, seen = Node(), []

    class Permission:
        def handles(self, method: str) -> bool:
            return method == "eth_sendTransaction"

        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            seen.append(request.method)
            raise RpcError(4100, "asked")

    made = Chain([Permission()], node, configured_links([Entry(f"{HERE}:ChangesMethod")]))
    with pytest.raises(RpcError, match="asked"):
        await ask(made, "eth_call")
    assert (seen, node.seen) == (["eth_sendTransaction"], [])


async def test_errors_keep_code_message_and_data() -> None:
    made = chain(Node(), f"{HERE}:SyncTag")
    assert isinstance(await ask(made, "eth_fails"), NodeReply)
    with pytest.raises(Unsupported):
        await ask(made, "eth_refused")
    assert body(await ask(chain(Node(), f"{HERE}:ForgivesErrors"), "eth_refused")) == "0x"


async def test_a_broken_middleware_breaks_the_call() -> None:
    with pytest.raises(ValueError, match="secret"):
        await ask(chain(Node(), f"{HERE}:Breaks"), "eth_call")


async def test_ours_and_signers_never_reach_a_middleware() -> None:
    node = Node()
    made = chain(node, f"{HERE}:Breaks", f"{HERE}:SyncTag", f"{HERE}:own_function")
    for method in ("eth_sendTransaction", "personal_sign", "l2_invoke", "eth_sign", "eth_accounts"):
        assert isinstance(await ask(made, method), NodeReply)
    assert isinstance(await ask(chain(node, Entry(f"{HERE}:OwnLink", {"answer": "x"})), "eth_chainId"), NodeReply)


async def test_links_of_our_own_by_the_same_key() -> None:
    assert body(await ask(chain(Node(), Entry(f"{HERE}:OwnLink", {"answer": "mine"})), "eth_call")) == "mine"
    assert body(await ask(chain(Node(), f"{HERE}:own_function"), "eth_call")) == "from a function"


async def test_an_asker_that_leaves_ends_what_a_thread_waits_for() -> None:
    node = Node(gate=asyncio.Event())
    asked = asyncio.create_task(ask(chain(node, f"{HERE}:SyncWrap"), "eth_call"))
    async with asyncio.timeout(60):
        while not node.seen:  # noqa: ASYNC110  the thread starts in its own time
            await asyncio.sleep(0.005)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert len(node.seen) == 1


@pytest.mark.parametrize(
    ("use", "args", "said"),
    [
        ("web3.middleware", {}, "module:name"),
        ("web3.middleware:", {}, "module:name"),
        ("../evil:x", {}, "module:name"),
        ("no_such_module_here:X", {}, "there is no module no_such_module_here"),
        ("web3.middleware:Nothing", {}, "has no Nothing"),
        ("web3.middleware:ExtraDataToPOAMiddleware", {"wrong": 1}, "cannot be made with these args"),
        ("web3.middleware:StalecheckMiddlewareBuilder", {}, "cannot be made|not a web3.py middleware"),
        (f"{HERE}:OwnLink", {}, "cannot be made with these args"),
        (f"{HERE}:own_function", {"x": 1}, "takes no args"),
        (f"{HERE}:NOT_A_LINK", {}, "neither"),
        (f"{HERE}:NotALink", {}, "neither"),
    ],
)
def test_an_entry_that_cannot_be_used_is_one_sentence(use: str, args: dict[str, Any], said: str) -> None:
    with pytest.raises(BadEntry, match=said) as bad:
        configured_links([Entry(use, args)])
    assert use in str(bad.value)
    assert "\n" not in str(bad.value)


async def test_web3s_own_middlewares_can_all_be_chained() -> None:
    uses = [
        *("AttributeDictMiddleware", "BufferedGasEstimateMiddleware", "ENSNameToAddressMiddleware"),
        *("ExtraDataToPOAMiddleware", "GasPriceStrategyMiddleware", "PythonicMiddleware", "ValidationMiddleware"),
    ]
    made = chain(Node(), *(f"web3.middleware:{use}" for use in uses))
    assert body(await ask(made, "eth_chainId")) == "0x7a69"


@pytest.mark.parametrize(("age", "fresh"), [(5, True), (500, False)])
async def test_web3s_stale_check_asks_the_node_through_the_chain(
    age: int, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # else the block grows older between its making and its reading

    async def node(request: Request, context: Context) -> Answer:
        return result(
            {"number": "0x1", "timestamp": hex(int(now) - age)} if request.method == "eth_getBlockByNumber" else "0x1"
        )

    entry = Entry("web3.middleware:StalecheckMiddlewareBuilder", {"allowable_delay": 60})
    made = Chain([], node, configured_links([entry]))
    if fresh:
        assert body(await ask(made, "eth_gasPrice")) == "0x1"
    else:
        with pytest.raises(Disconnected, match=r"the L1 node is behind.* 500\.\d+ seconds old"):
            await ask(made, "eth_gasPrice")
        assert body(await ask(made, "eth_getBlockByNumber"))["number"] == "0x1", "what it skips keeps the raw path"


async def test_web3s_validation_refuses_what_is_for_another_chain() -> None:
    node = Node()
    made = chain(node, "web3.middleware:ValidationMiddleware")
    assert body(await ask(made, "eth_call", b'[{"chainId": "0x7a69", "to": "0x01"}, "latest"]'))[1] == "latest"
    with pytest.raises(RpcError, match="chain ID 1") as refused:
        await ask(made, "eth_call", b'[{"chainId":"0x1"},"latest"]')
    assert refused.value.code == -32602
    assert [request.method for request in node.seen].count("eth_call") == 1, "the node never saw the second"
    node.seen.clear()
    raw = b'[ "0x1" , 1.50 ]'
    assert await ask(made, "eth_getBalance", raw) == NodeReply(b'{"id":1,"result":' + raw + b"}")
    assert len(node.seen) == 1, "a method it has nothing to say about costs no question"


async def test_the_three_of_the_annotated_config_together() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "configs" / "middleware.toml").read_text())
    entries = [Entry(entry["use"], entry.get("args", {})) for entry in settings["middleware"]]

    async def node(request: Request, context: Context) -> Answer:
        if request.method == "eth_getBlockByNumber":
            seal = "0x" + "5e" * 97
            return result(
                {"number": "0x7", "timestamp": hex(int(time.time())), "extraData": seal, "raw": request.params.decode()}
            )
        return result(["0x7a69", request.params.decode()] if request.method == "eth_call" else "0x7a69")

    made = Chain([], node, configured_links(entries))
    block = body(await ask(made, "eth_getBlockByNumber", b'["latest",false]'))
    assert "extraData" not in block
    assert block["proofOfAuthorityData"] == "0x" + "5e" * 97
    assert body(await ask(made, "eth_call", b'[{"chainId":"0x7a69","data":"0x"},"latest"]')) == [
        "0x7a69",
        '[{"data":"0x"},"latest"]',
    ]
    with pytest.raises(RpcError, match="chain ID 5"):
        await ask(made, "eth_call", b'[{"chainId":"0x5"},"latest"]')


async def deep(request: Request, context: Context, calls: int = 20_000) -> Answer:
    nested = b'{"calls":[' * calls + b"]}" * calls
    return NodeReply(b'{"jsonrpc":"2.0","id":1,"result":' + nested + b"}")


@pytest.mark.parametrize("use", [f"{HERE}:SyncTag", f"{HERE}:AsyncW3"])
async def test_an_answer_nested_too_deeply_is_a_clear_error(use: str) -> None:
    made = Chain([], deep, configured_links([Entry(use)]))
    with pytest.raises(LimitExceeded, match=f"eth_simulateV1 is nested too deeply .* {use}") as refused:
        await ask(made, "eth_simulateV1")
    assert refused.value.data == {"limit": "nesting"}


async def test_a_deep_trace_can_be_shown_to_a_middleware() -> None:
    async def node(request: Request, context: Context) -> Answer:
        return await deep(request, context, 100)  # with Python's own recursion limit, which the daemon keeps

    made = Chain([], node, configured_links([Entry(f"{HERE}:SyncTag")]))
    assert b'"tag"' in (await ask(made, "eth_simulateV1")).json  # type: ignore[union-attr]


@pytest.mark.parametrize("use", ["web3.middleware:ExtraDataToPOAMiddleware", "web3.middleware:AttributeDictMiddleware"])
async def test_an_answer_no_middleware_touches_may_be_of_any_depth(use: str) -> None:
    made = Chain([], deep, configured_links([Entry(use)]))
    assert await ask(made, "eth_simulateV1") == await deep(Request("x"), CONTEXT)


async def test_a_middleware_that_says_its_methods_is_kept_from_all_others() -> None:
    made = configured_links([Entry(f"{HERE}:Declared")])[0]
    assert [method for method in ("eth_call", "eth_getBalance", "eth_chainId") if made.handles(method)] == ["eth_call"]


@pytest.mark.parametrize(
    ("use", "args", "acts_on"),
    [
        ("ExtraDataToPOAMiddleware", {}, {"eth_getBlockByHash", "eth_getBlockByNumber"}),
        ("ValidationMiddleware", {}, {"eth_call", "eth_estimateGas", "eth_getBlockByHash", "eth_getBlockByNumber"}),
        ("AttributeDictMiddleware", {}, set()),
        ("BufferedGasEstimateMiddleware", {}, set()),
        ("GasPriceStrategyMiddleware", {}, set()),
        ("LocalFilterMiddleware", {}, set()),
        ("SignAndSendRawMiddlewareBuilder", {"private_key_or_account": "0x" + "11" * 32}, set()),
        (
            "StalecheckMiddlewareBuilder",
            {"allowable_delay": 60},
            {"eth_call", "eth_estimateGas", "eth_getBlockByHash", "eth_chainId", "debug_traceCall"},
        ),
    ],
)
def test_which_methods_web3s_own_act_on(
    use: str, args: dict[str, Any], acts_on: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    [link] = configured_links([Entry(f"web3.middleware:{use}", args)])
    asked = {
        *("eth_call", "eth_estimateGas", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_chainId"),
        *("debug_traceCall", "eth_sendTransaction", "eth_newFilter", "personal_sign"),
    }
    assert {method for method in asked if link.handles(method)} == acts_on
    assert ("never acts behind this proxy" in caplog.text) == (not acts_on), "the owner is told what is in vain"
