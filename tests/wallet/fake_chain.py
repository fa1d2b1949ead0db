"""An L1 node in memory, strict where it matters for money: nonces, balances, a pool, receipts, reorgs.

It decodes the very bytes that are sent, so that a test sees what a chain would have executed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from middleware.errors import Disconnected, RpcError

GAS_USED = 40_000
BASE_FEE = 10**9
NOBODY = "0x" + "00" * 20


@dataclass(frozen=True)
class Sent:
    """A decoded EIP-1559 transaction."""

    raw: bytes
    hash: str
    sender: str
    nonce: int
    tip: int
    max_fee: int
    gas: int
    to: str
    value: int
    data: bytes


class FakeChain:
    """The node, and the block tracker of it."""

    def __init__(self, *, automine: bool = True, is_dev: bool = True) -> None:
        self.chain_id = 31337
        self.is_dev = is_dev
        self.automine = automine
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.codes: dict[str, str] = {}
        self.pool: dict[str, Sent] = {}
        self.chain: list[list[Sent]] = [[]]
        self.reverting: set[str] = set()
        self.burning: set[str] = set()  # calls of these use all their gas
        self.refuse_calls: dict[str, Exception] = {}
        self.estimate = 50_000
        self.base_fee = BASE_FEE
        self.timestamp = 1_000
        self.logs: list[dict[str, Any]] = []
        self.tokens: dict[str, int] = {}
        self.token_balance = 10**24
        self.paid_out: dict[str, int] = {}
        self.past_balances: list[dict[str, int]] = []
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda method: None
        self.after: Callable[[str], None] = lambda method: None
        self._arrived = asyncio.Event()
        self._listeners: list[asyncio.Queue[int]] = []

    @property
    def blocks(self) -> FakeChain:
        return self

    async def events(self) -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def call(self, method: str, *params: Any) -> Any:
        self.calls.append(method)
        self.before(method)
        await asyncio.sleep(0)
        if method in self.refuse_calls:
            raise self.refuse_calls[method]
        result = getattr(self, method)(*params)
        self.after(method)
        return result

    # -- the methods

    def eth_chainId(self) -> str:
        return hex(self.chain_id)

    def eth_blockNumber(self) -> str:
        return hex(self.head)

    def eth_getBlockByNumber(self, tag: str, full: bool) -> dict[str, Any]:
        number = int(tag, 16) if tag.startswith("0x") else self.head
        return {
            "number": hex(number),
            "gasLimit": hex(30_000_000),
            "baseFeePerGas": hex(self.base_fee),
            "timestamp": hex(self.timestamp),
            "transactions": [
                {"hash": sent.hash, "from": sent.sender.lower(), "to": sent.to.lower()} if full else sent.hash
                for sent in self.chain[number]
            ],
        }

    def eth_maxPriorityFeePerGas(self) -> str:
        return hex(10**9)

    def eth_gasPrice(self) -> str:
        return hex(self.base_fee + 10**9)

    def eth_getBalance(self, address: str, tag: str) -> str:
        if tag.startswith("0x") and int(tag, 16) < self.head:
            return hex(self.past_balances[int(tag, 16)].get(to_checksum_address(address), 0))
        return hex(self.balances[to_checksum_address(address)])

    def eth_getCode(self, address: str, tag: str) -> str:
        return self.codes.get(to_checksum_address(address), "0x")

    def eth_getStorageAt(self, address: str, slot: str, tag: str) -> str:
        return "0x" + "00" * 32

    def eth_estimateGas(self, call: dict[str, Any]) -> str:
        if call.get("to") in self.reverting:
            raise RpcError(3, "execution reverted", "0x")
        return hex(self.estimate)

    def eth_getLogs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        low, high = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        return [
            row
            for row in self.logs
            if row["address"] == wanted["address"]
            and row["topics"][0] == wanted["topics"][0]
            and low <= int(row["blockNumber"], 16) <= high
        ]

    def eth_call(self, call: dict[str, Any], tag: str) -> str:
        if call["to"] in self.tokens and call["data"].startswith("0x70a08231"):
            return f"0x{self.token_balance:064x}"
        if call["to"] in self.tokens and call["data"].startswith("0xa9059cbb"):
            return f"0x{1:064x}"
        if call["to"] in self.tokens and call["data"].startswith("0xdd62ed3e"):
            return f"0x{self.tokens[call['to']]:064x}"
        raise RpcError(3, "execution reverted", "0x")

    def eth_getTransactionCount(self, address: str, tag: str) -> str:
        sender = to_checksum_address(address)
        depth = self.head if not tag.startswith("0x") else int(tag, 16)
        mined = sum(sent.sender == sender for block in self.chain[: depth + 1] for sent in block)
        if tag == "pending":
            while any(sent.sender == sender and sent.nonce == mined for sent in self.pool.values()):
                mined += 1
        return hex(mined)

    def eth_getTransactionByHash(self, wanted: str) -> dict[str, Any] | None:
        return {"hash": wanted} if wanted in self.pool or self.place(wanted) is not None else None

    def eth_getTransactionReceipt(self, wanted: str) -> dict[str, str] | None:
        place = self.place(wanted)
        if place is None:
            return None
        number, sent = place
        return {
            "blockNumber": hex(number),
            "status": "0x0" if sent.to in self.reverting else "0x1",
            "gasUsed": hex(sent.gas if sent.to in self.burning else GAS_USED),
            "effectiveGasPrice": hex(price(sent)),
        }

    def eth_sendRawTransaction(self, raw: str) -> str:
        sent = decode(bytes.fromhex(raw[2:]))
        if sent.hash in self.pool or self.place(sent.hash) is not None:
            raise RpcError(-32000, "already known")
        count = int(self.eth_getTransactionCount(sent.sender, "latest"), 16)
        if sent.nonce < count:
            raise RpcError(-32000, "nonce too low")
        rival = next((one for one in self.pool.values() if (one.sender, one.nonce) == (sent.sender, sent.nonce)), None)
        if rival is not None and (sent.tip * 10 < rival.tip * 11 or sent.max_fee * 10 < rival.max_fee * 11):
            raise RpcError(-32000, "replacement transaction underpriced")
        if self.balances[sent.sender] < sent.value + sent.gas * sent.max_fee:
            raise RpcError(-32000, "insufficient funds for gas * price + value")
        if rival is not None:
            del self.pool[rival.hash]
        self.pool[sent.hash] = sent
        self._arrived.set()
        if self.automine:
            self.mine()
        return sent.hash

    # -- what tests do to the chain

    @property
    def head(self) -> int:
        return len(self.chain) - 1

    def mine(self, blocks: int = 1) -> None:
        """Mine what fits by nonce; the other blocks are empty."""
        for _ in range(blocks):
            self.past_balances = [*self.past_balances[: self.head], dict(self.balances)]
            block: list[Sent] = []
            self.chain.append(block)
            for sent in sorted(self.pool.values(), key=lambda one: one.nonce):
                fits = sent.max_fee >= self.base_fee
                if fits and sent.nonce == int(self.eth_getTransactionCount(sent.sender, "latest"), 16):
                    block.append(self.pool.pop(sent.hash))
                    self._execute(sent, 1)
            for queue in self._listeners:
                queue.put_nowait(self.head)

    async def arrival(self) -> None:
        """Wait until something is in the pool."""
        async with asyncio.timeout(60):
            while not self.pool:
                self._arrived.clear()
                await self._arrived.wait()

    def unwind(self, blocks: int, *, keep: bool = False) -> None:
        """Take the newest blocks back, with what was in them; `keep`: it goes back to the pool."""
        for _ in range(blocks):
            for sent in reversed(self.chain.pop()):
                self._execute(sent, -1)
                if keep:
                    self.pool[sent.hash] = sent
        for queue in self._listeners:
            queue.put_nowait(self.head)

    def place(self, wanted: str) -> tuple[int, Sent] | None:
        for number, block in enumerate(self.chain):
            for sent in block:
                if sent.hash == wanted:
                    return number, sent
        return None

    def executed(self, to: str | None = None) -> list[Sent]:
        """Everything mined, in order."""
        return [sent for block in self.chain for sent in block if to in (None, sent.to)]

    def _execute(self, sent: Sent, sign: int) -> None:
        self.balances[sent.sender] -= sign * GAS_USED * price(sent)
        if sent.to in self.reverting:
            return
        self.balances[sent.sender] -= sign * sent.value
        self.balances[sent.to] += sign * sent.value
        out = self.paid_out.get(sent.to, 0)
        self.balances[sent.to] -= sign * out
        self.balances[sent.sender] += sign * out
        if sent.to in self.tokens and sent.data[:4].hex() == "095ea7b3":
            self.tokens[sent.to] = int.from_bytes(sent.data[36:68], "big") if sign > 0 else 0


def price(sent: Sent) -> int:
    """Wei per gas that a transaction pays."""
    return min(sent.max_fee, BASE_FEE + sent.tip)


def decode(raw: bytes) -> Sent:
    """Return the transaction in EIP-1559 bytes."""
    assert raw[0] == 2
    _, nonce, tip, max_fee, gas, to, value, data, *_ = rlp.decode(raw[1:])
    return Sent(
        raw=raw,
        hash="0x" + keccak(raw).hex(),
        sender=Account.recover_transaction(raw),
        nonce=number(nonce),
        tip=number(tip),
        max_fee=number(max_fee),
        gas=number(gas),
        to=to_checksum_address(to) if to else NOBODY,
        value=number(value),
        data=data,
    )


def number(part: bytes) -> int:
    """The integer of big-endian bytes."""
    return int.from_bytes(part, "big")


def gone(reason: str = "the L1 node went away") -> Disconnected:
    """The error of a node that cannot be asked."""
    return Disconnected(reason)
