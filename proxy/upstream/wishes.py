"""What a caller subscribes to on L1, read and brought into one form, so that equal wishes are one.

Read by `subscriptions`. Refuses with -32602 what a node would refuse. No I/O. Source: geth's pubsub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from middleware.errors import InvalidParams
from proxy.upstream.log_filter import LogFilter, read_filter


@dataclass(frozen=True, slots=True)
class Heads:
    """`newHeads`."""


@dataclass(frozen=True, slots=True)
class Logs:
    """`logs` with a filter."""

    filter: LogFilter


@dataclass(frozen=True, slots=True)
class Pending:
    """`newPendingTransactions`; `whole`: as objects."""

    whole: bool


@dataclass(frozen=True, slots=True)
class Syncing:
    """`syncing`."""


@dataclass(frozen=True, slots=True)
class Other:
    """A kind only the node knows."""

    params: list[Any]


Wish: TypeAlias = Heads | Logs | Pending | Syncing | Other


def read_wish(params: list[Any]) -> Wish:
    """Return what the params of `eth_subscribe` ask for. Raise -32602."""
    match params:
        case ["newHeads", *rest]:
            _nothing_more(rest)
            return Heads()
        case ["logs", *rest]:
            _nothing_more(rest[1:])
            return Logs(_new_logs(rest[0] if rest and rest[0] is not None else {}))
        case ["newPendingTransactions", *rest]:
            _nothing_more(rest[1:])
            whole = rest[0] if rest and rest[0] is not None else False
            if not isinstance(whole, bool):
                raise InvalidParams("1", "true for whole transactions, false or nothing for their hashes", whole)
            return Pending(whole)
        case ["syncing", *rest]:
            _nothing_more(rest)
            return Syncing()
        case [str(), *_]:
            return Other(params)
    raise InvalidParams("0", "newHeads, logs with a filter object, newPendingTransactions or syncing", params)


def key(wish: Wish) -> bytes:
    """Return what two equal wishes have in common."""
    return type(wish).__name__.encode() + msgspec.json.encode(wish, order="deterministic")


def _new_logs(given: Any) -> LogFilter:
    if not isinstance(given, dict):
        raise InvalidParams("1", "a filter object", given)
    wanted = read_filter(given)
    if wanted.block_hash is not None:
        expected = "no blockHash: a subscription tells new logs; ask eth_getLogs for those of one block"
        raise InvalidParams("blockHash", expected, wanted.block_hash)
    return wanted


def _nothing_more(rest: list[Any]) -> None:
    if any(one is not None for one in rest):
        raise InvalidParams("params", "nothing more", rest)
