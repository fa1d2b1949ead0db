"""A daemon assembled in this process, over a node that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from proxy.app.daemon import Doors, open_daemon
from proxy.app.options import RunOptions
from proxy.app.services import Services
from proxy.config import Config
from tests.upstream.fake_node import Die, FakeNode


class Mortal(FakeNode):
    """A node that drops every connection once it is dead."""

    dead = False

    async def respond(self, raw: bytes) -> bytes | None:
        if self.dead:
            raise Die
        return await super().respond(raw)


Running = tuple[Services, Doors]
Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(short_tmp: Path) -> Start:
    """Return how to start a daemon on a node."""

    @asynccontextmanager
    async def begin(node: FakeNode, config: Config | None = None) -> AsyncIterator[Running]:
        async with node.http() as url:
            options = RunOptions(short_tmp / "data", config or Config(), (url,), False, 0, 0, None, True)
            async with open_daemon(options, lambda line: None) as running:
                yield running

    return begin


@pytest.fixture
async def daemon(start: Start) -> AsyncIterator[Running]:
    """A daemon on a dev node."""
    async with start(FakeNode()) as running:
        yield running
