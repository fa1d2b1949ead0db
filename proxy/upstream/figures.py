"""What is counted about one node, for the owner's status and the metrics.

Plain numbers on a slotted object, written on the hot path and read when somebody asks; nothing here decides anything.
"""

from __future__ import annotations

from typing import Final

# How much one answer moves the averages.
_LATENCY_SHARE: Final = 0.1
_ERROR_SHARE: Final = 0.05


class NodeFigures:
    """Figures of one node. Counts since the start; `latency` in seconds and `error_rate` (0 to 1) as moving averages.

    `breaker`: "closed" (asked), "open" (not asked) or "half-open" (one question decides). `head`: the newest block it told
    of, `head_lag`: blocks behind the best node (both None while not compared). `last_error`: one sentence, no secret.
    """

    __slots__ = (
        "breaker",
        "error_rate",
        "failures",
        "head",
        "head_lag",
        "in_flight",
        "last_error",
        "latency",
        "reconnects",
        "requests",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.in_flight = 0
        self.reconnects = 0
        self.breaker = "closed"
        self.latency = 0.0
        self.error_rate = 0.0
        self.head: int | None = None
        self.head_lag: int | None = None
        self.last_error: str | None = None

    def answered(self, seconds: float) -> None:
        """Count an answer that took `seconds`."""
        self.latency += (seconds - self.latency) * _LATENCY_SHARE if self.latency else seconds
        if self.error_rate:
            self.error_rate -= self.error_rate * _ERROR_SHARE

    def failed(self, reason: str) -> None:
        """Count a request that the node did not answer."""
        self.failures += 1
        self.last_error = reason
        self.error_rate += (1 - self.error_rate) * _ERROR_SHARE
