"""Log ranges: what a node refuses is asked in parts, and the joined answer is the one an unlimited node would give."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware import log_ranges
from middleware.errors import Disconnected, RpcError
from middleware.log_ranges import LogRanges
from middleware.log_refusals import Refusal, refusal
from middleware.log_splice import IN_MEMORY
from middleware.waist import ANONYMOUS, Answer, Context, LargeReply, NodeReply, Request

CONTEXT = Context(ANONYMOUS)
TOO_MANY = (-32005, "query returned more than {results} results")
TOO_WIDE = (-32602, "query exceeds max block range {blocks}")


class LogNode:
    """A node with `logs[n]` logs in block n, that refuses more than `blocks` blocks or `results` logs at once."""

    def __init__(self, logs: list[int], *, blocks: int = 10**9, results: int = 10**9, size: int = 0) -> None:
        self.logs, self.blocks, self.results = logs, blocks, results
        self.branch = "a"
        self.padding = "x" * size
        self.asked: list[tuple[int, int]] = []
        self.too_wide, self.too_many = TOO_WIDE, TOO_MANY
        self.before: Callable[[tuple[int, int]], Any] = lambda asked: None

    @property
    def head(self) -> int:
        return len(self.logs) - 1

    def number(self, named: str) -> int:
        tags = {"latest": self.head, "finalized": self.head // 2, "safe": self.head // 2, "earliest": 0}
        return tags[named] if named in tags else int(named, 16)

    def hash(self, number: int) -> str:
        return f"0x{self.branch}{number}"

    async def call(self, method: str, *params: Any) -> Any:
        assert (method, params[1]) == ("eth_getBlockByNumber", False)
        number = self.number(params[0])
        return {"number": hex(number), "hash": self.hash(number)} if number <= self.head else None

    def entries(self, first: int, last: int) -> list[bytes]:
        return [
            b'{ "blockNumber":"0x%x", "logIndex":"0x%x","blockHash":"%b%b"}'
            % (number, index, self.hash(number).encode(), self.padding.encode())
            for number in range(first, min(last, self.head) + 1)
            for index in range(self.logs[number])
        ]

    async def forward(self, request: Request, context: Context) -> Answer:
        asked = json.loads(request.params)[0]
        first, last = (self.number(asked.get(end, "latest")) for end in ("fromBlock", "toBlock"))
        self.asked.append((first, last))
        self.before((first, last))
        found = self.entries(first, last)
        refused = (
            self.too_wide if last - first + 1 > self.blocks else self.too_many if len(found) > self.results else None
        )
        if refused is None:
            return NodeReply(b'{"jsonrpc":"2.0","id":%b,"result":[%b]}' % (request.id or b"null", b",".join(found)))
        message = refused[1].format(blocks=self.blocks, results=self.results)
        return NodeReply(error(request.id or b"null", refused[0], message))


def error(raw_id: bytes, code: int, message: str, data: Any = None) -> bytes:
    body = {"code": code, "message": message} | ({"data": data} if data is not None else {})
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (raw_id, json.dumps(body).encode())


def link(node: LogNode, most_bytes: int = 1 << 28) -> LogRanges:
    return LogRanges(node.call, tempfile.TemporaryFile, most_bytes)


def query(first: str | None, last: str | None, raw_id: bytes | None = b"7", **more: Any) -> Request:
    ends = {"fromBlock": first, "toBlock": last}
    asked = {name: end for name, end in ends.items() if end is not None} | more
    return Request("eth_getLogs", json.dumps([asked]).encode(), raw_id)


async def body(ranges: LogRanges, node: LogNode, request: Request) -> bytes:
    answer = await ranges(request, CONTEXT, node.forward)
    assert isinstance(answer, NodeReply)
    return answer.body


def whole(node: LogNode, first: int, last: int, raw_id: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":[%b]}' % (raw_id, b",".join(node.entries(first, last)))


@given(
    logs=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    blocks=st.integers(1, 40),
    results=st.integers(3, 30),
    ends=st.tuples(st.integers(0, 59), st.integers(0, 70)),
    wide=st.sampled_from(
        [TOO_WIDE, (-32000, "range too large"), (-32614, "eth_getLogs is limited to a {blocks} range")]
    ),
)
async def test_joined_it_is_what_an_unlimited_node_answers(
    logs: list[int], blocks: int, results: int, ends: tuple[int, int], wide: tuple[int, str]
) -> None:
    node = LogNode(logs, blocks=blocks, results=results)
    node.too_wide = wide
    first, last = ends
    if first >= node.head or last < first:
        return
    assert await body(link(node), node, query(hex(first), hex(last))) == whole(node, first, last)
    assert all(asked[1] <= node.head for asked in node.asked[1:]), "never above the newest block"


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [
        ("earliest", "latest", (0, 39)),
        ("0x3", None, (3, 39)),
        ("0x3", "finalized", (3, 19)),
        ("safe", "latest", (19, 39)),
        ("0x3", "0xffff", (3, 39)),
    ],
)
async def test_tags_are_resolved(first: str, last: str | None, numbers: tuple[int, int]) -> None:
    node = LogNode([1] * 40, blocks=10)
    ranges = link(node)
    assert await body(ranges, node, query(first, last)) == whole(node, *numbers)
    assert (ranges.figures.splits, ranges.figures.given_up) == (1, 0)
    assert ranges.figures.parts == len(node.asked) - 1


async def test_addresses_and_topics_go_on_as_they_were_written() -> None:
    seen: list[bytes] = []
    node = LogNode([1] * 20, blocks=10)

    async def forward(request: Request, context: Context) -> Answer:
        seen.append(request.params)
        return await node.forward(request, context)

    params = b'[ {"topics": [ null,["0xAb"] ], "fromBlock":"0x0", "address" :"0xCd","toBlock":"0xf"} ]'
    await link(node)(Request("eth_getLogs", params, b"1"), CONTEXT, forward)
    assert seen[0] == params
    assert sorted(seen[1:]) == [
        b'[{"address":"0xCd","topics":[ null,["0xAb"] ],"fromBlock":"0x0","toBlock":"0x9"}]',
        b'[{"address":"0xCd","topics":[ null,["0xAb"] ],"fromBlock":"0xa","toBlock":"0xf"}]',
    ]


@pytest.mark.parametrize(
    "request_",
    [
        Request("eth_getLogs", b'[{"blockHash":"0x%b"}]' % (b"11" * 32), b"1"),
        query("0x0", "pending"),
        query("0x5", "0x5"),
        query(None, None),
        query("0x0", "0x9", unknown=1),
        Request("eth_getLogs", b'[{"fromBlock":"0x0","fromBlock":"0x1"}]', b"1"),
        Request("eth_getLogs", b'[{"fromBlock":0,"toBlock":9}]', b"1"),
        Request("eth_getLogs", b"{}", b"1"),
        query("0x0", "0x9", None),
    ],
)
async def test_what_cannot_be_split_gets_the_nodes_error(request_: Request) -> None:
    node = LogNode([5] * 10)
    asked: list[Request] = []
    refused = NodeReply(error(b"1", *TOO_WIDE))

    async def forward(request: Request, context: Context) -> Answer:
        asked.append(request)
        return refused

    assert await link(node)(request_, CONTEXT, forward) is refused
    assert asked == [request_]


async def test_a_single_block_too_large_is_the_nodes_error_to_the_callers_request() -> None:
    node = LogNode([1, 1, 1, 9, 1, 1, 1, 1], results=5)
    ranges = link(node)
    assert await body(ranges, node, query("0x0", "0x7", b'"me"')) == error(
        b'"me"', -32005, "query returned more than 5 results"
    )
    assert ranges.figures.given_up == 1
    assert len(node.asked) < 12


async def test_another_error_is_not_touched() -> None:
    node = LogNode([1] * 9, blocks=5)
    node.too_wide = (-32000, "block range extends beyond current head block")
    assert await body(link(node), node, query("0x0", "0x8")) == error(b"7", *node.too_wide)
    assert len(node.asked) == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("failure", [Disconnected("gone"), error(b"1", -32000, "internal error")])
async def test_a_failed_part_is_asked_once_more(times: int, failure: RpcError | bytes) -> None:
    node = LogNode([1] * 40, blocks=10)
    fail = [(10, 19)] * times

    async def forward(request: Request, context: Context) -> Answer:
        answer = await node.forward(request, context)
        if node.asked[-1] in fail:
            fail.pop()
            if isinstance(failure, RpcError):
                raise failure
            return NodeReply(failure)
        return answer

    answer = await link(node)(query("0x0", "0x27"), CONTEXT, forward)
    assert isinstance(answer, NodeReply)
    assert (answer.body == whole(node, 0, 39)) is (times == 1)
    assert (b'"error"' in answer.body) is (times == 2)


@pytest.mark.parametrize(("reorgs", "answered"), [(1, True), (2, True), (3, False)])
async def test_a_reorg_between_the_parts_begins_again(reorgs: int, answered: bool) -> None:
    node = LogNode([1] * 40, blocks=10)
    left = list("bcd"[:reorgs])

    def reorg(asked: tuple[int, int]) -> None:
        if left and asked == (20, 29):
            node.branch = left.pop(0)
            node.logs[-1] = 2

    node.before = reorg
    got = await body(link(node), node, query("0x0", "latest"))
    assert (got == whole(node, 0, 39)) is answered
    assert answered or got == error(b"7", -32602, "query exceeds max block range 10")


async def test_a_chain_that_became_shorter_begins_again() -> None:
    node = LogNode([1] * 40, blocks=10)

    def shorten(asked: tuple[int, int]) -> None:
        if asked == (20, 29) and node.branch == "a":
            node.branch = "b"
            del node.logs[35:]

    node.before = shorten
    assert await body(link(node), node, query("0x0", "0x27")) == whole(node, 0, 34)


async def test_few_at_once_and_not_without_end() -> None:
    node = LogNode([1] * 5000, blocks=1)
    assert b'"error"' in await body(link(node), node, query("0x0", "latest"))
    assert len(node.asked) == 1, "more parts than may be asked: not even begun"
    node.blocks, node.results = 10**9, 2
    assert b'"error"' in await body(link(node), node, query("0x0", "latest"))
    assert len(node.asked) <= log_ranges.MOST_ASKED + 2


async def test_a_large_answer_is_in_a_file_and_one_beyond_the_limit_is_not_given() -> None:
    node = LogNode([1] * 40, blocks=10, size=200_000)
    answer = await link(node)(query("0x0", "0x27"), CONTEXT, node.forward)
    assert isinstance(answer, LargeReply)
    assert answer.length > IN_MEMORY
    assert answer.read().body == whole(node, 0, 39)
    assert b'"error"' in await body(link(node, 1_000_000), node, query("0x0", "0x27"))


async def test_a_disk_that_takes_nothing_leaves_the_nodes_own_error() -> None:
    node = LogNode([1] * 40, blocks=10, size=200_000)

    def full() -> BinaryIO:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert b'"error"' in await body(LogRanges(node.call, full, 1 << 28), node, query("0x0", "0x27"))


async def test_a_part_may_be_in_a_file() -> None:
    node = LogNode([1] * 20, blocks=10)

    async def forward(request: Request, context: Context) -> Answer:
        answer = await node.forward(request, context)
        if not isinstance(answer, NodeReply) or b'"error"' in answer.body:
            return answer
        file = tempfile.TemporaryFile()  # noqa: SIM115  the link closes it
        file.write(answer.body)
        file.flush()
        return LargeReply(file, len(answer.body))

    answer = await link(node)(query("0x0", "0x13"), CONTEXT, forward)
    assert isinstance(answer, NodeReply)
    assert answer.body == whole(node, 0, 19)


REFUSALS: list[tuple[int, str, Any, int | None]] = [
    (-32005, "query returned more than 10000 results", None, None),
    (-32005, "query returned more than 10000 results. Try with this block range [0x10, 0x1f].", None, 16),
    (-32005, "query returned more than 10000 results", {"from": "0x10", "to": "0x13", "limit": 10000}, 4),
    (-32602, "range 25887126 - 25897126 exceeds limit of 10000", None, 10_000),
    (-32602, "invalid params", {"payload": "range 9009594 is bigger than range limit 2000"}, 2000),
    (
        -32602,
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [0x0, 0x3e7]",
        None,
        1000,
    ),
    (-32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.", None, 10),
    (-32614, "eth_getLogs is limited to a 10,000 range", None, 10_000),
    (-32602, "eth_getLogs is limited to 0 - 50 blocks range", None, 50),
    (-32062, "Block range is too large", None, None),
    (-32000, "block range is too wide (maximum 1024)", None, 1024),
    (-32701, "exceed maximum block range: 50000", None, 50_000),
    (35, "ranges over 10000 blocks are not supported on freetier", None, 10_000),
    (-32602, "query exceeds max block range 100000", None, 100_000),
    (-32602, "query exceeds max results 20000, retry with the range 21102592-21102595", None, 4),
    (-32005, "Too many logs requested. Max logs per response is 20000.", None, None),
    (-32005, "Requested range exceeds maximum RPC range limit", None, None),
    (-32000, "Block range limit exceeded. See more details at https://docs.example", None, None),
    (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800", None, 800),
    (-32000, "logs are limited to a 10000 block range", None, 10_000),
    (-32000, "the block range between from and to must be less than 5000", None, 5_000),
    (-32000, "at most 500 blocks per query", None, None),
    (-32000, "GetLogs query must be smaller than size 1024", None, 1024),
    (-32602, "log query range must be within 1000 blocks", None, 1000),
    (-32000, "query could not be answered within 10 seconds, narrow the range", None, None),
    (-32000, "log query restricted to 100 blocks", None, 100),
    (-32000, "narrow your block range: only 100 blocks allowed", None, 100),
    (-32000, "query spans 5000 blocks but only 1000 are allowed", None, 1000),
    (-32602, "block range should not exceed 5000", None, 5000),
    (-32602, "block range: toBlock - fromBlock must be <= 1000", None, 1000),
    (-32005, "query timeout exceeded", None, None),
    (-32005, "limit exceeded", None, None),
    (-32614, "eth_getLogs is limited to a 10,000 range and 5 addresses", None, 10_000),
    (-32000, "Query returned more than 10000 results. Please narrow your filter by address or topics.", None, None),
    (-32005, "Request exceeds the allowed 10k range", None, 10_000),
    (-32000, "query range is too large; reduce it below 3500 blocks", None, 3500),
    (-32600, "exceeds the range allowed for your plan (100001 > 10000)", None, 10_000),
    (-32000, "block range exceeds limit: 100000 > 50000", None, 50_000),
    (-32000, "context deadline exceeded", None, None),
    (-32002, "request timed out", None, None),
    (30, "Request timeout on the free tier, please upgrade your tier to the paid one", None, None),
]


@pytest.mark.parametrize(("code", "message", "data", "blocks"), REFUSALS)
def test_how_nodes_refuse(code: int, message: str, data: Any, blocks: int | None) -> None:
    found = refusal(error(b"1", code, message, data))
    assert found is not None
    assert found.blocks == blocks


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32000, "block range extends beyond current head block"),
        (-32602, "invalid block range params"),
        (-32602, "please specify less number of address in the getLogs query: limit exceeded"),
        (-32602, "exceed max addresses or topics per search position"),
        (-32005, "daily request count exceeded, request rate limited"),
        (429, "Your app has exceeded its compute units per second capacity"),
        (-32000, "too many requests: query limit reached"),
        (-32000, "unknown block"),
        (-32000, "header not found"),
        (4444, "pruned history unavailable"),
        (-32601, "the method eth_getLogs does not exist"),
        (-32603, "internal error"),
    ],
)
def test_what_is_no_refusal_of_a_range(code: int, message: str) -> None:
    assert refusal(error(b"1", code, message)) is None


@pytest.mark.parametrize(
    "body_",
    [
        b"",
        b"garbage",
        b'{"result":["\\"error\\" range too large"]}',
        b'{"error":null}',
        b'{"error":"range too large"}',
        b'{"error":{"message":["range too large"]}}',
        b'{"error":{"message":"' + b"range too large" * 2000 + b'"}}',
    ],
)
def test_an_answer_in_no_form_is_none_either(body_: bytes) -> None:
    assert refusal(body_) in (None, Refusal(None, False))
