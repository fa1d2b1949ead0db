"""A chain one can mine and reorganise at will, the node on it, and what the tracker saw of it: for tests of the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from middleware.epoch import Epoch
from middleware.waist import Answer, Context, NodeReply, Request


@dataclass(frozen=True)
class Block:
    """One block; its hash stands for everything that happened up to it."""

    number: int
    hash: str


def child(parent: Block, branch: str) -> Block:
    """Return the block of `branch` on top of `parent`."""
    return Block(parent.number + 1, digest(parent.hash, branch))


def digest(*parts: Any) -> str:
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


GENESIS = Block(0, digest("genesis"))


@dataclass
class Node:
    """Answers of its own head, and knows nothing of blocks that were reorganised away."""

    chain: list[Block] = field(default_factory=lambda: [GENESIS])
    final: int = 0
    poked: str = ""  # what a developer set: part of every state
    asked: list[Request] = field(default_factory=list)

    def mine(self, branch: str = "a", blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.append(child(self.chain[-1], branch))

    def reorg(self, depth: int, branch: str) -> None:
        """Replace the newest `depth` blocks, never finalized ones, by one more of another branch."""
        depth = min(depth, len(self.chain) - 1 - self.final)
        if depth > 0:
            del self.chain[len(self.chain) - depth :]
            self.mine(branch, depth + 1)

    def block(self, named: Any) -> Block | None:
        match named:
            case None | "latest":
                return self.chain[-1]
            case "finalized" | "safe":
                return self.chain[self.final]
            case "earliest":
                return self.chain[0]
            case {"blockHash": named} | {"blockNumber": named}:
                return self.block(named)
            case str() if len(named) == 66:
                return next((block for block in self.chain if block.hash == named), None)
            case str():
                return self.chain[int(named, 16)] if int(named, 16) < len(self.chain) else None
        raise AssertionError(named)

    def result(self, request: Request) -> Any:
        """Return the decoded result; None for a block that is not there."""
        params = json.loads(request.params or b"[]")
        if request.method == "eth_getLogs":
            return self.logs(params[0])
        match request.method:
            case "eth_chainId" | "eth_blockNumber":
                return hex(self.chain[-1].number) if request.method == "eth_blockNumber" else "0x1"
            case "eth_getTransactionByHash" | "eth_getTransactionReceipt":
                block = self.block(hex(int(params[0], 16)))
                return block and {"blockNumber": hex(block.number), "blockHash": block.hash}
            case "eth_getBlockByNumber" | "eth_getBlockByHash":
                block = self.block(params[0])
                return block and {"number": hex(block.number), "hash": block.hash}
            case _:
                block = self.block(params[1] if len(params) > 1 else None)
                return block and digest(block.hash, self.poked, params)

    def logs(self, asked: Any) -> Any:
        first, last = self.block(asked["fromBlock"]), self.block(asked["toBlock"])
        blocks = self.chain[first.number : last.number + 1] if first and last else []
        return [{"blockNumber": hex(block.number), "blockHash": block.hash} for block in blocks]

    def body(self, request: Request) -> bytes:
        """Return the whole answer."""
        found = self.result(request)
        rest = (
            {"error": {"code": -32000, "message": "unknown block"}}
            if found is None and len(request.params) % 2
            else {"result": found}
        )
        return b'{"jsonrpc":"2.0","id":' + (request.id or b"null") + b"," + json.dumps(rest).encode()[1:]

    async def answer(self, request: Request, context: Context) -> Answer:
        self.asked.append(request)
        return NodeReply(self.body(request))


@dataclass
class Tracker:
    """What was last seen of the node: nothing until `look`."""

    node: Node
    head: Block | None = None
    safe: Block | None = None
    finalized: Block | None = None
    pokes: int = 0

    def poke(self) -> None:
        self.pokes += 1

    def look(self, epoch: Epoch) -> None:
        """See the node's chain as it is, and tell the epoch as the real tracker would."""
        old, new = self.head, self.node.chain[-1]
        self.head, self.finalized, self.safe = new, self.node.block("finalized"), self.node.block("safe")
        if old is not None and old != new:
            epoch.moved(back=old not in self.node.chain)


def at_once(asking: Generator[Any, Any, Any] | Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        asking.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")
