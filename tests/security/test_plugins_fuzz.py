"""Frames of a hostile plugin, made at random, disturb neither another plugin nor the gateway (security.md 20, hardening.md 23).

The channel itself is fed in process, thousands of lines; a few hostile processes then do the same beside a plugin that works.
"""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.errors import PluginTimeout, PluginUnavailable
from proxy.host.channel import Channel, ChannelEnded
from proxy.host.pipes import Incoming
from tests.host.neighbours import ECHO, Home, package
from tests.security.test_plugins import ACTION, RAW, give, home

__all__ = ["home"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
IDS = st.integers(-2, 4) | st.text(max_size=4) | st.none() | st.floats() | st.booleans() | st.just("x" * 100)
FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2]),
        "id": IDS,
        "method": st.sampled_from(["load", "persist", "log", "", "ready", "x" * 300]) | JSON,
        "params": st.dictionaries(st.text(max_size=8), JSON, max_size=3) | JSON,
        "result": JSON,
        "error": JSON | st.fixed_dictionaries({"code": st.integers() | JSON, "message": st.text() | JSON}),
    },
)
LINES = st.lists(
    FRAMES.map(lambda frame: json.dumps(frame).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=60)
    | st.sampled_from(
        [b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b'{"jsonrpc":"2.0","id":1,"id":2,"method":"load"}', b""]
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(lines=LINES, cut=st.booleans())
def test_whatever_a_plugin_writes_the_channel_ends_with_a_reason_and_every_question_gets_an_end(
    lines: list[bytes], cut: bool
) -> None:
    asyncio.run(_feed(lines, cut))


async def _feed(lines: list[bytes], cut: bool) -> None:
    """Feed lines to a channel with two questions open; both get an answer or an end, and nothing runs afterwards."""
    ours, theirs = socket.socketpair()
    reader, loop = Incoming(1 << 20), asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader), sock=ours)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    handled: list[str] = []

    async def handle(method: str, params: dict[str, Any]) -> Any:
        handled.append(method)
        return {}

    channel = Channel(reader, writer, handle, lambda method, params: handled.append(method))
    serving = asyncio.create_task(channel.serve())
    asked = [asyncio.create_task(channel.request("invoke", {})) for _ in range(2)]
    await asyncio.sleep(0)
    theirs.setblocking(True)
    theirs.sendall(b"\n".join(lines) + (b"" if cut else b"\n"))
    theirs.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(60):
        reason = await serving
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert reason
    assert channel.ended == reason
    for outcome in outcomes:  # what it said, an error of its own, or its end; never a silence
        assert not isinstance(outcome, BaseException) or isinstance(outcome, ChannelEnded) or hasattr(outcome, "code")
    assert all(isinstance(method, str) for method in handled)
    with pytest.raises(ChannelEnded):
        await channel.request("invoke", {})
    theirs.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


HOSTILE = {
    "random bytes": "import random\nr = random.Random(7)\nwhile True: say(bytes(r.randrange(256) for _ in range(4096)))",
    "huge lines": 'while True: say("x" * (1 << 19))',
    "deep": 'while True: say("[" * 200000 + "\\n")',
    "one id for all": """while True: say('{"jsonrpc":"2.0","id":1,"method":"load","params":{"prefix":""}}\\n')""",
    "answers nobody asked for": """while True: say('{"jsonrpc":"2.0","id":77,"result":{}}\\n')""",
    "a flood of requests": """
n = 0
while True:
    n += 1
    say('{"jsonrpc":"2.0","id":%d,"method":"persist","params":{"put":{"k":"v"}}}\\n' % n)""",
    "never reading": "time.sleep(600)",
    "closing halfway": """say('{"jsonrpc":"2.0","id":1,"meth')\nos.close(channel_out)\ntime.sleep(600)""",
    "closing its input": "os.close(channel_in)\ntime.sleep(600)",
    "empty lines": 'while True: say("\\n" * 1000)',
}


async def test_every_hostile_plugin_at_once_disturbs_no_other(home: Home, tmp_path: Path) -> None:
    await home.add(ECHO)
    for number, (name, behaviour) in enumerate(HOSTILE.items()):
        code = RAW + f"# {name}\nanswer(hear(), {{}})\nhear()\n{behaviour}\n"
        await home.add(package(tmp_path, f"hostile{number}", code, ACTION))
    names = [f"hostile{number}" for number in range(len(HOSTILE))]
    for name in names:
        await home.running(name)  # all attack at once, and not one after the other as they start
        give(home, name, 2.0)
    attacks = [asyncio.create_task(_invoked(home, name)) for name in names]
    for number in range(60):  # none of these calls fails or is late
        assert (await home.invoke("echo", "say", ["x", number]))["number"] == hex(number)
        assert "error" not in await home.ask("persist", {"put": {f"k{number}": "v"}})
    outcomes = await asyncio.gather(*attacks)
    assert all(isinstance(outcome, PluginUnavailable | PluginTimeout) for outcome in outcomes), outcomes
    items = (await home.ask("load", {"prefix": "k"}))["items"]
    assert len(items) == 60
    assert home.plugins.status("echo")["restarts"] == 0


async def _invoked(home: Home, name: str) -> BaseException | None:
    try:
        await home.invoke(name, "go")
    except (PluginUnavailable, PluginTimeout) as error:
        return error
    return None
