"""eth_getLogs through a daemon whose node refuses ranges as real providers do: the whole, once, whatever the chain does meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.config import Config
from tests.app.conftest import Running
from tests.upstream.chain_node import KINDS, ChainNode
from tests.upstream.fake_node import Die, Reply, ok, result

BLOCKS = 300


class Provider:
    """How one refuses: more than `blocks` at once, or more than `results` found. `words`: error of the range asked."""

    def __init__(
        self,
        words: Callable[[int, int], dict[str, Any]],
        *,
        blocks: int = 10**6,
        results: int = 10**6,
        status: bytes = b"200 OK",
    ) -> None:
        self.words, self.blocks, self.results, self.status = words, blocks, results, status


def says(code: int, message: str, data: Any = None) -> Callable[[int, int], dict[str, Any]]:
    def words(first: int, last: int) -> dict[str, Any]:
        half = (first + last) // 2
        asked = {"first": hex(first), "half": hex(half), "first10": first, "half10": half}
        error = {"code": code, "message": message % asked}
        return error if data is None else error | {"data": json.loads(json.dumps(data) % asked)}

    return words


PROVIDERS = {
    "infura": Provider(
        says(
            -32005,
            "query returned more than 10000 results. Try with this block range [%(first)s, %(half)s].",
            {"from": "%(first)s", "limit": 10000, "to": "%(half)s"},
        ),
        results=40,
    ),
    "alchemy": Provider(
        says(
            -32602,
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response "
            "size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response "
            "size limit, this block range should work: [%(first)s, %(half)s]",
        ),
        results=30,
        status=b"400 Bad Request",
    ),
    "alchemy free": Provider(
        says(
            -32600,
            "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block "
            "range should work: [%(first)s, %(half)s]. Upgrade to PAYG for expanded block range.",
        ),
        blocks=10,
        status=b"400 Bad Request",
    ),
    "quicknode": Provider(
        says(-32614, "eth_getLogs is limited to a 50 range"), blocks=50, status=b"413 Request Entity Too Large"
    ),
    "ankr": Provider(says(-32600, "block range is too wide"), blocks=30),
    "bsc": Provider(says(-32000, "exceed maximum block range: 70"), blocks=70),
    "cloudflare": Provider(
        says(
            -32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 80", "0x0 to latest"
        ),
        blocks=80,
    ),
    "drpc": Provider(says(35, "ranges over 100 blocks are not supported on freetier"), blocks=100),
    "reth": Provider(says(-32602, "query exceeds max block range 64"), blocks=64),
    "reth results": Provider(
        says(-32602, "query exceeds max results 20000, retry with the range %(first10)s-%(half10)s"), results=25
    ),
    "besu": Provider(says(-32005, "Requested range exceeds maximum RPC range limit"), blocks=90),
    "geth": Provider(says(-32000, "query timeout exceeded"), results=60),
    "busy": Provider(says(-32005, "limit exceeded"), blocks=45, status=b"503 Service Unavailable"),
    "too many": Provider(says(-32005, "block range exceeded"), blocks=45, status=b"429 Too Many Requests"),
}


class Refusing(ChainNode):
    """A provider over a chain of `BLOCKS`. `before(part)` happens when the n-th part is asked for, counted from 0."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(version="Geth/v1.15.0", pushes_heads=False)
        self.provider = provider
        self.before: dict[int, Callable[[], Any]] = {}
        self.parts = 0
        self.refused = 0
        for number in range(1, BLOCKS):
            self.mine(*(f"0x{number:04x}{index:02x}" for index in range(number % 4)))

    async def respond(self, raw: bytes) -> Reply:
        request = json.loads(raw)
        if request["method"] != "eth_getLogs":
            return await super().respond(raw)
        asked = request["params"][0]
        tags = {"earliest": 0, "latest": len(self.chain) - 1}
        first, last = (
            tags[asked[end]] if asked[end] in tags else int(asked[end], 16) for end in ("fromBlock", "toBlock")
        )
        if self.refused:  # the caller's own request was refused: these are parts
            self.parts += 1
            if (happens := self.before.pop(self.parts - 1, None)) is not None:
                happens()
        found = self.expected(first, last)
        if last - first + 1 > self.provider.blocks or len(found) > self.provider.results:
            self.refused += 1
            error = {"jsonrpc": "2.0", "id": request["id"], "error": self.provider.words(first, last)}
            return json.dumps(error).encode()
        return result(request, found)

    def expected(self, first: int, last: int) -> list[dict[str, Any]]:
        """Return the logs of these blocks as the chain is now."""
        return [one for name in self.chain[first : last + 1] for one in self.logs.get(name, [])]

    def reorganise(self) -> None:
        """Replace the newest five blocks with seven."""
        self.cut(5)
        for _ in range(7):
            self.mine("0xbeef", "0xcafe")

    def reply(self, body: bytes) -> bytes:
        """Return the HTTP response, a refusal with the provider's status."""
        return ok(body).replace(b"200 OK", self.provider.status) if re.search(rb'"error": ?{', body) else ok(body)


