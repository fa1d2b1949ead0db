"""RESULTS.md: the bars, then every figure they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.bars import Results, added, bars
from benchmarks.suites import Table

TITLES = {
    "throughput": "Calls a second, 32 connections, anvil",
    "headroom": "The same before a mock node that costs next to nothing (headroom)",
    "cache": "Cache hits, 32 connections",
    "latency": "One connection",
    "large": "Answers of 1 MiB, 4 connections",
}


def bar_table(results: Results) -> str:
    """Return the bars as a table."""
    rows = [
        (bar.what, bar.written(bar.least), bar.written(bar.reach), bar.written(bar.value), bar.reached)
        for bar in bars(results)
    ]
    return table(("what", "bar", "reach for", "here", "reached"), rows)


def results_page(results: Results, facts: Mapping[str, str], said: str, command: str, missing: list[str]) -> str:
    """Return the whole page."""
    parts = [
        "# Results",
        "Written by `" + command + "`; README.md here says what is measured and how. " + said + ".",
        "All with every default check on (identity, permission, method table, metrics); the daemon was started with "
        "`l2proxy run --l1 … --port 0 --json`. Nothing is pinned: the system places node, proxy and load generator on its "
        "cores. Only ratios within one run say anything; rates depend on the machine.",
        *(
            [f"**The machine was busy with something else when this run began (load {facts['load before the run']}).**"]
            if float(facts["load before the run"]) > 1
            else []
        ),
        *(f"**Left out:** {sentence}." for sentence in missing),
        "![calls a second](results.svg)",
        "## Bars",
        bar_table(results),
    ]
    for suite, title in TITLES.items():
        figures: Table | None = getattr(results, suite)
        if figures is not None:
            parts += [f"## {title}", _figures(figures, latency=suite == "latency")]
    if results.heads is not None:
        heads = results.heads
        parts += [
            f"## {heads.clients:,} WebSocket clients on newHeads",
            f"{heads.blocks} blocks, counted from the moment the block is asked of the node: the last client has it after "
            f"{heads.last_client:.0f} ms (median; worst {heads.worst:.0f} ms). One client straight at the node has it after "
            f"{heads.beside:.0f} ms. Subscriptions that reached the node: {heads.subscriptions}.",
        ]
    if results.memory is not None:
        memory = results.memory
        sizes = [size / 2**20 for size in memory.resident]
        parts += [
            "## Resident memory",
            f"After {memory.calls[0]:,} calls {sizes[0]:.1f} MiB, after {memory.calls[1]:,} calls {sizes[1]:.1f} MiB.",
        ]
    parts += ["## Machine and versions", table(("what", "here"), facts.items())]
    return "\n\n".join(parts) + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figures(figures: Table, *, latency: bool) -> str:
    head: tuple[str, ...] = ("path", "calls a second (lowest–highest)", "p50 µs", "p99 µs", "CPU µs a call")
    rows: list[tuple[str, ...]] = []
    for one in figures.values():
        low, high = one.spread
        row: tuple[str, ...] = (
            one.name,
            f"{one.rate:,.0f} ({low:,.0f}–{high:,.0f})",
            f"{one.p50:,.0f}",
            f"{one.p99:,.0f}",
            f"{one.cpu:,.1f}",
        )
        rows.append((*row, f"{added(figures, one.name) or 0:,.0f}") if latency else row)
    return table((*head, "added p50 µs") if latency else head, rows)
