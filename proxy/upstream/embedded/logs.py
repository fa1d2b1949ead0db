"""eth_getLogs: which logs of which blocks.

Source: execution-apis Filter; EIP-234 (blockHash). Logs are kept in wire form since sealing, so matching compares lower-case hex.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from proxy.upstream.embedded.chain import Sealed
from proxy.upstream.embedded.errors import NodeError, invalid_params, refused
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import BlockRef, address, block_tag_or_number, hash32, shown
from proxy.upstream.embedded.wire import Wire, data

_MAX_TOPICS = 4


@dataclass(frozen=True)
class LogFilter:
    """A filter as asked for: no addresses means any; a topic position None means any; `block` excludes the range."""

    block: bytes | None
    first: BlockRef
    last: BlockRef
    addresses: frozenset[str]
    topics: tuple[frozenset[str] | None, ...]

    def matches(self, log: Wire) -> bool:
        """Tell whether a log passes."""
        if self.addresses and log["address"] not in self.addresses:
            return False
        topics = cast(list[str], log["topics"])
        if len(topics) < len(self.topics):
            return False
        return all(wanted is None or topic in wanted for wanted, topic in zip(self.topics, topics, strict=False))


def log_filter(value: Any) -> LogFilter:
    """Read a filter object. Raises NodeError -32602."""
    if not isinstance(value, Mapping):
        raise invalid_params(f"expected a filter object, got {shown(value)}")
    block, first, last = (value.get(name) for name in ("blockHash", "fromBlock", "toBlock"))
    if block is not None and (first is not None or last is not None):
        raise invalid_params("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    return LogFilter(
        block=None if block is None else hash32(block),
        first="latest" if first is None else block_tag_or_number(first),
        last="latest" if last is None else block_tag_or_number(last),
        addresses=_addresses(value.get("address")),
        topics=_topics(value.get("topics")),
    )


def _addresses(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset(data(address(entry)) for entry in (value if isinstance(value, list) else [value]))


def _topics(value: Any) -> tuple[frozenset[str] | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid_params(f"expected topics as an array, got {shown(value)}")
    if len(value) > _MAX_TOPICS:
        raise invalid_params(f"exceed max topics: {len(value)} given, a log has at most {_MAX_TOPICS}")
    topics = [_alternatives(entry) for entry in value]
    return tuple(topics)


def _alternatives(entry: Any) -> frozenset[str] | None:
    alternatives = entry if isinstance(entry, list) else [entry]
    # A null among the alternatives, or none at all, lets every topic pass.
    if not alternatives or None in alternatives:
        return None
    return frozenset(data(hash32(topic)) for topic in alternatives)


def get_logs(node: Node, wanted: LogFilter) -> list[Wire]:
    """Return the logs that pass, oldest first. Raises NodeError for an unknown block hash or a range turned round."""
    return [log for sealed in _blocks(node, wanted) for log in _logs(sealed) if wanted.matches(log)]


def _logs(sealed: Sealed) -> Iterator[Wire]:
    for receipt in sealed.receipts:
        yield from cast(list[Wire], receipt["logs"])


def _blocks(node: Node, wanted: LogFilter) -> list[Sealed]:
    if wanted.block is not None:
        sealed = node.chain.find(wanted.block)
        if sealed is None:
            raise refused("unknown block")
        return [sealed]
    first, last = _number(node, wanted.first), _number(node, wanted.last)
    if first > last:
        raise NodeError(-32602, "invalid block range params")
    return node.chain.range(first, last)


def _number(node: Node, ref: BlockRef) -> int:
    """Return the height of a tag; a number stands for itself, whether the chain has reached it or not."""
    if isinstance(ref, int):
        return ref
    return 0 if ref == "earliest" else node.chain.head.number
