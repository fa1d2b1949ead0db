"""HTTP answers of the dapp door: status, JSON body, CORS. Every body is JSON-RPC; turned-away requests have id null.

CORS echoes the one page that asks, with `Vary: Origin`; never `*`, never credentials (security.md 3; rpc.md, "Listeners").
"""

from __future__ import annotations

from aiohttp import web

from middleware.errors import RpcError
from proxy.server import envelope

METHODS = "POST, OPTIONS"


def reply(status: int, body: bytes | None, page: str | None) -> web.Response:
    """Return an answer; `page`: the web origin that may read it. `body` None: no content."""
    response = web.Response(status=status, body=body)
    headers = response.headers
    headers["Server"] = "l2proxy"
    headers["X-Content-Type-Options"] = "nosniff"
    if body is not None:
        headers["Content-Type"] = "application/json"
    if page is not None:
        headers["Access-Control-Allow-Origin"] = page
    headers["Vary"] = "Origin"
    return response


def turned_away(status: int, error: RpcError, page: str | None) -> web.Response:
    """Return the answer to a request that never reached the chain."""
    response = reply(status, envelope.failure(envelope.NULL, error), page)
    if status == 405:
        response.headers["Allow"] = METHODS
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def preflight(page: str, *, private_network: bool, local_network: bool) -> web.Response:
    """Return the answer to a CORS preflight of `page`, also to a private-network or local-network one."""
    response = reply(204, None, page)
    headers = response.headers
    headers["Vary"] = "Origin, Access-Control-Request-Private-Network, Access-Control-Request-Local-Network"
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = "content-type, authorization"
    headers["Access-Control-Max-Age"] = "600"
    if private_network:
        headers["Access-Control-Allow-Private-Network"] = "true"
    if local_network:
        headers["Access-Control-Allow-Local-Network"] = "true"
    return response
