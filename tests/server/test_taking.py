"""Waiting for a reader, ended from outside in the turn in which the reader goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

from proxy.server.taking import taken


async def test_a_reader_who_goes_while_nobody_waits_any_more_is_no_error_of_ours() -> None:
    gone, heard = asyncio.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, about: heard.append(about))

    async def writing() -> None:
        await gone.wait()
        raise ConnectionError("Connection lost")

    waiting = asyncio.create_task(taken(writing(), None, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # now both wait
    gone.set()
    await asyncio.sleep(0)  # the connection has ended, and nobody was told yet
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    del waiting
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the loop has let go of it as well
    gc.collect()
    assert not heard
