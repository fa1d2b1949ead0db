"""Bob, who has no l2proxy: ERC-5564 and ERC-6538 by other libraries, with raw transactions of his own (tests alone).

What he pays has to be found by the plugin, and what the plugin pays has to be found by him.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coincurve import PrivateKey, PublicKey
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from proxy.upstream.l1 import L1

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ANNOUNCER = "0x55649E01B5Df198D18D95b5cc5051630cfD45564"
REGISTRY = "0x6538E6bf4B0eBd30A8Ea093027Ac2422ce5d6538"
ANNOUNCEMENT = "0x" + keccak(text="Announcement(uint256,address,address,bytes,bytes)").hex()
PRICE = 10**10
# A token in 79 bytes: a million units are the creator's; balanceOf, transfer, and nothing else.
TOKEN = bytes.fromhex(
    "620f42403355604f6012600039604f6000f3"  # the creation, and then what stands there
    "60003560e01c806370a0823114601e5763a9059cbb14602b575b600080fd5b6004355460005260206000f3"
    "5b60243533548181106019578190033355600435805482019055600160005260206000f3"
)


class Receiver:
    """Both keys of a receiver."""

    def __init__(self, spending: bytes, viewing: bytes) -> None:
        self.spending, self.viewing = PrivateKey(spending), PrivateKey(viewing)

    @property
    def meta(self) -> bytes:
        """The meta-address: 66 bytes."""
        return self.spending.public_key.format() + self.viewing.public_key.format()

    def address(self, ephemeral: PublicKey) -> tuple[str, str, int]:
        """Return stealth address, view tag and private key for an ephemeral public key."""
        shared = keccak(ephemeral.multiply(self.viewing.secret).format())
        key = (int.from_bytes(shared, "big") + self.spending.to_int()) % ORDER
        public = PublicKey.combine_keys([self.spending.public_key, PrivateKey(shared).public_key])
        assert public == PrivateKey.from_int(key).public_key
        return address_of(public), f"0x{shared[0]:02x}", key


def address_of(public: PublicKey) -> str:
    return str(to_checksum_address(keccak(public.format(compressed=False)[1:])[12:]))


def stealth_for(meta: bytes) -> tuple[str, bytes, bytes]:
    """Return stealth address, ephemeral public key and view tag for a payment to a meta-address."""
    ephemeral = PrivateKey(secrets.token_bytes(32))
    shared = keccak(PublicKey(meta[33:]).multiply(ephemeral.secret).format())
    public = PublicKey.combine_keys([PublicKey(meta[:33]), PrivateKey(shared).public_key])
    return address_of(public), ephemeral.public_key.format(), shared[:1]


@dataclass
class Bob:
    """A key with money on a dev node, and what he receives with."""

    l1: L1
    key: Any = field(default_factory=Account.create)
    receiver: Receiver = field(default_factory=lambda: Receiver(secrets.token_bytes(32), secrets.token_bytes(32)))

    async def begin(self, node_modules: Path) -> None:
        """Give him money and put the canonical contracts where they stand on every chain; their code is the SDK's."""
        await self.l1.call("anvil_setBalance", self.key.address, hex(100 * 10**18))
        text = (node_modules / "@scopelift/stealth-address-sdk/dist/config/bytecode.js").read_text()
        created = dict(re.findall(r"const (ERC\d+)_BYTECODE = '(0x[0-9a-f]+)'", text))
        for name, place in (("ERC5564", ANNOUNCER), ("ERC6538", REGISTRY)):
            receipt = await self.send(None, bytes.fromhex(created[name][2:]))
            code = await self.l1.call("eth_getCode", receipt["contractAddress"], "latest")
            await self.l1.call("anvil_setCode", place, code)

    async def send(self, to: str | None, data: bytes = b"", value: int = 0) -> Any:
        """Send a transaction and return its receipt."""
        nonce = int(await self.l1.call("eth_getTransactionCount", self.key.address, "latest"), 16)
        fields = {"nonce": nonce, "gas": 2_000_000, "maxFeePerGas": PRICE, "maxPriorityFeePerGas": 1, "type": 2}
        call = {"chainId": self.l1.chain_id, "value": value, "data": data, **fields}
        raw = self.key.sign_transaction(call if to is None else {"to": to, **call}).raw_transaction
        return await receipt_of(self.l1, await self.l1.call("eth_sendRawTransaction", "0x" + bytes(raw).hex()))

    async def register(self) -> None:
        await self.send(REGISTRY, call("registerKeys(uint256,bytes)", 1, self.receiver.meta))

    async def lookup(self, account: str) -> bytes:
        """Return what an account registered."""
        data = "0x" + call("stealthMetaAddressOf(address,uint256)", account, 1).hex()
        answer = await self.l1.call("eth_call", {"to": REGISTRY, "data": data}, "latest")
        (meta,) = decode(["bytes"], bytes.fromhex(answer[2:]))
        return bytes(meta)

    async def announce(self, address: str, ephemeral: bytes, metadata: bytes, scheme: int = 1) -> None:
        await self.send(ANNOUNCER, call("announce(uint256,address,bytes,bytes)", scheme, address, ephemeral, metadata))

    async def pay(self, meta: bytes, value: int) -> str:
        """Pay and announce; return the stealth address."""
        address, ephemeral, tag = stealth_for(meta)
        if value:
            await self.send(address, value=value)
        await self.announce(address, ephemeral, tag + b"\xee" * 24 + value.to_bytes(32, "big"))
        return address

    async def pay_token(self, meta: bytes, token: str, value: int) -> str:
        """Pay a token and announce it; return the stealth address."""
        address, ephemeral, tag = stealth_for(meta)
        await self.send(token, call("transfer(address,uint256)", address, value))
        named = bytes.fromhex("a9059cbb" + token[2:])
        await self.announce(address, ephemeral, tag + named + value.to_bytes(32, "big"))
        return address

    async def holds(self, token: str, address: str) -> int:
        data = "0x" + call("balanceOf(address)", address).hex()
        return int(await self.l1.call("eth_call", {"to": token, "data": data}, "latest"), 16)

    async def found(self) -> dict[str, int]:
        """Return his stealth addresses with their private keys, from all announcements there are."""
        wanted = {"address": ANNOUNCER, "topics": [ANNOUNCEMENT], "fromBlock": "0x0", "toBlock": "latest"}
        mine = {}
        for log in await self.l1.call("eth_getLogs", wanted):
            ephemeral, metadata = decode(["bytes", "bytes"], bytes.fromhex(log["data"][2:]))
            try:
                address, tag, key = self.receiver.address(PublicKey(ephemeral))
            except ValueError:
                continue  # somebody's junk
            if metadata[:1].hex() == tag[2:] and int(log["topics"][2], 16) == int(address, 16):
                mine[address] = key
        return mine

    async def balance(self, address: str) -> int:
        return int(await self.l1.call("eth_getBalance", address, "latest"), 16)


def call(signature: str, *values: Any) -> bytes:
    """Return the calldata of a function."""
    types = signature[signature.index("(") + 1 : -1].split(",")
    return keccak(text=signature)[:4] + encode(types, values)


async def receipt_of(l1: L1, transaction_hash: str) -> Any:
    """Wait for the receipt: anvil mines a moment after it took the transaction."""
    async with asyncio.timeout(60):
        while (receipt := await l1.call("eth_getTransactionReceipt", transaction_hash)) is None:  # noqa: ASYNC110  anvil tells nobody
            await asyncio.sleep(0.005)
        return receipt
