"""The fake host of plugins' tests ends cleanly, whatever it was about to do."""

from __future__ import annotations

import asyncio
import gc
import inspect
from types import CoroutineType

from l2proxy_sdk.testing import FakeHost

from tests.sdk.sample import Sample


async def test_a_plugin_killed_before_it_heard_leaves_no_coroutine_unbegun() -> None:
    host = FakeHost(Sample)
    await host.start()
    host._deliver("hub", {"event": "open"})  # what is to carry it has not had its turn yet
    await host.kill()
    await asyncio.sleep(0)
    unbegun = [
        one.__qualname__
        for one in gc.get_objects()
        if type(one) is CoroutineType  # isinstance() would ask what is behind a weak proxy
        and one.__qualname__.startswith("FakeHost.")
        and inspect.getcoroutinestate(one) == inspect.CORO_CREATED
    ]
    assert unbegun == []
