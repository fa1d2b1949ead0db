"""The doctor's look at a running daemon, by what `admin_status` says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.app.doctor.finding import Finding, fail, ok, warn
from proxy.app.doctor.lacking import advice

FINE = ("running", "starting", "stopped", "stopping")


def look(status: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is found."""
    yield ok("daemon", f"pid {status['pid']}, {status['doors']['dapp']}")
    for name, check in status["ready"]["checks"].items():
        yield ok(f"daemon {name}", check["why"]) if check["ok"] else fail(f"daemon {name}", check["why"], _do(name))
    for place, node in enumerate(status["l1"]["nodes"], 1):
        name = f"daemon node {place}"
        if node["trouble"] is not None:
            yield warn(name, node["trouble"], "the daemon asks it again by itself; look at the node")
        else:
            yield ok(name, f"{node['address']}: {node['client'] or 'not seen yet'}, {node['latency'] * 1000:.1f} ms")
    accounts = status["accounts"]
    if accounts["count"] and accounts["locked"]:
        yield warn("accounts", f"{accounts['count']}, locked", "`l2proxy unlock` opens them")
    else:
        yield ok("accounts", f"{accounts['count']}{', unlocked' if accounts['count'] else ''}")
    if status["questions"]:
        yield warn("questions", f"{status['questions']} wait for you", "`l2proxy approval list` shows them")
    for plugin in status["plugins"]:
        yield _plugin(plugin)


def _do(name: str) -> str:
    match name:
        case "l1":
            return "the lines of the nodes say more; `l2proxy status` shows what the daemon sees"
        case "doors":
            return "start the daemon again: something took its socket away"
        case "plugins":
            return "the lines of the plugins say which and why: give its key gas, `l2proxy unlock`, or start the plugin"
    return "mend the disk, then start the daemon again"


def _plugin(plugin: dict[str, Any]) -> Finding:
    check = f"plugin {plugin['id']}"
    found = f"{plugin['version']}, {plugin['status']}{': ' + plugin['why'] if plugin.get('why') else ''}"
    if plugin.get("unguarded"):
        return fail(check, f"{found}; {plugin['unguarded']}", "mend that first: its money on L1 is at risk")
    if plugin["status"] == "locked":
        return warn(check, f"{found}: waits for the first unlock", "`l2proxy unlock` starts it")
    if plugin["status"] not in FINE:
        return fail(check, found, f"`l2proxy plugin logs {plugin['id']}` says why")
    if plugin.get("sandbox") == "none" and plugin["status"] == "running":
        return fail(check, f"{found}, without a sandbox", "`l2proxy plugin remove` it, or run it on Linux with seccomp")
    if plugin.get("missingLayers"):
        missing = ", ".join(sorted(plugin["missingLayers"]))
        return warn(check, f"{found}, the sandbox lacks {missing}", advice(plugin["missingLayers"]))
    return ok(check, found)
