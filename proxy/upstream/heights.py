"""How far the best of several nodes is: a height counts where the node shows blocks for it, and on the others' chain.

Asked by `L1` between two looks at all nodes; who is far behind the best is passed over (`Node.compared`). So a number alone must never
make the others lag: a node that claims one and shows no block of it, by number and its parent by hash, is passed over itself. One that
is ahead on another branch than those behind it says nothing of how far these are: the order of the config stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from middleware.errors import RpcError
from proxy.upstream.chain_events import Head
from proxy.upstream.failures import NodeFailure
from proxy.upstream.figures import NodeFigures
from proxy.upstream.headers import read_head

# Blocks a node may be behind the best one, and those behind one address behind each other.
LAG: Final = 3
_BRANCH: Final = 64  # blocks below a node's newest on which it agrees with all that are on its chain


class Compared(Protocol):
    """A node as it is seen here."""

    @property
    def figures(self) -> NodeFigures:
        """With the height it claims."""

    async def show(self, method: str, which: str) -> Any:
        """Return a block it shows, decoded. Raise `NodeFailure` or `RpcError`."""

    def doubt(self) -> None:
        """Learn that it does not show what it claims."""


async def best_height(nodes: Sequence[Compared], seconds: float) -> int:
    """Return the greatest height that counts; 0 where there is none. A node has `seconds` to show its blocks."""
    for node in sorted(nodes, key=_height, reverse=True):
        behind = [other for other in nodes if _height(node) - _height(other) > LAG]
        if not behind:
            return _height(node)
        try:
            async with asyncio.timeout(seconds):
                shown = await _shows(node, _height(node) - LAG)
                counts = shown and await _on_one_chain(node, behind)
        except TimeoutError:
            shown = counts = False
        if counts:
            return _height(node)
        if not shown:
            node.doubt()
    return 0


async def _shows(node: Compared, number: int) -> bool:
    """Tell whether `node` has a block of this number, and its parent; asked twice, for the chain may change in between."""
    for _ in range(2):
        block = await _block(node, "eth_getBlockByNumber", hex(number))
        if block is None or block.number != number:
            return False
        parent = await _block(node, "eth_getBlockByHash", block.parent_hash)
        if parent is not None and (parent.number, parent.hash.lower()) == (number - 1, block.parent_hash.lower()):
            return True
    return False


async def _on_one_chain(node: Compared, behind: Sequence[Compared]) -> bool:
    """Tell whether `node` goes on where one of `behind` is; one that does not show its own blocks is no witness."""
    for other in behind:
        number = hex(max(0, _height(other) - _BRANCH))
        theirs = await _block(other, "eth_getBlockByNumber", number)
        ours = await _block(node, "eth_getBlockByNumber", number)
        if theirs is None or (ours is not None and ours.hash == theirs.hash):
            return True
    return False


async def _block(node: Compared, method: str, which: str) -> Head | None:
    try:
        block = await node.show(method, which)
        return None if block is None else read_head(block, method)
    except (NodeFailure, RpcError):
        return None


def _height(node: Compared) -> int:
    return node.figures.head or 0
