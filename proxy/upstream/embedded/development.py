"""What only development nodes do: mine on demand, jump in time, go back to a snapshot, edit state.

Names and answers follow anvil and Hardhat, so that test suites written for them run. The proxy serves these under `--dev` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_typing import Address

from proxy.upstream.embedded.errors import invalid_params, refused
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import loose_integer
from proxy.upstream.embedded.wire import quantity

_MAX_BLOCKS = 10_000
_LATEST_TIME = 2**63


def mine_options(value: Any) -> int | None:
    """Read evm_mine's parameter: a time for the block, or an object with `timestamp`."""
    if isinstance(value, Mapping):
        return None if value.get("timestamp") is None else loose_integer(value["timestamp"])
    return loose_integer(value)


def mine(node: Node, timestamp: int | None) -> str:
    """Mine one block with all that waits."""
    if timestamp is not None:
        next_timestamp(node, timestamp)
    node.mine()
    return "0x0"


def mine_many(node: Node, blocks: int, interval: int) -> None:
    """Mine blocks, `interval` seconds apart if given; at most 10,000 in one call, so that nobody else waits long."""
    if blocks > _MAX_BLOCKS:
        raise invalid_params(f"expected at most {_MAX_BLOCKS} blocks in one call, got {blocks}")
    _check_time(node.chain.head.header.timestamp + blocks * interval)
    node.mine(blocks, interval)


def snapshot(node: Node) -> str:
    """Take a snapshot."""
    return quantity(node.snapshot())


def revert(node: Node, number: int) -> bool:
    """Go back to a snapshot; false if there is none of that number."""
    return node.revert(number)


def increase_time(node: Node, seconds: int) -> int:
    """Let the clock of blocks jump; answers the sum of all jumps."""
    _check_time(node.chain.head.header.timestamp + node.clock.offset + seconds)
    node.clock.offset += seconds
    return node.clock.offset


def next_timestamp(node: Node, timestamp: int) -> None:
    """Set the time of the next block, which must be later than the newest block's."""
    newest = node.chain.head.header.timestamp
    if timestamp <= newest:
        raise refused(f"timestamp error: {timestamp} is not later than the newest block's {newest}")
    _check_time(timestamp)
    node.clock.exact = timestamp


def _check_time(timestamp: int) -> None:
    if timestamp >= _LATEST_TIME:
        raise invalid_params(f"expected a time below 2**63 seconds, got {timestamp}")


def set_automine(node: Node, enabled: bool) -> bool:
    """Mine accepted transactions at once, or let them wait for evm_mine; enabling mines what waits."""
    node.automine = enabled
    if enabled and any(True for _ in node.pool):
        node.mine()
    return True


def set_balance(node: Node, account: bytes, wei: int) -> None:
    """Set a balance, without a block."""
    _check_word("wei", wei, 256)
    node.edit_state(lambda state: state.set_balance(Address(account), wei))


def set_code(node: Node, account: bytes, code: bytes) -> None:
    """Set deployed code, without a block."""
    node.edit_state(lambda state: state.set_code(Address(account), code))


def set_nonce(node: Node, account: bytes, nonce: int) -> None:
    """Set a nonce, without a block."""
    _check_word("nonce", nonce, 64)
    node.edit_state(lambda state: state.set_nonce(Address(account), nonce))


def set_storage(node: Node, account: bytes, slot: int, value: bytes) -> bool:
    """Set one storage word, without a block."""
    node.edit_state(lambda state: state.set_storage(Address(account), slot, int.from_bytes(value, "big")))
    return True


def _check_word(name: str, value: int, bits: int) -> None:
    if value >> bits:
        raise invalid_params(f"{name}: expected at most {bits} bits, got {value:#x}")
