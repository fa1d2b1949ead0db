"""The dapp's layer-2 methods over a real plugin process: what an origin sees, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import InvalidParams
from middleware.waist import Context, Origin
from proxy.methods.layer2 import handlers
from tests.host.neighbours import ECHO, OTHER, SITE, Home, new_keyring


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """A running host with echo, to which one site is connected."""
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    await home.add(ECHO)
    home.permissions.connected[str(SITE)] = frozenset({"echo", "none"})
    yield home
    await home.close()


async def call(home: Home, method: str, params: Any = None, origin: Origin = SITE) -> Any:
    table = handlers(home.plugins, home.permissions, home.operations, home.deposits)
    return await table[method](params, Context(origin))


async def test_actions_and_plugins_of_the_connected_alone(home: Home) -> None:
    rows = await call(home, "l2_actions")
    assert rows[0] == {
        "plugin": "echo",
        "name": "say",
        "description": "Return what was said.",
        "params": [{"name": "text", "type": "string"}, {"name": "number", "type": "uint256"}],
        "returns": [{"name": "text", "type": "string"}, {"name": "number", "type": "uint256"}],
        "approval": "never",
    }
    assert await call(home, "l2_actions", ["echo"]) == await call(home, "l2_actions", {"plugin": "echo"}) == rows
    assert await call(home, "l2_actions", ["none"]) == []
    assert await call(home, "l2_actions", ["echo"], OTHER) == await call(home, "l2_plugins", [], OTHER) == []
    await home.invoke("echo", "count")
    assert await call(home, "l2_plugins") == [
        {
            "id": "echo",
            "name": "Echo",
            "version": "1.0.0",
            "description": "Says what it hears; a plugin for tests.",
            "status": "running",
        }
    ]


async def test_invoke_by_position_and_by_name(home: Home) -> None:
    said = {"text": "x", "number": "0x1"}
    assert await call(home, "l2_invoke", ["echo", "say", ["x", 1]]) == said
    named = {"plugin": "echo", "action": "say", "params": {"text": "x", "number": "1"}, "options": {"call": "c"}}
    assert await call(home, "l2_invoke", named) == said
    with pytest.raises(InvalidParams):
        await call(home, "l2_invoke", ["echo", "say", ["x"]])


async def test_state_by_path_and_fresh(home: Home) -> None:
    assert (await call(home, "l2_getState", ["echo"]))["state"] == {"asked": True, "for": str(SITE)}
    await home.invoke("echo", "count")
    shown = await call(home, "l2_getState", ["echo", "/count"])
    assert shown == {"plugin": "echo", "revision": "0x2", "block": "0x0", "state": 1}
    fresh = await call(home, "l2_getState", {"plugin": "echo", "path": "/count", "options": {"fresh": True}})
    assert (fresh["state"], fresh["revision"]) == (None, "0x3")
    assert await call(home, "l2_getState", {"plugin": "echo", "path": "/count", "fresh": True}) == fresh


async def test_operations_and_deposits(home: Home) -> None:
    assert (await call(home, "l2_getOperations", ["echo"]))[0]["origin"] == str(SITE)
    home.deposits.rows = [{"gateway": "main"}]
    assert await call(home, "l2_getDeposits", ["echo"]) == [{"gateway": "main"}]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("l2_actions", [1]),
        ("l2_actions", ["echo", 1]),
        ("l2_plugins", [1]),
        ("l2_getState", []),
        ("l2_getState", [["echo"]]),
        ("l2_getState", ["echo", "count"]),
        ("l2_getState", ["echo", 7]),
        ("l2_getState", ["echo", "/a~2"]),
        ("l2_getState", ["echo", None, {"fresh": 1}]),
        ("l2_getState", ["echo", None, {"frsh": True}]),
        ("l2_getState", {"plugin": "echo", "pth": "/"}),
        ("l2_getState", {"plugin": "echo", "fresh": 1}),
        ("l2_getState", {"plugin": "echo", "fresh": True, "options": {}}),
        ("l2_invoke", ["echo"]),
        ("l2_invoke", ["echo", 7, []]),
        ("l2_getOperations", ["echo", 7]),
        ("l2_getDeposits", []),
    ],
)
async def test_params_that_do_not_fit_are_named(home: Home, method: str, params: Any) -> None:
    with pytest.raises(InvalidParams) as caught:
        await call(home, method, params)
    assert caught.value.data.keys() == {"param", "expected", "got"}
