"""Pending transactions of nodes that tell only blocks: each once, whatever the chain does between two looks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from middleware.errors import Disconnected, RpcError
from proxy.upstream.polled import PendingTransactions
from tests.upstream.fake_node import block


class Node:
    """A chain of blocks with transactions, and no filter for what is pending. `away`: it answers nothing."""

    def __init__(self) -> None:
        self.chain: list[str] = []
        self.by_hash: dict[str, dict[str, Any]] = {}
        self.pending: list[str] = []
        self.away = False
        self.asked = 0
        self._names = itertools.count(1)
        self.mine()

    def mine(self, *transactions: str) -> None:
        number, name = len(self.chain), f"0x{next(self._names):064x}"
        parent = self.chain[-1] if self.chain else "0x" + "00" * 32
        self.by_hash[name] = {**block(number, name, parent), "transactions": list(transactions)}
        self.chain.append(name)

    async def call(self, method: str, which: str = "", *_: Any) -> Any:
        self.asked += 1
        if self.away:
            raise Disconnected("away")
        match method, which:
            case "eth_getBlockByNumber", "latest":
                return self.by_hash[self.chain[-1]]
            case "eth_getBlockByNumber", "pending":
                return {"transactions": self.pending}
            case "eth_getBlockByNumber", number:
                return self.by_hash[self.chain[int(number, 16)]] if int(number, 16) < len(self.chain) else None
            case "eth_getBlockByHash", name:
                return self.by_hash.get(name)
        raise RpcError(-32601, "no filters here")


async def test_a_block_that_replaced_one_between_two_looks_is_looked_at() -> None:
    node = Node()
    node.mine("0x01")
    pending = PendingTransactions(node.call)
    await pending.begin()
    node.mine("0x02")
    assert await pending.new() == ["0x02"]
    node.chain.pop()
    node.mine("0x03", "0x02")
    node.mine("0x04")
    assert await pending.new() == ["0x03", "0x04"]
    del node.chain[-3:]
    for one in range(5, 10):
        node.mine(f"0x0{one}")
    node.pending = ["0x0a", "0x09"]
    assert await pending.new() == ["0x05", "0x06", "0x07", "0x08", "0x09", "0x0a"]
    assert await pending.new() == []


async def test_what_could_not_be_read_is_found_by_the_next_look() -> None:
    node = Node()
    pending = PendingTransactions(node.call)
    await pending.begin()
    node.mine("0x01")
    node.away = True
    for _ in range(2):
        with pytest.raises(Disconnected):
            await pending.new()
        node.mine()
    node.away = False
    assert await pending.new() == ["0x01"]


async def test_a_block_that_vanishes_while_it_is_read_costs_no_other() -> None:
    node = Node()
    pending = PendingTransactions(node.call)
    await pending.begin()
    node.mine("0x01")
    node.mine("0x02")
    del node.by_hash[node.chain[-2]]
    assert await pending.new() == ["0x02"]
    node.mine("0x03")
    assert await pending.new() == ["0x03"]


async def test_a_long_way_is_not_gone_to_its_end_and_a_quiet_chain_costs_two_questions() -> None:
    node = Node()
    pending = PendingTransactions(node.call)
    await pending.begin()
    for one in range(500):
        node.mine(hex(one))
    node.asked = 0
    assert await pending.new() == [hex(one) for one in range(436, 500)]
    assert node.asked == 2 + 63
    node.asked = 0
    assert await pending.new() == []
    assert node.asked == 2