@asynccontextmanager
async def running(folder: Path, *urls: str) -> AsyncIterator[Running]:
    options = RunOptions(folder / "data", Config(), urls, False, 0, 0, None, True)
    async with open_daemon(options, lambda line: None) as started:
        yield started


async def get_logs(port: int, first: str, last: str) -> dict[str, Any]:
    return await ask(port, "eth_getLogs", {"fromBlock": first, "toBlock": last})


async def ask(port: int, method: str, *params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": "q", "method": method, "params": params}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/", json=body) as response,
    ):
        answer: dict[str, Any] = await response.json()
    assert answer["id"] == "q"
    return answer


@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_a_provider_refuses_is_answered_whole(name: str, short_tmp: Path) -> None:
    node = Refusing(PROVIDERS[name])
    async with node.http(reply=node.reply) as url, running(short_tmp, url) as (services, doors):
        for first, last in (("0x0", "latest"), ("0x1", hex(BLOCKS - 2)), ("earliest", "0xffff")):
            ends = int(first, 16) if first != "earliest" else 0, min(int(last, 16), BLOCKS) if "x" in last else BLOCKS
            node.refused = 0
            answer = await get_logs(doors.dapp.port, first, last)
            assert answer.get("result") == node.expected(*ends), answer.get("error")
            assert node.refused
        assert services.node_answers.log_ranges.figures.given_up == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_the_logs_of_a_filter_are_answered_whole_too(kind: str, short_tmp: Path) -> None:
    node = Refusing(PROVIDERS["quicknode"])
    async with node.over(kind, short_tmp) as url, running(short_tmp, url) as (services, doors):
        port = doors.dapp.port
        made = await ask(port, "eth_newFilter", {"fromBlock": "0x1", "toBlock": "latest"})
        answer = await ask(port, "eth_getFilterLogs", made["result"])
        assert answer.get("result") == node.expected(1, BLOCKS), answer
        assert services.node_answers.log_ranges.figures.splits == 1
        missing = {"code": -32000, "message": "filter not found"}
        assert (await ask(port, "eth_getFilterLogs", "0x1"))["error"] == missing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 3, 9])
async def test_a_reorg_in_the_middle_joins_no_two_chains(kind: str, at: int, short_tmp: Path) -> None:
    node = Refusing(Provider(says(-32614, "eth_getLogs is limited to a 30 range"), blocks=30))
    async with node.over(kind, short_tmp) as url, running(short_tmp, url) as (_, doors):
        node.before[at] = node.reorganise
        answer = await get_logs(doors.dapp.port, "0x0", "latest")
        assert answer["result"] == node.expected(0, len(node.chain) - 1)
        assert len({(one["blockHash"], one["logIndex"]) for one in answer["result"]}) == len(answer["result"])
        assert len(node.chain) == BLOCKS + 2


async def test_a_chain_that_never_stands_still_is_the_nodes_own_error(short_tmp: Path) -> None:
    node = Refusing(Provider(says(-32614, "eth_getLogs is limited to a 30 range"), blocks=30))
    async with node.http() as url, running(short_tmp, url) as (_, doors):
        node.before = dict.fromkeys(range(1000), node.reorganise)
        answer = await get_logs(doors.dapp.port, "0x0", "latest")
        assert answer["error"] == {"code": -32614, "message": "eth_getLogs is limited to a 30 range"}


@pytest.mark.parametrize("code", [-32005, -32602])
@pytest.mark.parametrize("behind", [2, 100])
async def test_what_one_node_refuses_is_not_cut_by_another_that_is_behind(
    code: int, behind: int, short_tmp: Path
) -> None:
    refusing = Refusing(Provider(says(code, "query returned more than 10000 results"), results=30))
    lagging = Refusing(Provider(says(0, "")))
    lagging.cut(behind)
    async with (
        refusing.ipc(short_tmp / "a.ipc") as first,
        lagging.ipc(short_tmp / "b.ipc") as second,
        running(short_tmp, first, second) as (_, doors),
    ):
        answer = await get_logs(doors.dapp.port, "0x0", "latest")
        assert answer["result"] == refusing.expected(0, BLOCKS)


@pytest.mark.parametrize("behind", [0, 2, 100])
@pytest.mark.parametrize("at", [0, 5, 11])
async def test_a_node_that_dies_in_the_middle_is_replaced_by_one_chain_alone(
    at: int, behind: int, short_tmp: Path
) -> None:
    provider = Provider(says(-32614, "eth_getLogs is limited to a 30 range"), blocks=30)
    dying, other = Refusing(provider), Refusing(provider)
    if behind:
        other.cut(behind)

    def die() -> None:
        raise Die

    dying.before = dict.fromkeys(range(at, 1000), die)
    async with (
        dying.ipc(short_tmp / "a.ipc") as first,
        other.ipc(short_tmp / "b.ipc") as second,
        running(short_tmp, first, second) as (_, doors),
    ):
        answer = await get_logs(doors.dapp.port, "0x0", "latest")
        full = dying.expected(0, BLOCKS), other.expected(0, BLOCKS)
        assert answer.get("result") in full, "the logs of the chain as one node has it"
