"""What `admin_status` shows beside the parts' own words: readiness, and what the doors and the cache count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from middleware.metrics import RequestFigures
from proxy.app.health import Health
from proxy.app.services import Services


@dataclass(frozen=True)
class Standing:
    """The rest of `admin_status`. `connections` tells how many are open on the doors for dapps."""

    services: Services
    health: Health
    requests: RequestFigures
    connections: Callable[[], int]
    started: float = field(default_factory=time.time)

    async def __call__(self) -> dict[str, Any]:
        """Return its members."""
        checks = await self.health.checks()
        services = self.services
        following = services.l1.blocks.figures
        return {
            "version": version("l2proxy"),
            "uptime": round(max(0.0, time.time() - self.started)),
            "ready": {
                "ready": all(check.ok for check in checks),
                "checks": {check.name: {"ok": check.ok, "why": check.why} for check in checks},
            },
            "connections": self.connections(),
            "calls": sum(row.calls for _, row in self.requests.rows()),
            "subscriptions": {
                "callers": len(services.subscriptions),
                "shared": following.shared,
                "nodes": following.node_subscriptions,
                "filters": len(services.filters),
            },
            "cache": self._cache(),
        }

    def _cache(self) -> dict[str, Any]:
        found = self.services.node_answers
        figures = found.cache.figures
        asked = figures.hits + figures.misses
        return {
            "enabled": self.services.ground.config.cache.enabled,
            "hits": figures.hits,
            "misses": figures.misses,
            "hitRate": round(figures.hits / asked, 4) if asked else None,
            "entries": figures.entries,
            "bytes": figures.bytes,
            "shared": found.in_flight.figures.shared,
        }
