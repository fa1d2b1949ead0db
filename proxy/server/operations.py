"""What the machine's own tools ask on the dapp port: `/healthz`, `/readyz` and `/metrics`.

Reached from `http` after the Host header was checked, before any token is looked for: these three paths are never a token.
They are for programs of this machine, not for pages: whatever a browser sends on behalf of a page (an Origin, or a
`Sec-Fetch-Site` other than the owner's own navigation) is 403 without CORS, always the same, so that no page learns from
status or time whether the proxy is ready (security.md 2, 3). No answer may name a token, an origin, an account, a plugin or
an upstream's address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from middleware.errors import Unauthorized
from proxy.server.identity import Turned

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for the daemon to be of use; `why` says what is wrong, or what was found."""

    name: str
    ok: bool
    why: str


class Operations(Protocol):
    """The daemon as its owner's tools see it."""

    async def checks(self) -> Sequence[Check]:
        """Return every check of readiness, within a bounded time."""

    def metrics(self) -> bytes:
        """Return all figures in Prometheus' text format."""


def is_operation(request: web.BaseRequest) -> bool:
    """Tell whether a request asks for one of the three paths."""
    return request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and request.raw_path.partition("?")[0] in PATHS


async def answer(request: web.BaseRequest, operations: Operations) -> web.Response:
    """Answer one of the three paths. Raise 403 to pages."""
    headers = request.headers
    if hdrs.ORIGIN in headers or headers.get("Sec-Fetch-Site", "none") != "none":
        raise Turned(403, Unauthorized("no page is served here: health and metrics are for programs of this machine"))
    match request.raw_path.partition("?")[0]:
        case "/healthz":
            return _json(200, {"status": "alive"})
        case "/readyz":
            checks = await operations.checks()
            ready = all(check.ok for check in checks)
            shown = {check.name: {"ok": check.ok, "why": check.why} for check in checks}
            return _json(200 if ready else 503, {"ready": ready, "checks": shown})
    return _answer(200, operations.metrics(), METRICS_TYPE)


def _json(status: int, body: object) -> web.Response:
    return _answer(status, msgspec.json.encode(body), "application/json")


def _answer(status: int, body: bytes, content_type: str) -> web.Response:
    headers = {
        "Content-Type": content_type,
        "Server": "l2proxy",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Vary": "Origin",
    }
    return web.Response(status=status, body=body, headers=headers)
