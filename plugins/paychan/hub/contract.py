"""The PayChan contract as the hub uses it: calls to make, the view of a channel, the transactions of the hub's key.

Speaks plain JSON-RPC, so that any node will do. Amounts are wei.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from .digests import Key
from .layer1 import Node, NodeError

ARTEFACT = Path(__file__).parent.parent / "contract" / "PayChan.json"
STATUS = ("none", "open", "closing", "closed")
_CHANNEL = "(address,uint8,uint64,address,uint256,uint256,uint256,uint256,uint256,uint256)"


@dataclass(frozen=True)
class OnChain:
    """A channel as the contract holds it. `sent` and `received` are what was presented in a close."""

    owner: str
    status: str
    closes_at: int
    signer: str
    user_in: int
    hub_in: int
    user_out: int
    sent: int
    received: int


class Contract:
    """One deployed PayChan, read at a block and written with the hub's key."""

    def __init__(self, node: Node, address: str, chain_id: int, key: Key) -> None:
        self._node = node
        self.address = address.lower()
        self._chain_id = chain_id
        self._key = key
        self._turn = asyncio.Lock()  # one transaction at a time: nonces in order

    async def call(self, signature: str, *args: Any, returns: str, block: int | None = None) -> Any:
        """Call a view function; return its decoded tuple of values."""
        data = "0x" + _calldata(signature, args).hex()
        tag = "latest" if block is None else hex(block)
        answer = await self._node.request("eth_call", {"to": self.address, "data": data}, tag)
        raw = bytes.fromhex(str(answer)[2:])
        if not raw:
            raise NodeError(f"there is no PayChan contract at {self.address} on this chain")
        return decode([returns], raw)[0]

    async def channel_of(self, owner: str, block: int | None = None) -> bytes:
        """Return the id of an owner's newest channel, 32 zero bytes where there is none."""
        return bytes(await self.call("channelOf(address)", owner, returns="bytes32", block=block))

    async def channel(self, channel: bytes, block: int | None = None) -> OnChain:
        """Return a channel as of `block`."""
        row = await self.call("channels(bytes32)", channel, returns=_CHANNEL, block=block)
        owner, status, closes_at, signer, user_in, hub_in, user_out, sent, received, _locked = row
        return OnChain(owner, STATUS[status], closes_at, signer, user_in, hub_in, user_out, sent, received)

    async def send(self, signature: str, *args: Any, value: int = 0, timeout: float = 120) -> int:
        """Send a transaction of the hub's key and wait for it; return its block. Raises NodeError if it fails."""
        return int((await self.transact(self.address, _calldata(signature, args), value, timeout))["blockNumber"], 16)

    async def transact(self, to: str | None, data: bytes, value: int = 0, timeout: float = 120) -> dict[str, Any]:
        """Send any transaction of the hub's key (`to` None: a deployment); return its receipt."""
        async with self._turn:
            raw = sign_transaction(self._key, await self._prepare(to, data, value))
            sent = await self._node.request("eth_sendRawTransaction", "0x" + raw.hex())
        return await self._receipt(sent, timeout)

    async def _prepare(self, to: str | None, data: bytes, value: int) -> list[Any]:
        call = {"from": self._key.address, "data": "0x" + data.hex(), "value": hex(value)}
        if to is not None:
            call["to"] = to
        gas = int(await self._node.request("eth_estimateGas", call), 16)
        nonce = int(await self._node.request("eth_getTransactionCount", self._key.address, "pending"), 16)
        head = await self._node.request("eth_getBlockByNumber", "latest", False)
        tip = 10**9
        base = int(head.get("baseFeePerGas") or "0x0", 16)
        target = b"" if to is None else bytes.fromhex(to[2:])
        return [self._chain_id, nonce, tip, 2 * base + tip, gas + gas // 4, target, value, data, []]

    async def _receipt(self, sent: str, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            receipt = await self._node.request("eth_getTransactionReceipt", sent)
            if receipt is not None:
                if int(receipt["status"], 16) != 1:
                    raise NodeError(f"the transaction {sent} was reverted")
                return dict(receipt)
            await asyncio.sleep(0.05)  # a node has no way to tell us over plain HTTP
        raise NodeError(f"the transaction {sent} is not mined after {timeout:.0f} s")


def sign_transaction(key: Key, fields: list[Any]) -> bytes:
    """Return a raw EIP-1559 transaction; `fields` in the order of the EIP, without the signature."""
    signature = key.sign(bytes(keccak(b"\x02" + rlp.encode(fields))))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return b"\x02" + bytes(rlp.encode([*fields, signature[64] - 27, r, s]))


async def deploy(node: Node, key: Key, window: int) -> str:
    """Deploy PayChan with `key` as its hub; return the contract's address."""
    chain_id = int(await node.request("eth_chainId"), 16)
    artefact = json.loads(ARTEFACT.read_text())
    code = bytes.fromhex(artefact["bytecode"][2:]) + encode(["address", "uint64"], [key.address, window])
    nobody = "0x" + "00" * 20
    receipt = await Contract(node, nobody, chain_id, key).transact(None, code)
    return str(receipt["contractAddress"])


def _calldata(signature: str, args: tuple[Any, ...]) -> bytes:
    types = signature[signature.index("(") + 1 : -1]
    return bytes(keccak(signature.encode()))[:4] + encode(types.split(",") if types else [], args)
