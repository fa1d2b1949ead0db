"""Which chain a node serves, and the pin that binds a data directory to one.

Read by `Node` on every new connection and compared by `L1` with the pin (`chain.json`): chain id and genesis hash, for money and
permissions of one chain mean something else on another (rpc.md, "Config"; security.md 8). Also decides what a dev node is (hardening.md 7).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import Disconnected, RpcError, shorten
from middleware.waist import NodeReply
from proxy.storage.files import write_atomic
from proxy.upstream.addresses import Address
from proxy.upstream.failures import Unreachable
from proxy.upstream.known_chains import public_name
from proxy.upstream.node_socket import Ask, in_memory

_DEV_NAMES = ("anvil", "hardhatnetwork", "ganache", "ethereumjs testrpc")


class BadPin(Exception):
    """`chain.json` cannot be read; one sentence for the owner."""


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """One L1 chain. `genesis`: hash of block 0 (0x + 64 hex); `is_dev` per hardening.md 7, which takes the node's place into account."""

    chain_id: int
    genesis: str
    client_version: str
    is_dev: bool

    def same_chain(self, other: ChainIdentity) -> bool:
        """Tell whether both are one chain; the node's software may differ."""
        return (self.chain_id, self.genesis) == (other.chain_id, other.genesis)

    def __str__(self) -> str:
        return f"chain {self.chain_id} with genesis {self.genesis}"


async def read_identity(ask: Ask, address: Address) -> ChainIdentity:
    """Ask one connection of the node at `address` which chain it serves. Raise `Unreachable` when it does not tell."""
    chain_id = _quantity(await _result(ask, "eth_chainId", []))
    genesis = _block_hash(await _result(ask, "eth_getBlockByNumber", ["0x0", False]))
    try:
        version = await _result(ask, "web3_clientVersion", [])
    except Unreachable:
        version = ""  # some hosted nodes hide it; nothing but a dev node needs it
    text = version if isinstance(version, str) else ""
    return ChainIdentity(chain_id, genesis, shorten(text, 200), is_dev_node(address, text, chain_id))


def is_dev_node(address: Address, client_version: str, chain_id: int) -> bool:
    """Tell whether this is a developer's throw-away chain: near, of a known dev kind, and of no public chain id."""
    name = client_version.lower()
    kind = name.startswith(_DEV_NAMES) or "eth-tester" in name
    return address.local and kind and public_name(chain_id) is None


def announces_bodies(client_version: str) -> bool:
    """Tell whether nodes of this kind push whole blocks to `newHeads`, and not headers alone."""
    return client_version.lower().startswith("anvil")


def read_pin(path: Path) -> ChainIdentity | None:
    """Return the chain the data directory belongs to; None when it belongs to none yet. Raise `BadPin`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ChainIdentity)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise BadPin(
            f"{path} does not say which chain this data directory belongs to ({error}); restore it from a backup"
        ) from error


def write_pin(path: Path, identity: ChainIdentity) -> None:
    """Bind the data directory to `identity`, whole or not at all."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(asdict(identity))) + b"\n")


async def _result(ask: Ask, method: str, params: list[Any]) -> Any:
    try:
        return NodeReply(in_memory(await ask(method, params))).result()
    except Disconnected as error:
        raise Unreachable(f"it does not say which chain it serves: {method} was not answered with JSON-RPC") from error
    except RpcError as error:
        raise Unreachable(
            f"it does not say which chain it serves: {method} failed with {shorten(error.message)}"
        ) from error


def _quantity(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise Unreachable(f"it does not say which chain it serves: eth_chainId is {shorten(value)}") from error


def _block_hash(block: Any) -> str:
    found = block.get("hash") if isinstance(block, dict) else None
    if not isinstance(found, str) or len(found) != 66 or not found.startswith("0x"):
        raise Unreachable(f"it does not say which chain it serves: its genesis block has no hash, {shorten(found)}")
    return found.lower()
