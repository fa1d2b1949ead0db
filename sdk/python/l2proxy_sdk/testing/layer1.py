"""L1 for a test: a small chain in memory, or a node by its URL. Both are `(method, params)` callables."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from l2proxy_sdk.peer import Failure

_TAGS = ("latest", "safe", "finalized", "pending")


class FakeLayer1:
    """A chain that grows when the test says so. `answers` holds for each other method a value, or a function of its params."""

    def __init__(
        self, *, chain_id: int = 1337, answers: Mapping[str, Any] | None = None, timestamp: int = 1_700_000_000
    ) -> None:
        self.chain_id = chain_id
        self.answers = dict(answers or {})
        self.blocks: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self._mined = 0
        self._own: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(self.chain_id),
            "eth_blockNumber": lambda: self.head["number"],
            "eth_getBlockByNumber": self._block,
            "eth_getLogs": self._found,
        }
        self.mine(timestamp=timestamp)

    @property
    def head(self) -> dict[str, Any]:
        """The newest block."""
        return self.blocks[-1]

    def mine(self, logs: Iterable[Mapping[str, Any]] = (), *, timestamp: int | None = None) -> dict[str, Any]:
        """Grow by a block that holds `logs` (`{address, topics, data}`, the rest is filled in); return it."""
        self._mined += 1
        when = int(self.head["timestamp"], 16) + 12 if timestamp is None else timestamp
        block = {
            "number": hex(len(self.blocks)),
            "hash": _word(self._mined),
            "parentHash": self.head["hash"] if self.blocks else _word(0),
            "timestamp": hex(when),
        }
        self.blocks.append(block)
        for index, log in enumerate(logs):
            place = {
                "blockNumber": block["number"],
                "blockHash": block["hash"],
                "logIndex": hex(index),
                "removed": False,
            }
            transaction = {"transactionHash": _word(self._mined * 2**20 + index), "transactionIndex": hex(index)}
            self.logs.append({"data": "0x", "topics": [], **place, **transaction, **log})
        return block

    def drop(self, depth: int) -> None:
        """Take the last `depth` blocks and their logs off the chain."""
        if not 0 < depth < len(self.blocks):
            raise ValueError(f"a chain of {len(self.blocks)} blocks drops 1 to all but one")
        gone = {block["hash"] for block in self.blocks[-depth:]}
        del self.blocks[-depth:]
        self.logs = [log for log in self.logs if log["blockHash"] not in gone]

    async def __call__(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Answer as a node does."""
        answer = self.answers[method] if method in self.answers else self._own.get(method)
        if answer is None and method not in self.answers:
            raise Failure({"code": -32601, "message": f"this fake L1 has no {method}: give it in `answers`"})
        found = answer(*params) if callable(answer) else answer
        return await found if isawaitable(found) else found

    def _block(self, at: str, _full: bool = False) -> dict[str, Any] | None:
        if at in _TAGS:
            return self.head
        number = 0 if at == "earliest" else int(at, 16)
        return self.blocks[number] if number < len(self.blocks) else None

    def _found(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        head = len(self.blocks) - 1
        first, last = (_height(asked.get(name, "latest"), head) for name in ("fromBlock", "toBlock"))

        def fits(log: Mapping[str, Any]) -> bool:
            if "blockHash" in asked:
                placed = log["blockHash"] == asked["blockHash"]
            else:
                placed = first <= int(log["blockNumber"], 16) <= last
            topics = [*log["topics"], *[None] * 4]
            wanted = zip(asked.get("topics") or [], topics, strict=False)
            return (
                placed and _is_among(asked.get("address"), log["address"]) and all(_is_among(*pair) for pair in wanted)
            )

        return [log for log in self.logs if fits(log)]


def layer1_at(url: str) -> Callable[[str, list[Any]], Any]:
    """Return the node at an http(s) URL."""

    async def call(method: str, params: list[Any]) -> Any:
        answer = await asyncio.to_thread(_ask, url, method, list(params))
        if "error" in answer:
            raise Failure(answer["error"])
        return answer["result"]

    return call


def _ask(url: str, method: str, params: list[Any]) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http(s) URL")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)


def _height(at: str, head: int) -> int:
    if at == "earliest":
        return 0
    return head if at in _TAGS else int(at, 16)


def _is_among(wanted: Any, found: str | None) -> bool:
    if wanted is None:
        return True
    several = [wanted] if isinstance(wanted, str) else wanted
    return found is not None and found.lower() in [one.lower() for one in several]


def _word(number: int) -> str:
    return f"0x{number:064x}"
