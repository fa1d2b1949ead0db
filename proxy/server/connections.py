"""How many connections there are, in all and per asker (rpc.md, "Limits").

Every listener for dapps counts here. A connection counts for whoever it last asked as; an asker over its limit is refused
without a word to anybody else.
"""

from __future__ import annotations

from collections import Counter

from middleware.errors import LimitExceeded
from middleware.waist import Origin, OriginKind


class Connections:
    """Counts open connections. `total`, `per_caller` (a token, anonymous, the socket) and `per_site` (a web origin)."""

    def __init__(self, total: int = 2048, per_caller: int = 1024, per_site: int = 64) -> None:
        self._total = total
        self._most = {OriginKind.WEB: ("connections_per_site", per_site)}
        self._otherwise = ("connections_per_caller", per_caller)
        self._open = 0
        self._of: Counter[Origin] = Counter()
        self.cut_off = {"http": 0, "ws": 0, "ipc": 0}  # connections whose reader did not take what it asked for

    def __len__(self) -> int:
        return self._open

    def open(self) -> Connection:
        """Count one more connection, of nobody yet. Raise -32005 when there are too many."""
        if self._open >= self._total:
            raise LimitExceeded("connections", f"{self._total} connections are open ([limits] connections)")
        self._open += 1
        return Connection(self)

    def enter(self, origin: Origin) -> None:
        """Count one more connection of `origin`. Raise -32005 when it has too many."""
        name, most = self._most.get(origin.kind, self._otherwise)
        if self._of[origin] >= most:
            raise LimitExceeded(name, f"{most} connections of {origin} are open ([limits] {name})")
        self._of[origin] += 1

    def leave(self, origin: Origin) -> None:
        """Count one less of `origin`."""
        self._of[origin] -= 1
        if not self._of[origin]:
            del self._of[origin]

    def count_cut_off(self, transport: str) -> None:
        """Count one more that was cut off because its reader took nothing; `transport` is a key of `cut_off`."""
        self.cut_off[transport] += 1

    def ended(self) -> None:
        """Count one less in all."""
        self._open -= 1


class Connection:
    """One counted connection."""

    __slots__ = ("_connections", "_origin")

    def __init__(self, connections: Connections) -> None:
        self._connections: Connections | None = connections
        self._origin: Origin | None = None

    def belongs_to(self, origin: Origin) -> None:
        """Count this connection for `origin` from now on. Raise -32005 when it has too many; then it belongs to nobody."""
        if origin == self._origin or self._connections is None:
            return
        self._forget()
        self._connections.enter(origin)
        self._origin = origin

    def close(self) -> None:
        """Count it no more."""
        if self._connections is not None:
            self._forget()
            self._connections.ended()
            self._connections = None

    def _forget(self) -> None:
        if self._origin is not None and self._connections is not None:
            self._connections.leave(self._origin)
        self._origin = None
