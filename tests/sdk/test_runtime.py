"""The plugin's process as the proxy runs it: isolated, on pipes, line by line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from l2proxy_sdk.peer import Peer
from l2proxy_sdk.wire import Incoming, Outgoing

SDK = Path("sdk/python").resolve()
ROOT = Path.cwd()
BOOTSTRAP = f"""
import sys
sys.path[:0] = [{str(SDK)!r}, {str(ROOT)!r}]
from l2proxy_sdk.runtime import main
from tests.sdk.sample import Sample
sys.exit(main(Sample))
"""
START = {"chainId": "0x539", "owner": "0x" + "11" * 20, "gateways": [], "accounts": [], "restored": False}


@dataclass
class Process:
    """The host's end of the pipes, by hand."""

    process: asyncio.subprocess.Process
    next_id: int = 0

    async def write(self, raw: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(raw)
        await self.process.stdin.drain()

    async def request(self, method: str, params: Any) -> int:
        self.next_id += 1
        message = {"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}
        await self.write(json.dumps(message).encode() + b"\n")
        return self.next_id

    async def read(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        return json.loads(line) if line else None

    async def ended(self) -> tuple[int, str]:
        """Return the exit status and what was logged."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            logged = await self.process.stderr.read()
            return await self.process.wait(), logged.decode()


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Process]:
    bootstrap = tmp_path / "bootstrap.py"
    bootstrap.write_text(BOOTSTRAP)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-B",
        str(bootstrap),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={},
        cwd="/",
        limit=1 << 21,
    )
    made = Process(process)
    await made.request("start", START)
    answer = await made.read()
    assert [row["name"] for row in answer["result"]["actions"]][:2] == ["echo", "spend"]
    yield made
    if process.returncode is None:
        process.kill()
    await process.communicate()


def invoke(action: str, **params: Any) -> dict[str, Any]:
    return {"call": "c1", "action": action, "params": params, "origin": "https://a.test", "deadline": 1}


async def test_calls_both_ways_and_a_clean_stop(plugin: Process) -> None:
    number = await plugin.request("invoke", invoke("spend", value="0x5"))
    asked = await plugin.read()
    assert (asked["method"], asked["params"]) == ("load", {"keys": ["while serving"], "call": "c1"})
    await plugin.write(
        json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"items": [["x", None]]}}).encode() + b"\n"
    )
    assert await plugin.read() == {"jsonrpc": "2.0", "id": number, "result": {"number": "0x5"}}
    number = await plugin.request("stop", {})
    assert await plugin.read() == {"jsonrpc": "2.0", "id": number, "result": {}}
    assert await plugin.ended() == (0, "")


async def test_a_print_goes_to_the_log(plugin: Process) -> None:
    number = await plugin.request("invoke", invoke("shout"))
    assert await plugin.read() == {"jsonrpc": "2.0", "id": number, "result": None}
    await plugin.request("stop", {})
    await plugin.read()
    assert await plugin.ended() == (0, "to the log, not to the channel\n")


async def test_a_traceback_goes_to_the_log_only(plugin: Process) -> None:
    await plugin.request("invoke", invoke("crash"))
    answer = await plugin.read()
    assert answer["error"] == {"code": -32603, "message": "the plugin failed; the reason is in its log"}
    await plugin.request("stop", {})
    await plugin.read()
    status, logged = await plugin.ended()
    assert status == 0
    assert "RuntimeError: a-secret-value" in logged


async def test_the_process_ends_when_the_proxy_goes(plugin: Process) -> None:
    await plugin.request("invoke", invoke("wait"))
    assert plugin.process.stdin is not None
    plugin.process.stdin.close()
    assert (await plugin.ended())[0] == 0
    assert await plugin.read() is None


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b'{"jsonrpc":"2.0","id":1,"method":"lock","params":NaN}\n',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"lock","params":{}}\n',
        b'{"jsonrpc":"2.0","id":99,"result":{}}\n',
        b'{"jsonrpc":"2.0","id":"1","result":{}}\n',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"lock","params":{"a":"' + b"a" * (1 << 20) + b'"}}\n',
    ],
)
async def test_a_broken_protocol_ends_the_process_with_one_sentence(plugin: Process, line: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it may have ended before the last of the line
        await plugin.write(line)
    status, logged = await plugin.ended()
    assert status == 1
    assert logged.startswith("the channel ended: ")
    assert logged.count("\n") == 1


async def test_every_request_gets_exactly_one_answer(plugin: Process) -> None:
    messages: list[Any] = [
        {"jsonrpc": "2.0", "id": "text", "method": "lock", "params": {}},
        {"jsonrpc": "2.0", "id": 7, "method": "nothing", "params": {}},
        {"jsonrpc": "2.0", "id": 8, "method": "lock", "params": []},
        {"jsonrpc": "2.0", "id": 9, "method": 5, "params": {}},
        {"jsonrpc": "2.0", "id": 10, "method": "unlock"},
        {"jsonrpc": "2.0", "method": "lock", "params": {}},
    ]
    await plugin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
    answers = {answer["id"]: answer for answer in [await plugin.read() for _ in range(5)]}
    codes = {number: answer.get("error", {}).get("code") for number, answer in answers.items()}
    assert codes == {"text": None, 7: -32601, 8: -32600, 9: -32600, 10: None}


async def test_many_lines_at_once_are_all_answered(plugin: Process) -> None:
    async def feed() -> None:
        for _ in range(2000):
            await plugin.request("lock", {})

    feeding = asyncio.create_task(feed())
    answers = [await plugin.read() for _ in range(2000)]
    await feeding
    assert sorted(answer["id"] for answer in answers) == list(range(2, 2002))


class Pipe:
    """The pipe to a proxy that reads when it is told to; full after each line where it is `narrow`."""

    def __init__(self, *, narrow: bool = False) -> None:
        self.outgoing, self.written, self.unread = Outgoing(), list[bytes](), 0
        self.narrow = narrow
        self.outgoing.connection_made(self)  # type: ignore[arg-type] # a transport by its methods
        self.peer = Peer(Incoming(self.outgoing), self.outgoing, self.unasked)

    async def unasked(self, method: str, params: dict[str, Any]) -> Any:
        raise AssertionError(method)

    def write(self, line: bytes) -> None:
        self.written.append(line)
        if self.narrow:
            self.outgoing.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread


@pytest.mark.parametrize("several", [False, True])
async def test_what_many_wait_to_say_is_not_held_in_the_pipe_together(several: bool) -> None:
    """A line goes into a full pipe's buffer for nobody: 256 of a MiB there would be more than a plugin may use."""
    pipe = Pipe(narrow=True)
    outgoing, written, peer = pipe.outgoing, pipe.written, pipe.peer
    outgoing.several = several  # as where several requests of the proxy came together
    asking = [asyncio.create_task(peer.request("persist", {"put": {"k": "v" * 100_000}})) for _ in range(20)]
    for count in range(1, 4):
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(written) == count
        outgoing.resume_writing()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_no_more_is_asked_at_once_than_the_proxy_holds() -> None:
    pipe = Pipe()
    value = "v" * 1_000_000
    asking = [asyncio.create_task(pipe.peer.request("persist", {"put": {"k": value}})) for _ in range(6)]

    async def said(count: int) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(pipe.written) == count

    await said(4)
    pipe.peer._take(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    await said(5)
    for task in asking[1:]:
        task.cancel()
    assert (await asyncio.gather(*asking, return_exceptions=True))[0] == {}


async def test_lines_of_the_log_that_nobody_reads_are_counted_instead() -> None:
    pipe = Pipe()
    pipe.unread = 5 * 1024 * 1024
    for _ in range(3):
        pipe.peer.notify("log", {"level": "info", "message": "lost"})
    pipe.unread = 0
    pipe.peer.notify("log", {"level": "info", "message": "kept"})
    said = [json.loads(line)["params"]["message"] for line in pipe.written]
    assert said == ["3 lines were not said: the proxy had much to read", "kept"]
