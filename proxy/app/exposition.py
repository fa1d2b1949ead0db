"""The figures of `/metrics`: what the parts count, read when somebody scrapes and written in Prometheus' text format.

Nothing here counts: every part keeps plain numbers on itself, so a call costs no lock and no label (middleware/metrics.py).
Labels are closed sets: methods of the method table, codes of rpc.md, the place of a node in the config, of a plugin in their list.
Never a token, an origin, an account, a plugin's id or an address: any program of this machine may read this.
docs/owners.md names every family; a test compares.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from middleware.metrics import RequestFigures
from proxy.app.services import Services
from proxy.server.connections import Connections
from proxy.upstream.l1 import L1


@dataclass(frozen=True)
class Exposition(Collector):
    """All figures of one daemon. `connections` counts those of the doors for dapps."""

    services: Services
    requests: RequestFigures
    connections: Connections

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry())

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    def collect(self) -> Iterable[Metric]:
        """Yield every family with its present values."""
        yield InfoMetricFamily("l2proxy_build", "The version that runs.", {"version": version("l2proxy")})
        yield from _requests(self.requests)
        yield _gauge("l2proxy_connections", "Connections open on the doors for dapps.", len(self.connections))
        slow = CounterMetricFamily(
            "l2proxy_slow_readers", "Connections cut off because their reader took nothing.", labels=["transport"]
        )
        for transport, count in self.connections.cut_off.items():
            slow.add_metric([transport], count)
        yield slow
        yield from _chain(self.services.l1)
        yield from _nodes(self.services.l1)
        yield from _cache(self.services)
        yield from _subscriptions(self.services)
        yield from _authority(self.services)
        yield from _plugins(self.services)


def _requests(figures: RequestFigures) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "l2proxy_requests",
        "Calls by method and how they ended: answered (also with the node's own error), gone, or our error's code.",
        labels=["method", "outcome"],
    )
    seconds = HistogramMetricFamily(
        "l2proxy_request_seconds", "Time from the parsed call to its answer, questions included.", labels=["method"]
    )
    for label, row in figures.rows():
        for outcome, count in row.outcomes():
            calls.add_metric([label, outcome], count)
        seconds.add_metric([label], row.cumulative(), row.seconds)
    yield calls
    yield seconds
    yield _counter("l2proxy_invalid_requests", "Bodies and batch items that were no JSON-RPC call.", figures.invalid)


def _chain(l1: L1) -> Iterator[Metric]:
    blocks = l1.blocks
    if blocks.head is not None:
        yield _gauge("l2proxy_head_number", "Number of the newest L1 block.", blocks.head.number)
        age = max(0.0, time.time() - blocks.head.timestamp)
        yield _gauge("l2proxy_head_age_seconds", "Age of the newest L1 block by its own timestamp.", age)
    if blocks.finalized is not None:
        yield _gauge("l2proxy_finalized_number", "Number of the finalized L1 block.", blocks.finalized.number)
    figures = blocks.figures
    yield _counter("l2proxy_heads", "New L1 blocks seen.", figures.heads)
    yield _counter("l2proxy_reorgs", "Reorganisations of L1 seen.", figures.reorgs)


def _nodes(l1: L1) -> Iterator[Metric]:
    """Yield what is counted about each node; `node` is its place under [l1] urls, from 1: an address may hold a secret."""

    def gauge(name: str, says: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"l2proxy_upstream_{name}", says, labels=["node"])

    def counter(name: str, says: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"l2proxy_upstream_{name}", says, labels=["node"])

    up = gauge("up", "1 while the node can be asked, else 0.")
    requests = counter("requests", "Requests sent to the node.")
    failures = counter("failures", "Requests the node did not answer.")
    in_flight = gauge("in_flight", "Requests that wait for the node.")
    reconnects = counter("reconnects", "Connections made anew.")
    latency = gauge("latency_seconds", "Moving average of the time of an answer.")
    lag = gauge("lag_blocks", "Blocks behind the best node.")
    breaker = GaugeMetricFamily(
        "l2proxy_upstream_breaker", "1 for the state of the node's circuit breaker.", labels=["node", "state"]
    )
    for place, node in enumerate(l1.nodes, 1):
        label, figures = [str(place)], node.figures
        up.add_metric(label, 0.0 if node.trouble is not None else 1.0)
        requests.add_metric(label, figures.requests)
        failures.add_metric(label, figures.failures)
        in_flight.add_metric(label, figures.in_flight)
        reconnects.add_metric(label, figures.reconnects)
        latency.add_metric(label, figures.latency)
        if figures.head_lag is not None:
            lag.add_metric(label, figures.head_lag)
        breaker.add_metric([*label, figures.breaker], 1)
    yield from (up, requests, failures, in_flight, reconnects, latency, lag, breaker)


def _cache(services: Services) -> Iterator[Metric]:
    figures = services.node_answers.cache.figures
    yield _counter("l2proxy_cache_hits", "Answers from memory.", figures.hits)
    yield _counter("l2proxy_cache_misses", "Answers the cache could keep and did not have.", figures.misses)
    yield _counter("l2proxy_cache_stores", "Answers kept.", figures.stores)
    yield _counter("l2proxy_cache_evictions", "Answers dropped for want of room.", figures.evictions)
    yield _counter(
        "l2proxy_cache_flushes", "Times that answers were dropped because the chain changed.", figures.flushes
    )
    yield _gauge("l2proxy_cache_entries", "Answers in memory.", figures.entries)
    yield _gauge("l2proxy_cache_bytes", "Their size.", figures.bytes)
    sharing = services.node_answers.in_flight.figures
    yield _counter("l2proxy_shared_answers", "Calls answered by an identical one that ran already.", sharing.shared)
    ranges = services.node_answers.log_ranges.figures
    yield _counter("l2proxy_log_splits", "Calls of eth_getLogs answered in parts.", ranges.splits)
    yield _counter("l2proxy_log_parts", "Questions asked for parts of them.", ranges.parts)


def _subscriptions(services: Services) -> Iterator[Metric]:
    figures = services.l1.blocks.figures
    yield _gauge("l2proxy_subscriptions", "Subscriptions of callers.", len(services.subscriptions))
    yield _gauge(
        "l2proxy_shared_subscriptions", "Different wishes the callers' L1 subscriptions share.", figures.shared
    )
    yield _gauge("l2proxy_upstream_subscriptions", "Subscriptions at the nodes.", figures.node_subscriptions)
    yield _counter("l2proxy_notifications", "Notifications of L1 subscriptions handed to callers.", figures.delivered)
    yield _gauge("l2proxy_filters", "Filters of callers.", len(services.filters))


def _authority(services: Services) -> Iterator[Metric]:
    authority = services.authority
    yield _gauge("l2proxy_questions_waiting", "Questions that wait for the owner.", len(authority.approvals.list()))
    decisions = CounterMetricFamily(
        "l2proxy_decisions",
        "Decisions by what was decided (allow, reject, void) and by whom (owner, rule, policy).",
        labels=["decision", "source"],
    )
    for (decision, source), count in authority.approvals.decisions.items():
        decisions.add_metric([decision, source], count)
    yield decisions
    yield _gauge("l2proxy_locked", "1 while the main accounts are locked.", float(services.keyring.locked))


def _plugins(services: Services) -> Iterator[Metric]:
    plugins = GaugeMetricFamily("l2proxy_plugins", "Installed plugins by what they do.", labels=["status"])
    rows = [services.plugins.status(plugin.id) for plugin in services.plugins.all()]
    for status, count in sorted(Counter(str(row["status"]) for row in rows).items()):
        plugins.add_metric([status], count)
    yield plugins
    skipped = services.deposits.skipped
    yield _counter("l2proxy_gateway_logs_skipped", "Logs of gateways left out because they do not decode.", skipped)
    yield from _each_plugin(rows)
    unguarded = len(services.operations.unguarded)
    yield _gauge("l2proxy_plugins_unguarded", "Plugins with money on L1 that could not answer a dispute.", unguarded)


def _each_plugin(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    """Yield what each plugin has done and takes; `plugin` is its place in `l2proxy plugin list`, from 1: ids are nobody's business."""
    for member, family, says in _PLUGIN_FIGURES:
        kind = CounterMetricFamily if member in _COUNTED else GaugeMetricFamily
        metric = kind(f"l2proxy_plugin_{family}", says, labels=["plugin"])
        for place, row in enumerate(rows, 1):
            if member in row:
                metric.add_metric([str(place)], row[member])
        yield metric


_COUNTED = ("invokes", "errors", "restarts")
_PLUGIN_FIGURES = (
    ("invokes", "invokes", "Actions the plugin was asked for since the daemon began."),
    ("errors", "errors", "Those that ended with an error."),
    ("restarts", "restarts", "Times its process was started again."),
    ("queue", "queue", "Invokes that run or wait, deliveries in flight, and turns at its store."),
    ("storeBytes", "store_bytes", "Size of its store's keys and values."),
    ("cpuSeconds", "cpu_seconds", "CPU time of its present process."),
    ("residentBytes", "resident_bytes", "Memory of its present process."),
)


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=value)


def _counter(name: str, says: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, says, value=value)
