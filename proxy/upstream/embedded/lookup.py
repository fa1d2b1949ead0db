"""Blocks, transactions and receipts by number, hash or place. What does not exist is null, never an error."""

from __future__ import annotations

from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import BlockRef
from proxy.upstream.embedded.wire import Wire, data, quantity
from proxy.upstream.embedded.wire_block import wire_block
from proxy.upstream.embedded.wire_transaction import wire_transaction


def block_number(node: Node) -> str:
    """Return the number of the newest block."""
    return quantity(node.chain.head.number)


def get_block(node: Node, ref: BlockRef, full: bool) -> Wire | None:
    """Return a block, with whole transactions if `full`."""
    sealed = node.sealed(ref)
    return None if sealed is None else wire_block(sealed, full=full)


def block_receipts(node: Node, ref: BlockRef) -> list[Wire] | None:
    """Return every receipt of a block."""
    sealed = node.sealed(ref)
    return None if sealed is None else sealed.receipts


def transaction_count(node: Node, ref: BlockRef) -> str | None:
    """Return how many transactions a block has."""
    sealed = node.sealed(ref)
    return None if sealed is None else quantity(len(sealed.transactions))


def uncle_count(node: Node, ref: BlockRef) -> str | None:
    """Return zero for every block there is: the merge ended uncles."""
    return None if node.sealed(ref) is None else quantity(0)


def uncle(node: Node, ref: BlockRef, index: int) -> None:
    """Return nothing, as for every block since the merge."""


def transaction(node: Node, wanted: bytes) -> Wire | None:
    """Return a transaction, mined or waiting."""
    place = node.chain.locate(wanted)
    if place is not None:
        return place[0].transactions[place[1]]
    waiting = node.pool.find(wanted)
    return None if waiting is None else wire_transaction(waiting)


def transaction_at(node: Node, ref: BlockRef, index: int) -> Wire | None:
    """Return the transaction at an index of a block."""
    sealed = node.sealed(ref)
    return sealed.transactions[index] if sealed is not None and index < len(sealed.transactions) else None


def raw_transaction(node: Node, wanted: bytes) -> str | None:
    """Return a transaction as its sender signed and encoded it."""
    place = node.chain.locate(wanted)
    found = node.pool.find(wanted) if place is None else place[0].block.transactions[place[1]]
    return None if found is None else data(found.encode())


def receipt(node: Node, wanted: bytes) -> Wire | None:
    """Return the receipt of a mined transaction."""
    place = node.chain.locate(wanted)
    return None if place is None else place[0].receipts[place[1]]
