"""Params of node calls read strictly, for links that decide by them: what is spelled oddly is not understood at all.

Nodes disagree on duplicate members, on the case of names and on spellings of numbers. Whoever decides by params (how long an
answer holds, how a range is cut) must read what every node reads, so anything but the one plain spelling gives None and the
request goes on untouched. Spellings: execution-apis, "BlockNumberOrTagOrHash"; EIP-1898.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

import msgspec

_items = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NUMBER = re.compile(rb'"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})"')
_HASH = re.compile(rb'"0x[0-9a-fA-F]{64}"')
_TAGS = {b'"latest"': "latest", b'"safe"': "safe", b'"finalized"': "finalized", b'"earliest"': "earliest"}
BY_HASH = "hash"

BlockName: TypeAlias = int | str
"""A height; "latest", "safe", "finalized", "earliest"; or "hash": one certain block."""


def items(params: bytes) -> list[bytes] | None:
    """Return the raw params by position; None for params by name or what is no JSON."""
    if not params:
        return []
    try:
        return [bytes(item) for item in _items.decode(params)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def members(raw: bytes, known: frozenset[str]) -> dict[str, bytes] | None:
    """Return the raw members of an object; None if one stands twice or is not `known`."""
    try:
        found = _members.decode(raw)
        pairs: Any = json.loads(raw, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    if len(pairs) != len(found) or not known.issuperset(found):
        return None
    return {name: bytes(value).strip() for name, value in found.items()}


def block_named(raw: bytes) -> BlockName | None:
    """Return which block a raw param names; None for "pending" and every unusual spelling. Absent and null mean the latest."""
    if raw in (b"", b"null"):
        return "latest"
    if tag := _TAGS.get(raw):
        return tag
    if match := _NUMBER.fullmatch(raw):
        return int(match[1], 16)
    if _HASH.fullmatch(raw):
        return BY_HASH
    return _block_in_object(raw) if raw.startswith(b"{") else None


_EIP_1898 = frozenset({"blockHash", "blockNumber", "requireCanonical"})


def _block_in_object(raw: bytes) -> BlockName | None:
    found = members(raw, _EIP_1898)
    if found is None:
        return None
    if found.keys() == {"blockNumber"}:
        named = block_named(found["blockNumber"])
        return None if named == BY_HASH or found["blockNumber"].startswith((b"{", b"n")) else named
    if not _HASH.fullmatch(found.get("blockHash", b"")) or "blockNumber" in found:
        return None
    # Whether a block is canonical changes; which block it is does not.
    return "latest" if found.get("requireCanonical", b"false") != b"false" else BY_HASH
