"""The fake host of plugins' tests ends cleanly, whatever it was about to do."""

from __future__ import annotations

import asyncio
import gc
import inspect
from types import CoroutineType
from typing import Any

from l2proxy_sdk.testing import FakeHost

from tests.sdk.sample import Sample


def unbegun() -> list[CoroutineType[Any, Any, Any]]:
    """Return the fake hosts' coroutines that have been made and not begun, in the whole process."""
    return [
        one
        for one in gc.get_objects()
        if type(one) is CoroutineType  # isinstance() would ask what is behind a weak proxy
        and one.__qualname__.startswith("FakeHost.")
        and inspect.getcoroutinestate(one) == inspect.CORO_CREATED
    ]


async def test_a_plugin_killed_before_it_heard_leaves_no_coroutine_unbegun() -> None:
    of_other_tests = unbegun()
    host = FakeHost(Sample)
    await host.start()
    host._deliver("hub", {"event": "open"})  # what is to carry it has not had its turn yet
    await host.kill()
    await asyncio.sleep(0)
    assert [one.__qualname__ for one in unbegun() if not any(one is other for other in of_other_tests)] == []
