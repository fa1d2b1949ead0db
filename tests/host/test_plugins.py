"""A plugin from install to invoke, with a real process."""

from __future__ import annotations

import pytest

from middleware.errors import InvalidParams, PluginFailed, PluginUnavailable, RpcError
from tests.host.neighbours import ECHO, Home


async def test_an_action_answers_in_canonical_form(home: Home) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "say", {"text": "hé", "number": "10"}) == {"text": "hé", "number": "0xa"}
    assert await home.invoke("echo", "say", ["x", 2**53 - 1]) == {"text": "x", "number": hex(2**53 - 1)}


async def test_the_plugin_sees_nothing_of_bad_params(home: Home) -> None:
    await home.add(ECHO)
    with pytest.raises(InvalidParams) as caught:
        await home.invoke("echo", "say", {"text": "x", "number": 2**53})
    assert caught.value.data["param"] == "params.number"


async def test_the_store_outlives_the_process(home: Home) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    with pytest.raises(PluginUnavailable) as caught:
        await home.invoke("echo", "fail", ["exit"])
    assert caught.value.code == -32012
    assert caught.value.data == {"plugin": "echo", "outcome": "unknown"}
    assert await home.invoke("echo", "count") == {"count": "0x2"}


async def test_its_own_errors_arrive_bounded_and_without_a_traceback(home: Home) -> None:
    await home.add(ECHO)
    with pytest.raises(PluginFailed) as caught:
        await home.invoke("echo", "fail", ["error"])
    shown = {"plugin": "echo", "code": 7, "message": "no such luck", "data": {"left": "0x1", "spent": False}}
    assert caught.value.to_json()["data"] == shown
    with pytest.raises(RpcError) as bug:
        await home.invoke("echo", "fail", ["bug"])
    assert "/etc/secret" not in str(bug.value.to_json())
