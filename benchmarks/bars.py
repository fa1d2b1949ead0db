"""The table of issue 3: each bar, what it asks, what this run came to. Ratios within one run alone are comparable."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.heads import Heads
from benchmarks.suites import Memory, Table


@dataclass(frozen=True)
class Results:
    """What the suites returned; a suite that was not run is None."""

    throughput: Table | None = None
    headroom: Table | None = None
    cache: Table | None = None
    latency: Table | None = None
    large: Table | None = None
    heads: Heads | None = None
    memory: Memory | None = None


@dataclass(frozen=True)
class Bar:
    """One row. `value` is None where what it needs was not measured."""

    what: str
    least: float
    reach: float
    value: float | None
    less_is_better: bool = False
    whole: bool = False
    unit: str = ""

    @property
    def reached(self) -> str:
        """Say whether the bar is met."""
        if self.value is None:
            return "not measured"
        if self._within(self.reach):
            return "yes, and what it reached for"
        return "yes" if self._within(self.least) else "**no**"

    def written(self, value: float | None) -> str:
        """Write one of the row's numbers: counts and milliseconds whole, ratios with two places."""
        if value is None:
            return "–"
        return f"{value:.0f}{self.unit}" if self.whole else f"{value:.2f}"

    def _within(self, bound: float) -> bool:
        value = 0.0 if self.value is None else round(self.value, 2)
        return value <= bound if self.less_is_better else value >= bound


def bars(results: Results) -> list[Bar]:
    """Return the rows in the issue's order."""
    rate, hit, big = results.throughput, results.cache, results.large
    heads, memory = results.heads, results.memory
    grown = None if memory is None else memory.resident[1] / memory.resident[0]
    return [
        Bar("uncached calls, 32 connections, IPC upstream ÷ nginx", 1.0, 1.5, _ratio(rate, "l2proxy ipc", "nginx")),
        Bar("the same, WebSocket upstream ÷ nginx", 1.0, 1.5, _ratio(rate, "l2proxy ws", "nginx")),
        Bar(
            "the same, IPC upstream, caller with a token ÷ nginx", 1.0, 1.5, _ratio(rate, "l2proxy ipc, token", "nginx")
        ),
        Bar("the same, IPC upstream ÷ direct HTTP to anvil", 0.8, 1.0, _ratio(rate, "l2proxy ipc", "direct")),
        Bar("the same ÷ MetaMask json-rpc-engine", 3, 5, _ratio(rate, "l2proxy ipc", "metamask")),
        Bar("HTTP upstream ÷ nginx", 0.5, 1.0, _ratio(rate, "l2proxy http", "nginx")),
        Bar("cache hits, 32 connections ÷ direct HTTP to anvil", 1.2, 2, _ratio(hit, "l2proxy cached", "direct")),
        Bar(
            "added p50 at one connection, IPC upstream ÷ nginx", 1.2, 1.0, _added(results.latency), less_is_better=True
        ),
        Bar("1 MiB answers a second, IPC upstream ÷ nginx", 0.8, 1.0, _ratio(big, "l2proxy ipc", "nginx")),
        Bar("the same, HTTP upstream ÷ nginx", 0.8, 1.0, _ratio(big, "l2proxy http", "nginx")),
        Bar(
            f"{heads.clients if heads else 1000:,} WebSocket clients on newHeads: subscriptions at the node",
            *(1, 1, None if heads is None else heads.subscriptions),
            less_is_better=True,
            whole=True,
        ),
        Bar(
            "the same: block to last client",
            250,
            100,
            None if heads is None else heads.last_client,
            less_is_better=True,
            whole=True,
            unit=" ms",
        ),
        Bar(
            f"resident memory after {memory.calls[1] if memory else 1_000_000:,} calls ÷ after ten thousand",
            *(1.1, 1.0, grown),
            less_is_better=True,
        ),
    ]


def added(table: Table, name: str) -> float | None:
    """Return what `name` adds to the node's own p50, µs."""
    if name not in table:
        return None
    return table[name].p50 - table["direct"].p50


def _ratio(table: Table | None, one: str, other: str) -> float | None:
    if table is None or one not in table or other not in table:
        return None
    return table[one].rate / table[other].rate


def _added(table: Table | None) -> float | None:
    if table is None:
        return None
    ours, theirs = added(table, "l2proxy ipc"), added(table, "nginx")
    if ours is None or theirs is None or theirs <= 0:
        return None
    return max(ours, 0.0) / theirs
