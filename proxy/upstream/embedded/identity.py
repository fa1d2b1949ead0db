"""What the node says about itself: chain id, client, and that it neither syncs, mines on demand of others, nor holds keys."""

from __future__ import annotations

from eth_utils.crypto import keccak

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.genesis import client_version
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.wire import data, quantity


def client(node: Node) -> str:
    """Name the client."""
    return client_version()


def sha3(node: Node, value: bytes) -> str:
    """Return keccak-256."""
    return data(keccak(value))


def network(node: Node) -> str:
    """Return the network id: the chain id as a decimal string."""
    return str(CHAIN_ID)


def listening(node: Node) -> bool:
    """Say that the node answers."""
    return True


def peers(node: Node) -> str:
    """Say that there are no peers."""
    return quantity(0)


def chain_id(node: Node) -> str:
    """Return the chain id."""
    return quantity(CHAIN_ID)


def syncing(node: Node) -> bool:
    """Say that nothing is being synced."""
    return False


def accounts(node: Node) -> list[str]:
    """Return no accounts: this node signs nothing."""
    return []


def mining(node: Node) -> bool:
    """Say whether accepted transactions are mined at once."""
    return node.automine
