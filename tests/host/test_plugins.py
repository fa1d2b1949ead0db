"""A plugin from install to invoke, with a real process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from middleware.errors import InvalidParams, PluginFailed, PluginTimeout, PluginUnavailable, RpcError
from middleware.invocation import Invocation
from middleware.waist import Context, Origin, Result, result
from tests.host.neighbours import ECHO, SITE, Home


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


async def invoke_under_key(home: Home, how: str, number: int) -> None:
    params = home.plugins.check_params("echo", "late", [how, number])
    await home.plugins.invoke("echo", "late", params, SITE, "k", Context(SITE))


@contextlib.contextmanager
def patience(home: Home) -> Iterator[None]:
    """Give calls that are to be answered the usual time: that of the others would be too short on a busy machine."""
    calls = home.plugins._hosted["echo"].calls
    short, calls._seconds = calls._seconds, 60.0
    yield
    calls._seconds = short


async def test_what_comes_after_the_timeout_is_handed_to_the_record(home: Home) -> None:
    home.limits["plugin_call"] = 0.3
    await home.close()
    home.open()
    await home.plugins.start()
    recorded: asyncio.Queue[tuple[Origin, Invocation, Result | RpcError]] = asyncio.Queue()
    home.plugins.on_late_answer(lambda *late: recorded.put_nowait(late))
    await home.add(ECHO)
    await home.running("echo")
    for how in ("result", "error"):
        with pytest.raises(PluginTimeout):
            await invoke_under_key(home, how, 7)
        with patience(home):
            await home.invoke("echo", "wait", [True])
        async with asyncio.timeout(60):
            origin, invocation, answer = await recorded.get()
        assert (origin, invocation.key, invocation.params) == (SITE, "k", {"how": how, "number": "0x7"})
        if how == "result":
            assert answer == result({"number": "0x7"})
        else:
            assert isinstance(answer, PluginFailed)


async def test_without_a_key_a_late_answer_is_dropped(home: Home) -> None:
    home.limits["plugin_call"] = 0.3
    await home.close()
    home.open()
    await home.plugins.start()
    recorded: list[object] = []
    home.plugins.on_late_answer(lambda *late: recorded.append(late))
    await home.add(ECHO)
    await home.running("echo")
    with pytest.raises(PluginTimeout):
        await home.invoke("echo", "late", ["result", 7])
    with patience(home):
        await home.invoke("echo", "wait", [True])
        assert await home.invoke("echo", "say", ["x", 1])  # the channel has gone on past the late answer
    assert not recorded
