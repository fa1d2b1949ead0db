"""A node with a chain of its own that grows, forks, forgets and pushes as a test says, and counts what it is asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.upstream.fake_node import GENESIS, FakeNode, Push, Reply, asking, block, result

ADDRESS = "0x" + "22" * 20
KINDS = ["http", "ws", "ipc"]


class ChainNode(FakeNode):
    """Serves the methods that following the chain needs. `pushes_heads`: over sockets, as a node with `eth_subscribe`."""

    def __init__(self, *, version: str = "anvil/v9", pushes_heads: bool = True) -> None:
        super().__init__(version=version)
        self.pushes_heads = pushes_heads
        self.chain: list[str] = [GENESIS]
        self.by_hash: dict[str, dict[str, Any]] = {GENESIS: block(0, GENESIS, "0x" + "00" * 32)}
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.subscribed: list[list[Any]] = []
        self.unsubscribed: list[str] = []
        self.listeners: dict[str, set[Push]] = {}
        self.unknown: set[str] = set()  # blocks whose logs this node does not know yet
        self.tags: dict[str, int] = {}
        self.most_blocks: int | None = None  # of one range
        self.pending: list[str] = []
        self.syncing: Any = False
        self._made = 0

    # -- what happens to the chain

    def mine(self, *datas: str) -> str:
        """Add a block with one log for each of `datas`; return its hash."""
        self._made += 1
        number, name = len(self.chain), f"0x{self._made:064x}"
        self.by_hash[name] = {**block(number, name, self.chain[-1]), "transactions": [], "size": "0x1"}
        self.logs[name] = [
            {
                "address": ADDRESS,
                "topics": [],
                "data": data,
                "blockNumber": hex(number),
                "blockHash": name,
                "logIndex": hex(index),
                "removed": False,
            }
            for index, data in enumerate(datas)
        ]
        self.chain.append(name)
        return name

    def cut(self, count: int) -> None:
        """Take the newest `count` blocks off; they are known no more."""
        for name in self.chain[-count:]:
            del self.by_hash[name]
        del self.chain[-count:]

    async def announce(self, name: str | None = None) -> None:
        """Push the newest block's header (or that of `name`) to everybody who subscribed."""
        whole = self.by_hash[name or self.chain[-1]]
        header = {member: value for member, value in whole.items() if member not in ("transactions", "size")}
        await self.push_result("heads", header)

    async def push_result(self, number: str, value: Any) -> None:
        """Push one result to every connection that has subscribed to it."""
        params = {"subscription": number, "result": value}
        frame = json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}).encode()
        for push in list(self.listeners.get(number, [])):
            with contextlib.suppress(ConnectionError):
                await push(frame)

    # -- what it answers

    async def respond(self, raw: bytes) -> Reply:
        """Answer from the chain."""
        self.asked.append(raw)
        request = json.loads(raw)
        params = request.get("params") or []
        if self.answer is not None and (reply := await self.answer(request)) is not None:
            return reply
        answers: dict[str, Callable[[], Reply]] = {
            "eth_chainId": lambda: result(request, hex(self.chain_id)),
            "web3_clientVersion": lambda: result(request, self.version),
            "eth_blockNumber": lambda: result(request, hex(len(self.chain) - 1)),
            "eth_getBlockByNumber": lambda: self._by_number(request, params[0]),
            "eth_getBlockByHash": lambda: result(request, self.by_hash.get(params[0])),
            "eth_getLogs": lambda: self._get_logs(request, params[0]),
            "eth_subscribe": lambda: self._subscribe(request, params),
            "eth_unsubscribe": lambda: self._unsubscribe(request, params[0]),
            "eth_syncing": lambda: result(request, self.syncing),
            "eth_newPendingTransactionFilter": lambda: result(request, "0xf1"),
            "eth_getFilterChanges": lambda: self._pending(request),
            "eth_getTransactionByHash": lambda: result(request, {"hash": params[0], "nonce": "0x0"}),
        }
        return answers.get(request["method"], lambda: result(request, "0x1"))()

    def times(self, method: str) -> int:
        """Return how often `method` was asked."""
        return sum(json.loads(raw)["method"] == method for raw in self.asked)

    def _by_number(self, request: dict[str, Any], which: str) -> Reply:
        if which in ("finalized", "safe"):
            if which not in self.tags:
                return failure(request, -32000, f"{which} block not found")
            number = self.tags[which]
        else:
            tags = {"earliest": 0, "latest": len(self.chain) - 1}
            number = tags[which] if which in tags else int(which, 16)
        return result(request, self.by_hash[self.chain[number]] if number < len(self.chain) else None)

    def _get_logs(self, request: dict[str, Any], wanted: dict[str, Any]) -> Reply:
        if "blockHash" in wanted:
            if wanted["blockHash"] not in self.by_hash or wanted["blockHash"] in self.unknown:
                return failure(request, -32000, "unknown block")
            names = [wanted["blockHash"]]
        else:
            top = len(self.chain) - 1
            first, last = (top if wanted[end] == "latest" else int(wanted[end], 16) for end in ("fromBlock", "toBlock"))
            if self.most_blocks is not None and last - first >= self.most_blocks:
                return failure(request, -32005, "range too wide")
            names = self.chain[first : last + 1]
        found = [one for name in names for one in self.logs.get(name, [])]
        address = wanted.get("address")
        return result(request, [one for one in found if address in (None, one["address"])])

    def _subscribe(self, request: dict[str, Any], params: list[Any]) -> Reply:
        if not self.pushes_heads:
            return failure(request, -32601, "no subscriptions here")
        self.subscribed.append(params)
        number = "heads" if params == ["newHeads"] else params[0]
        self.listeners.setdefault(number, set()).add(asking.get())
        return result(request, number)

    def _unsubscribe(self, request: dict[str, Any], number: str) -> Reply:
        self.unsubscribed.append(number)
        self.listeners.get(number, set()).discard(asking.get())
        return result(request, True)

    def _pending(self, request: dict[str, Any]) -> Reply:
        found, self.pending = self.pending, []
        return result(request, found)

    def over(self, kind: str, folder: Path) -> AbstractAsyncContextManager[str]:
        """Listen in one of the three ways."""
        if kind == "ipc":
            return self.ipc(folder / "n.ipc")
        return self.http() if kind == "http" else self.ws()


def failure(request: dict[str, Any], code: int, message: str) -> bytes:
    """Return an error as a node gives it."""
    error = {"code": code, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
