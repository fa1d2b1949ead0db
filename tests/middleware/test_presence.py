"""A presence shared by several askers is here as long as one of them is."""

from __future__ import annotations

import asyncio

import pytest

from middleware.presence import SharedPresence


class Here:
    def __init__(self) -> None:
        self.left = asyncio.Event()

    @property
    def here(self) -> bool:
        return not self.left.is_set()

    async def gone(self) -> None:
        await self.left.wait()

    async def back(self) -> None:
        await asyncio.Event().wait()


async def test_nobody_is_not_here() -> None:
    shared = SharedPresence()
    assert not shared.here
    await shared.gone()


async def test_it_is_gone_when_the_last_one_is() -> None:
    shared, one, two = SharedPresence(), Here(), Here()
    with shared.joined(one), shared.joined(two):
        gone = asyncio.ensure_future(shared.gone())
        one.left.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(gone), 0.01)
        assert shared.here
        two.left.set()
        await asyncio.wait_for(gone, 60)
        assert not shared.here


async def test_it_is_back_with_the_next_asker() -> None:
    shared = SharedPresence()
    back = asyncio.ensure_future(shared.back())
    with shared.joined(None):
        await asyncio.wait_for(back, 60)
        assert shared.here
    assert not shared.here


async def test_leaving_the_block_is_leaving() -> None:
    shared = SharedPresence()
    with shared.joined(Here()):
        gone = asyncio.ensure_future(shared.gone())
    await asyncio.wait_for(gone, 60)
