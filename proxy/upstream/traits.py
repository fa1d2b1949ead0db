"""What is known of a method on its way to the node, looked up once a name: its spelling in the envelope, how long it may take.

Read by the transports and by `L1` on the hot path.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from proxy.upstream.repeatable import may_repeat

# Calls that take a node long, or that it answers at length: they get connections of their own, so that they delay nobody.
_LONG_PREFIXES: Final = ("trace_", "debug_", "arbtrace_", "erigon_", "ots_")
_LONG: Final = frozenset({
    *("eth_getLogs", "eth_getFilterLogs", "eth_getBlockReceipts", "eth_simulateV1", "eth_simulateBundle"),
    *("eth_sendRawTransactionSync", "txpool_content", "txpool_inspect", "anvil_dumpState", "anvil_loadState", "anvil_mine", "hardhat_mine"),
})  # fmt: skip


class Traits(NamedTuple):
    """What is known of one method. `member`: the text between the id and the params in the envelope."""

    member: bytes
    repeatable: bool
    long: bool
    same_bytes: bool  # sending the same params once more does nothing more: eth_sendRawTransaction
    elsewhere: bool  # another node may be asked what one was asked and has not answered


@lru_cache(maxsize=1024)
def traits(method: str) -> Traits:
    """Return what is known of `method`."""
    repeatable, same_bytes = may_repeat(method), method == "eth_sendRawTransaction"
    return Traits(
        b',"method":' + msgspec.json.encode(method),
        repeatable,
        method in _LONG or method.startswith(_LONG_PREFIXES),
        same_bytes,
        repeatable or same_bytes,
    )
