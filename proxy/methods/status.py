"""`admin_status`: what the daemon is doing, in one object for `l2proxy status` and `l2proxy doctor`."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.waist import Context, Handler
from proxy.authority.assembly import Authority
from proxy.host.plugins import Plugins
from proxy.upstream.l1 import L1
from proxy.upstream.node import Node
from proxy.wallet.keyring import Keyring


async def nothing_more() -> dict[str, Any]:
    """Return no further members."""
    return {}


def admin_handlers(
    l1: L1,
    keyring: Keyring,
    authority: Authority,
    plugins: Plugins,
    doors: Callable[[], dict[str, Any]],
    standing: Callable[[], Awaitable[dict[str, Any]]] = nothing_more,
) -> dict[str, Handler]:
    """Return the method. `doors`: the ready line's addresses; `standing`: what the doors count, and whether all is ready."""

    async def status(_params: Any, _context: Context) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "doors": doors(),
            "l1": _l1(l1),
            "accounts": {"count": len(keyring.addresses()), "locked": keyring.locked},
            "questions": len(authority.approvals.list()),
            "sites": len(authority.permissions.sites()),
            "tokens": len(authority.tokens.all()),
            "plugins": [
                {"id": plugin.id, "version": plugin.version, **plugins.status(plugin.id)} for plugin in plugins.all()
            ],
            **await standing(),
        }

    return {"admin_status": status}


def _l1(l1: L1) -> dict[str, Any]:
    head, finalized = l1.blocks.head, l1.blocks.finalized
    return {
        "chainId": hex(l1.chain_id),
        "genesis": l1.genesis,
        "client": l1.client_version,
        "dev": l1.is_dev,
        "nodes": [_node(node) for node in l1.nodes],
        "trouble": l1.trouble,
        "head": None if head is None else hex(head.number),
        "headAge": None if head is None else round(max(0.0, time.time() - head.timestamp)),
        "finalized": None if finalized is None else hex(finalized.number),
    }


def _node(node: Node) -> dict[str, Any]:
    """Return the row of one node; seconds and counts, its address without what may be secret."""
    figures = node.figures
    return {
        "address": node.address.shown,
        "client": None if node.identity is None else node.identity.client_version,
        "trouble": node.trouble,
        "breaker": figures.breaker,
        "latency": round(figures.latency, 6),
        "errorRate": round(figures.error_rate, 4),
        "head": None if figures.head is None else hex(figures.head),
        "lag": figures.head_lag,
        "requests": figures.requests,
        "failures": figures.failures,
        "inFlight": figures.in_flight,
        "reconnects": figures.reconnects,
        "lastError": figures.last_error,
    }
