"""`l2proxy status`: what the daemon is doing, once or again and again."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.console import Group

from proxy.cli.session import Session, session_options, table


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds, with --watch."
)
@session_options
def status(session: Session, watch: bool, every: float) -> None:
    """Show what the daemon is doing: doors, L1 and its nodes, accounts, questions, cache, plugins.

    With --watch and --json each look is one line.
    """
    while True:
        found = session.call("admin_status", live=True)
        if watch and not session.json:
            click.clear()
        session.show(found, _shown)
        if not watch:
            return
        time.sleep(every)  # between looks: the daemon has no event for "something changed"


def _shown(value: dict[str, Any]) -> Group:
    l1, doors, accounts = value["l1"], value["doors"], value["accounts"]
    trouble = [f"{name}: {check['why']}" for name, check in value["ready"]["checks"].items() if not check["ok"]]
    lines = [
        ("daemon", f"l2proxy {value['version']}, pid {value['pid']}, up {_span(value['uptime'])}"),
        ("ready", "yes" if not trouble else f"no: {'; '.join(trouble)}"),
        ("dapps", f"{doors['dapp']}  {doors['ws']}"),
        ("programs", doors["ipc"]),
        ("L1", _chain(l1)),
        *([("trouble", l1["trouble"])] if l1["trouble"] else []),
        ("accounts", f"{accounts['count']}, {'locked' if accounts['locked'] else 'unlocked'}"),
        ("questions", f"{value['questions']} waiting" + (" (l2proxy approval list)" if value["questions"] else "")),
        ("callers", f"{value['sites']} sites connected, {value['tokens']} tokens, {value['connections']} connections"),
        ("calls", str(value["calls"])),
        ("subscriptions", _subscriptions(value["subscriptions"])),
        ("cache", _cache(value["cache"])),
    ]
    nodes = [_node(place, node) for place, node in enumerate(l1["nodes"], 1)]
    columns = ["node", "address", "state", "latency", "lag", "calls", "failed", "client"]
    plugins = [_plugin(plugin) for plugin in value["plugins"]]
    return Group(
        table(["", ""], lines, ""),
        "",
        table(columns, nodes, "no nodes"),
        "",
        table(["plugin", "version", "status", "sandbox", "hub", "why"], plugins, "no plugins are installed"),
    )


def _chain(l1: dict[str, Any]) -> str:
    head = "no block yet" if l1["head"] is None else f"block {int(l1['head'], 16)}, {_span(l1['headAge'])} old"
    final = "" if l1["finalized"] is None else f", finalized {int(l1['finalized'], 16)}"
    return f"chain {int(l1['chainId'], 16)}, {head}{final}{', dev' if l1['dev'] else ''}"


def _node(place: int, node: dict[str, Any]) -> tuple[str, ...]:
    state = "up" if node["trouble"] is None else f"down: {node['trouble']}"
    if node["breaker"] != "closed":
        state += f" (breaker {node['breaker']})"
    return (
        str(place),
        node["address"],
        state,
        f"{node['latency'] * 1000:.1f} ms",
        "" if node["lag"] is None else f"{node['lag']} blocks",
        str(node["requests"]),
        str(node["failures"]),
        node["client"] or "not seen yet",
    )


def _subscriptions(counts: dict[str, int]) -> str:
    return (
        f"{counts['callers']} of callers, {counts['shared']} different, {counts['nodes']} at the nodes; "
        f"{counts['filters']} filters"
    )


def _cache(cache: dict[str, Any]) -> str:
    if cache["hitRate"] is None:
        return f"nothing asked of it yet ([cache] enabled = {str(cache['enabled']).lower()})"
    share = f"{cache['hitRate'] * 100:.1f} % of {cache['hits'] + cache['misses']} from memory"
    return f"{share}, {cache['entries']} answers, {cache['bytes'] / 2**20:.1f} MiB, {cache['shared']} shared in flight"


def _plugin(plugin: dict[str, Any]) -> tuple[str, ...]:
    layers = ", ".join(plugin.get("layers") or ())
    sandbox = f"{plugin.get('sandbox') or '-'}{f' ({layers})' if layers else ''}"
    return (
        plugin["id"],
        plugin["version"],
        plugin["status"],
        sandbox,
        plugin.get("hub", ""),
        "; ".join(filter(None, (plugin.get("unguarded"), plugin.get("why")))),
    )


def _span(seconds: int) -> str:
    """Return a time for a person: the two largest units."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or first == 3)
