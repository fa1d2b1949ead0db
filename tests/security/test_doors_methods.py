"""The method table and the handlers of the assembled daemon, both ways (security.md 7 and 9).

A handler without a row would be served without a class; a row without a handler is a promise nobody keeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from middleware.methods import OWN, MethodClass, MethodTable
from proxy.app.daemon import Doors, open_daemon
from proxy.app.options import RunOptions
from proxy.app.services import Services
from proxy.config import Config
from proxy.server.admin_client import call_admin_socket
from tests.upstream.fake_node import FakeNode

Daemon = tuple[Services, Doors]


@pytest.fixture
async def daemon(short_tmp: Path) -> AsyncIterator[Daemon]:
    async with FakeNode().http() as url:
        options = RunOptions(
            data=short_tmp / "data",
            config=Config(),
            urls=(url,),
            dev=False,
            port=0,
            console_port=0,
            password=None,
            json=True,
        )
        async with open_daemon(options, lambda line: None) as running:
            yield running


async def test_every_handler_has_a_row_and_every_row_a_handler(daemon: Daemon) -> None:
    services, _ = daemon
    handlers = set(services.dapp_handlers())
    assert set(OWN) == handlers
    table = MethodTable()
    assert all(table.classify(name) not in (MethodClass.PASS, MethodClass.BLOCKED) for name in handlers)


async def test_no_admin_method_is_among_them_nor_answered_at_a_dapp_door(daemon: Daemon) -> None:
    services, doors = daemon
    admin = set(services.admin_handlers(lambda: {"dapp": ""}))
    assert admin
    assert all(name.startswith("admin_") for name in admin)
    assert not admin & set(services.dapp_handlers())
    async with aiohttp.ClientSession() as session:
        for name in admin:
            body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": {}}
            async with session.post(f"http://127.0.0.1:{doors.dapp.port}", json=body) as response:
                assert (await response.json())["error"]["code"] == 4200, name
            with pytest.raises(Exception, match="not served") as refused:
                await call_admin_socket(doors.ipc.path, name, {})
            assert getattr(refused.value, "code", None) == 4200
