"""`admin_status`: what the daemon is doing, in one object for `l2proxy status`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from middleware.waist import Context, Handler
from proxy.authority.assembly import Authority
from proxy.host.plugins import Plugins
from proxy.upstream.l1 import L1
from proxy.wallet.keyring import Keyring


def admin_handlers(
    l1: L1, keyring: Keyring, authority: Authority, plugins: Plugins, doors: Callable[[], dict[str, Any]]
) -> dict[str, Handler]:
    """Return the method. `doors`: the ready line's addresses."""

    async def status(_params: Any, _context: Context) -> dict[str, Any]:
        head = l1.blocks.head
        return {
            "pid": os.getpid(),
            "doors": doors(),
            "l1": {
                "chainId": hex(l1.chain_id),
                "genesis": l1.genesis,
                "client": l1.client_version,
                "dev": l1.is_dev,
                "nodes": [node.address.shown for node in l1.nodes],
                "trouble": l1.trouble,
                "head": None if head is None else hex(head.number),
            },
            "accounts": {"count": len(keyring.addresses()), "locked": keyring.locked},
            "questions": len(authority.approvals.list()),
            "sites": len(authority.permissions.sites()),
            "tokens": len(authority.tokens.all()),
            "plugins": [
                {"id": plugin.id, "version": plugin.version, **plugins.status(plugin.id)}
                for plugin in plugins.all()
            ],
        }

    return {"admin_status": status}
