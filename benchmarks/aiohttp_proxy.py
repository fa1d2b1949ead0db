"""The peer most people would write in an afternoon: aiohttp on both sides, the body passed on as it is.

`python -m benchmarks.aiohttp_proxy UPSTREAM` says {"ready": true, "port": N} on its first line.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aiohttp
import uvloop
from aiohttp import web


async def serve(upstream: str) -> None:
    """Answer every POST with what `upstream` answers, until SIGTERM."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def pass_on(request: web.Request) -> web.Response:
            body = await request.read()
            async with session.post(upstream, data=body, headers={"Content-Type": "application/json"}) as answer:
                return web.Response(body=await answer.read(), content_type="application/json")

        app = web.Application(client_max_size=2 * 1024 * 1024)
        app.router.add_post("/", pass_on)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        sys.stdout.write(json.dumps({"ready": True, "port": runner.addresses[0][1]}) + "\n")
        sys.stdout.flush()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
