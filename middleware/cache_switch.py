"""Whether answers may be remembered and shared at this moment: what the owner set, and what kind of node answers.

Asked by the cache and by in-flight sharing on every call, so it looks at the L1 side seldom and remembers. Off while no node
can be asked: a caller must hear 4900 then, not yesterday's answer. peers.md 3: off by default on dev nodes, whose history
anybody may rewrite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

_LOOKS: Final = 0.1  # seconds between looks at the L1 side
_THROWAWAY: Final = ("anvil", "hardhat", "ganache", "ethereumjs", "eth-tester", "foundry", "tenderly", "buildbear")
_THROWAWAY_CHAINS: Final = frozenset({1337, 31337})


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the L1 side. `throwaway`: some node of it may rewrite history at a developer's word."""

    reachable: bool
    throwaway: bool


def is_throwaway(client_versions: Iterable[str], chain_id: int) -> bool:
    """Tell whether a node is a developer's, by its own words; a fork of a public chain has that chain's id."""
    return chain_id in _THROWAWAY_CHAINS or any(
        name in version.lower() for version in client_versions for name in _THROWAWAY
    )


class CacheSwitch:
    """`enabled`: [cache] enabled; `standing`: asked at most ten times a second."""

    __slots__ = ("_enabled", "_on", "_standing", "_until", "throwaway")

    def __init__(self, enabled: bool | Literal["auto"], standing: Callable[[], Standing]) -> None:
        self._enabled = enabled
        self._standing = standing
        self._until = 0.0
        self._on = False
        self.throwaway = True

    def on(self, now: float) -> bool:
        """Tell whether answers may be remembered and shared; `now` is `time.monotonic()`."""
        if now >= self._until:
            self._look(now)
        return self._on

    def _look(self, now: float) -> None:
        standing = self._standing()
        self.throwaway = standing.throwaway
        wanted = not standing.throwaway if self._enabled == "auto" else self._enabled
        self._on = wanted and standing.reachable
        self._until = now + _LOOKS
