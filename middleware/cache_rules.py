"""How long the answer to one request holds: the rules of the cache, without the cache.

Asked by `cache` once a node has answered. Pure: what is known of the chain is handed in. A method without a rule is never
remembered: sends, estimates, pending state, filters, subscriptions and all that nobody thought about. An answer may be
remembered for less time than it holds, never for more. peers.md 3, "Caching that is safe"; EIP-1898 for blocks by hash.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from middleware.call_params import BY_HASH, BlockName, block_named, items, members
from middleware.epoch import Blocks, Head


class Holds(enum.Enum):
    """How long an answer holds."""

    EVER = "ever"
    HEAD = "head"  # while the newest block stays what it is
    SAFE = "safe"  # while the head and the safe block stay
    FINALIZED = "finalized"


Rule: TypeAlias = Callable[[list[bytes], msgspec.Raw, Blocks], Holds | None]
"""Params by position, the raw result and what is known of the chain in; None: not to be remembered."""

_EMPTY = (b"[]", b"{}")


class _Placed(msgspec.Struct):
    blockNumber: str | None = None  # noqa: N815  (the name in the answer)


_placed = msgspec.json.Decoder(_Placed)


def holds(method: str, params: bytes, result: msgspec.Raw, blocks: Blocks) -> Holds | None:
    """Return how long a result (not null, no error) of `method` holds; None: it may not be remembered."""
    rule = RULES.get(method)
    given = items(params)
    if rule is None or given is None or blocks.head is None:
        return None
    found = rule(given, result, blocks)
    # "Nothing" is also what a node says that has not caught up yet.
    return Holds.HEAD if found is Holds.EVER and bytes(result) in _EMPTY else found


def _always(given: list[bytes], result: msgspec.Raw, blocks: Blocks) -> Holds | None:
    return Holds.EVER


def _at(position: int) -> Rule:
    """Return the rule of a method that names its block in one place."""

    def rule(given: list[bytes], result: msgspec.Raw, blocks: Blocks) -> Holds | None:
        return _of_block(block_named(given[position] if len(given) > position else b""), blocks)

    return rule


def _numbered_block(given: list[bytes], result: msgspec.Raw, blocks: Blocks) -> Holds | None:
    """Answer for eth_getBlockByNumber: the latest block is always asked for, it tells what else is old."""
    named = block_named(given[0] if given else b"")
    return None if named == "latest" else _of_block(named, blocks)


def _of_transaction(given: list[bytes], result: msgspec.Raw, blocks: Blocks) -> Holds | None:
    try:
        number = _placed.decode(result).blockNumber
        return None if number is None else _of_block(int(number, 16), blocks)
    except (msgspec.DecodeError, ValueError):
        return None


_FILTER = frozenset({"address", "topics", "fromBlock", "toBlock", "blockHash"})


def _of_logs(given: list[bytes], result: msgspec.Raw, blocks: Blocks) -> Holds | None:
    asked = members(given[0], _FILTER) if len(given) == 1 else None
    if asked is None:
        return None
    if "blockHash" in asked:
        alone = asked.keys().isdisjoint({"fromBlock", "toBlock"})
        return _of_block(block_named(asked["blockHash"]), blocks) if alone else None
    ends = [_of_block(block_named(asked.get(end, b"")), blocks) for end in ("fromBlock", "toBlock")]
    if None in ends or {Holds.SAFE, Holds.FINALIZED}.issubset(ends):
        return None
    return next((end for end in (Holds.HEAD, Holds.SAFE, Holds.FINALIZED) if end in ends), Holds.EVER)


def _of_block(named: BlockName | None, blocks: Blocks) -> Holds | None:
    match named:
        case None:
            return None
        case "latest":
            return Holds.HEAD
        case "safe":
            return Holds.SAFE if blocks.safe else None
        case "finalized":
            return Holds.FINALIZED if blocks.finalized else None
        case int():
            return _of_height(named, blocks.finalized, blocks.head)
        case _:
            return Holds.EVER if named == BY_HASH else _of_height(0, blocks.finalized, blocks.head)


def _of_height(number: int, finalized: Head | None, head: Head | None) -> Holds | None:
    if finalized is not None and number <= finalized.number:
        return Holds.EVER
    return Holds.HEAD if head is not None and number <= head.number else None


RULES: dict[str, Rule] = {
    **dict.fromkeys(("eth_chainId", "net_version", "web3_sha3"), _always),
    **dict.fromkeys(("eth_getTransactionByHash", "eth_getTransactionReceipt"), _of_transaction),
    **dict.fromkeys(
        (
            *("eth_getBlockByHash", "eth_getBlockReceipts", "eth_getBlockTransactionCountByHash"),
            *("eth_getBlockTransactionCountByNumber", "eth_getTransactionByBlockHashAndIndex"),
            *("eth_getTransactionByBlockNumberAndIndex", "eth_getUncleByBlockHashAndIndex"),
            *("eth_getUncleByBlockNumberAndIndex", "eth_getUncleCountByBlockHash", "eth_getUncleCountByBlockNumber"),
        ),
        _at(0),
    ),
    **dict.fromkeys(("eth_call", "eth_feeHistory", "eth_getBalance", "eth_getCode", "eth_getTransactionCount"), _at(1)),
    **dict.fromkeys(("eth_getProof", "eth_getStorageAt"), _at(2)),
    "eth_getBlockByNumber": _numbered_block,
    "eth_getLogs": _of_logs,
}
"""Every method whose answers may be remembered."""

TELLS_BLOCKS = frozenset(
    {
        *("eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getLogs"),
        *("eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_sendRawTransactionSync"),
    }
)
"""Methods whose answers show how far the node's chain goes."""

_READS = ("eth_", "net_", "web3_", "debug_", "trace_", "txpool_", "l2_", "wallet_", "personal_", "rpc.")


def rewrites(method: str) -> bool:
    """Tell whether `method` may change history or state at will: a developer's namespace, or one nobody here knows."""
    return method.lower().startswith("debug_sethead") or not method.startswith(_READS)


def sends(method: str) -> bool:
    """Tell whether `method` may put something on the chain."""
    return method.startswith(("eth_send", "eth_submit")) or method == "l2_invoke"
