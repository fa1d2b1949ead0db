"""The HTTP door of the embedded L1: POST on loopback, only where `--port` asks for it.

For libraries pointed straight at the node while developing; the proxy uses the socket. Must never answer a web page. Imported only when
the door is wanted: aiohttp takes long to import, and a node should be there within a second.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.upstream.embedded.json_stream import MAX_BYTES

Ask = Callable[[bytes], Awaitable[bytes | None]]


async def open_http(ask: Ask, port: int) -> tuple[web.AppRunner, int]:
    """Serve POST / on 127.0.0.1, port 0 taking a free one; returns the runner to clean up and the port. Raises OSError."""

    async def post(request: web.Request) -> web.Response:
        # Pages send an Origin, or reach us by a name that is not loopback's, or cannot set the content type.
        if "Origin" in request.headers or request.url.host not in ("127.0.0.1", "localhost"):
            raise web.HTTPForbidden(text="this node answers programs on this machine, not web pages")
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send content-type: application/json")
        response = await ask(await request.read())
        if response is None:
            return web.Response(status=204)
        return web.Response(body=response, content_type="application/json")

    listener = socket.create_server(("127.0.0.1", port))
    application = web.Application(client_max_size=MAX_BYTES)
    application.router.add_post("/", post)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner, int(listener.getsockname()[1])
