"""What the metrics show of following the chain, counted where it happens and read when somebody scrapes.

`L1.blocks.figures`. Counts since the start, but `shared` and `node_subscriptions`, which say how many there are now.
"""

from __future__ import annotations


class ChainFigures:
    """Plain numbers; nobody waits for them."""

    __slots__ = ("announced", "delivered", "heads", "looks", "node_subscriptions", "reorgs", "shared")

    def __init__(self) -> None:
        self.heads = 0
        self.reorgs = 0
        self.looks = 0  # questions for the newest block
        self.announced = 0  # headers the node pushed
        self.delivered = 0  # results handed to receivers of subscriptions
        self.shared = 0  # now: different subscriptions that callers have
        self.node_subscriptions = 0  # now: subscriptions held at the node
