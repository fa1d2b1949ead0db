"""Blocks as nodes write them: what the proxy reads of one, and how `newHeads` tells it.

Used by `block_tracker` and `settled`. A node pushes the header alone (geth) or the whole block (anvil); a block that was read is told in
the shape the node's own pushes have, so that a subscriber cannot tell which way it came. Source: geth's `types.Header` JSON.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from middleware.errors import Disconnected
from proxy.upstream.chain_events import Head

_BODY_MEMBERS = ("transactions", "uncles", "size", "totalDifficulty", "withdrawals")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")


class Pushed(msgspec.Struct, frozen=True):
    """A header a node pushed: `whole` where the body came with it."""

    head: Head
    whole: bool


class _Header(msgspec.Struct):
    number: str
    hash: str
    parent_hash: str = msgspec.field(name="parentHash")
    timestamp: str
    transactions: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_pushed(header: bytes) -> Pushed | None:
    """Return what a pushed header (raw JSON) says; None for what is none."""
    try:
        fields = msgspec.json.decode(header, type=_Header)
        head = _head(fields.number, fields.hash, fields.parent_hash, fields.timestamp)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return Pushed(head, fields.transactions is not msgspec.UNSET)


def read_head(block: Any, method: str) -> Head:
    """Return the head in the answer to `method`. Raise `Disconnected` when it is none."""
    try:
        return _head(block["number"], block["hash"], block["parentHash"], block["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        raise Disconnected(f"the L1 node answered {method} with something that is not a block") from error


def as_pushed(block: dict[str, Any], *, whole: bool) -> bytes:
    """Return a block that was read as `newHeads` tells it; `whole`: as a node that pushes bodies does."""
    if whole:
        return msgspec.json.encode(block)
    return msgspec.json.encode({name: value for name, value in block.items() if name not in _BODY_MEMBERS})


def _head(number: str, block_hash: str, parent_hash: str, timestamp: str) -> Head:
    """Return a head of members as a node wrote them. Raise `TypeError` or `ValueError`: all that is decided by it relies on them."""
    if not (_QUANTITY.fullmatch(number) and _QUANTITY.fullmatch(timestamp)):
        raise ValueError("a quantity that is none, or above 64 bits")
    if not (_HASH.fullmatch(block_hash) and _HASH.fullmatch(parent_hash)):
        raise ValueError("a hash that is none")
    return Head(int(number, 16), block_hash, parent_hash, int(timestamp, 16))
