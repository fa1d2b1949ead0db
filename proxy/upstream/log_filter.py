"""What a filter object of a caller means: which logs, and of which blocks; and its normal form, so that equal wishes are one.

Read by `subscriptions` here and by the filter methods. Refuses with -32602 what a node would refuse, before a node is asked. No I/O.
Source: execution-apis `Filter`; geth's FilterCriteria for what an empty list and a null inside of a list mean (anything).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from middleware.errors import InvalidParams

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")
_MOST_TOPICS = 4
_NEWEST = ("latest", "pending")
_PAST = ("safe", "finalized")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """`criteria`: address and topics in normal form, as `eth_getLogs` takes them. `lowest`, `highest`: the blocks whose logs are
    told (None: no end). `block_hash`: one block alone, so that nothing new can match.
    """

    criteria: dict[str, Any]
    lowest: int = 0
    highest: int | None = None
    block_hash: str | None = None

    def takes(self, number: int) -> bool:
        """Tell whether logs of block `number` are within the bounds."""
        if self.block_hash is not None:
            return False
        return number >= self.lowest and (self.highest is None or number <= self.highest)


def read_filter(given: Any) -> LogFilter:
    """Return what a filter object means. Raise -32602 naming the member that cannot be read."""
    if not isinstance(given, dict):
        raise InvalidParams("0", "a filter object", given)
    criteria: dict[str, Any] = {}
    if (address := _address(given.get("address"))) is not None:
        criteria["address"] = address
    if topics := _topics(given.get("topics")):
        criteria["topics"] = topics
    if given.get("blockHash") is not None:
        return LogFilter(criteria, block_hash=_block_hash(given))
    lowest, highest = _lowest(given.get("fromBlock")), _highest(given.get("toBlock"))
    if highest is not None and highest < lowest:
        raise InvalidParams("toBlock", "a block not before fromBlock", given["toBlock"])
    return LogFilter(criteria, lowest, highest)


def _address(given: Any) -> str | list[str] | None:
    if given is None:
        return None
    wanted = given if isinstance(given, list) else [given]
    for index, one in enumerate(wanted):
        if not isinstance(one, str) or _ADDRESS.fullmatch(one) is None:
            path = f"address.{index}" if isinstance(given, list) else "address"
            raise InvalidParams(path, "an address of 20 bytes as 0x data", one)
    return _one_or_many(wanted)


def _topics(given: Any) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > _MOST_TOPICS:
        raise InvalidParams("topics", f"an array of {_MOST_TOPICS} positions at most", given)
    return [_position(index, one) for index, one in enumerate(given)]


def _position(index: int, given: Any) -> str | list[str] | None:
    """Return one position; null for anything. It stays where it is: a log must have as many topics as there are positions."""
    if given is None:
        return None
    wanted = given if isinstance(given, list) else [given]
    for inner, one in enumerate(wanted):
        if one is not None and (not isinstance(one, str) or _WORD.fullmatch(one) is None):
            path = f"topics.{index}.{inner}" if isinstance(given, list) else f"topics.{index}"
            raise InvalidParams(path, "a topic of 32 bytes as 0x data, or null", one)
    return None if None in wanted else _one_or_many(wanted)


def _one_or_many(wanted: list[str]) -> str | list[str] | None:
    different = sorted({one.lower() for one in wanted})
    return (different[0] if len(different) == 1 else different) if different else None


def _block_hash(given: dict[str, Any]) -> str:
    for name in ("fromBlock", "toBlock"):
        if given.get(name) is not None:
            raise InvalidParams(name, "nothing beside blockHash: one block, or a range of blocks", given[name])
    block_hash = given["blockHash"]
    if not isinstance(block_hash, str) or _WORD.fullmatch(block_hash) is None:
        raise InvalidParams("blockHash", "a block hash of 32 bytes as 0x data", block_hash)
    return block_hash.lower()


def _lowest(given: Any) -> int:
    if given is None or given in _NEWEST or given in _PAST or given == "earliest":
        return 0  # what is new is above all of these
    return _number("fromBlock", given, "a block number as 0x quantity, or a tag")


def _highest(given: Any) -> int | None:
    if given is None or given in _NEWEST:
        return None
    if given == "earliest":
        return 0
    return _number("toBlock", given, 'a block number as 0x quantity, "latest", or nothing: a filter is told new blocks')


def _number(name: str, given: Any, expected: str) -> int:
    if not isinstance(given, str) or _QUANTITY.fullmatch(given) is None:
        raise InvalidParams(name, expected, given)
    return int(given, 16)
