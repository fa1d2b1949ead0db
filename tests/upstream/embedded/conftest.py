"""What the tests of the embedded L1 share: nodes to ask, signed transactions, and a contract that does and fails everything."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth import EVM_RECURSION_LIMIT
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.dispatch import answer
from proxy.upstream.embedded.node import Node
from tests.conftest import start_anvil

ETHER = 10**18
GWEI = 10**9

# Accounts 0 and 1 of the phrase every test tool knows; anvil funds them with the same sum.
OWNER: LocalAccount = Account.from_key("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
OTHER: LocalAccount = Account.from_key("0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")
FUND = {bytes.fromhex(account.address[2:]): 10_000 * ETHER for account in (OWNER, OTHER)}

Response = dict[str, Any]


@dataclass
class Rpc:
    """A node to ask; `result` insists on a result, `error` on an error."""

    exchange: Callable[[Any], Awaitable[Any]]

    async def ask(self, method: str, *params: object) -> Response:
        response: Response = await self.exchange({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        assert (response["id"], response["jsonrpc"]) == (1, "2.0")
        return response

    async def result(self, method: str, *params: object) -> Any:
        response = await self.ask(method, *params)
        assert "error" not in response, f"{method}: {response}"
        return response["result"]

    async def error(self, method: str, *params: object) -> dict[str, Any]:
        response = await self.ask(method, *params)
        assert "result" not in response, f"{method}: {response}"
        error: dict[str, Any] = response["error"]
        return error

    async def mined(self, raw: str) -> dict[str, Any]:
        """Send a signed transaction and return its receipt; anvil mines a moment after it has answered."""
        sent = await self.result("eth_sendRawTransaction", raw)
        async with asyncio.timeout(60):
            while (receipt := await self.result("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        found: dict[str, Any] = receipt
        return found


def asking(node: Node) -> Rpc:
    """Ask a node in this process, through the same bytes as its socket."""

    async def exchange(request: Any) -> Any:
        response = answer(node, json.dumps(request).encode())
        return None if response is None else json.loads(response)

    return Rpc(exchange)


@pytest.fixture(autouse=True)
def _usual_recursion() -> None:
    """What py-evm sets where it is imported, as in the embedded L1's own process: at less, calls fail that need not."""
    sys.setrecursionlimit(EVM_RECURSION_LIMIT)


@pytest.fixture
def node() -> Node:
    """A fresh embedded node with two funded accounts."""
    return Node(FUND)


@pytest.fixture
def rpc(node: Node) -> Rpc:
    """The fresh node, to ask."""
    return asking(node)


@pytest.fixture
async def anvil_rpc(anvil_binary: Path) -> AsyncIterator[Rpc]:
    """A fresh anvil of the same chain id and accounts.

    Its base fee option counts for block 1, where the embedded L1 has the fee that EIP-1559 derives from an empty genesis at 1 gwei.
    """
    option = ("--base-fee", str(GWEI * 7 // 8))
    async with start_anvil(anvil_binary, CHAIN_ID, *option) as running, aiohttp.ClientSession() as session:

        async def exchange(request: Any) -> Any:
            async with session.post(running.http, json=request) as response:
                return await response.json()

        yield Rpc(exchange)


@dataclass
class Probe:
    """The contract of Probe.sol."""

    bytecode: str
    selectors: dict[str, str]
    abi: list[dict[str, Any]] = field(repr=False)

    def call(self, name: str, *words: int, tail: str = "") -> str:
        """Encode a call of a function with 32-byte words."""
        selector = next(value for key, value in self.selectors.items() if key.startswith(name + "("))
        return "0x" + selector + "".join(f"{word:064x}" for word in words) + tail

    def store(self, value: int) -> str:
        """Encode store(value, "note")."""
        return self.call("store", value, 64, 4, tail=b"note".hex().ljust(64, "0"))


@pytest.fixture(scope="session")
def probe() -> Probe:
    """The compiled contract; `Probe.json` is what solc 0.8.37 makes of Probe.sol for cancun."""
    return Probe(**json.loads((Path(__file__).parent / "Probe.json").read_text()))


def sign(account: LocalAccount = OWNER, /, **fields: Any) -> str:
    """Sign a transaction of type 2 unless gasPrice is named; returns raw data."""
    base: dict[str, Any] = {"chainId": CHAIN_ID, "value": 0, "gas": 21_000, "data": b""} | fields
    if "gasPrice" not in base:
        base = {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI} | base
    base = {name: value for name, value in base.items() if value is not None}
    if "to" in base:
        base["to"] = to_checksum_address(base["to"])
    return "0x" + bytes(account.sign_transaction(base).raw_transaction).hex()
