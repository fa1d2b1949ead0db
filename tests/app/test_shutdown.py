"""The end of a daemon: what is in flight is finished at every door, nothing new is taken, and there is a bound to it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from middleware.questions import Facts, Question
from middleware.waist import Origin
from proxy.app import daemon as daemon_module
from proxy.config import Config, LimitSettings
from tests.app.conftest import Start
from tests.upstream.fake_node import FakeNode, result

CALL = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{}, "latest"]}


class Slow(FakeNode):
    """A node that answers eth_call once it is told to; `asked_times` grows with each that waits."""

    def __init__(self) -> None:
        super().__init__(self.hold)
        self.release = asyncio.Event()
        self.waiting = 0
        self.arrived = asyncio.Condition()

    async def hold(self, request: dict[str, Any]) -> bytes:
        async with self.arrived:
            self.waiting += 1
            self.arrived.notify_all()
        await self.release.wait()
        return result(request, "0xfeed")

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: self.waiting >= count)


async def over_http(port: int) -> Any:
    url = f"http://127.0.0.1:{port}/"
    async with aiohttp.ClientSession() as session, session.post(url, json={**CALL, "params": [{}, "0x1"]}) as answer:
        return await answer.json()


async def over_ws(port: int) -> Any:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/") as socket:
        await socket.send_json({**CALL, "params": [{}, "0x2"]})
        answer = await socket.receive_json()
        end = await socket.receive()
        assert end.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
        return answer


async def over_ipc(path: Path) -> Any:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps({**CALL, "params": [{}, "0x3"]}).encode())
    answer = json.loads(await reader.readline())
    assert await reader.read() == b""
    writer.close()
    return answer


async def test_what_is_in_flight_is_finished_at_every_door(start: Start) -> None:
    node = Slow()
    async with asyncio.TaskGroup() as tasks:
        async with start(node) as (_, doors):
            port, path = doors.dapp.port, doors.ipc.path
            calls = [tasks.create_task(call) for call in (over_http(port), over_ws(port), over_ipc(path))]
            await node.holds(3)
            closed = tasks.create_task(refused(port, node.release))
        assert await closed
    assert [call.result()["result"] for call in calls] == ["0xfeed"] * 3
    assert not path.exists()


async def refused(port: int, release: asyncio.Event) -> bool:
    """Wait until nothing new is taken, then let the node answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:  # refused, or reset in the moment the port was closed
                release.set()
                return True
            writer.close()
            await asyncio.sleep(0.01)  # until the port is closed: another side's doing


def limited(upstream_call: float, plugin_call: float) -> Config:
    return Config(limits=LimitSettings(upstream_call=upstream_call, plugin_call=plugin_call))


async def test_a_call_has_its_own_limit_also_while_the_daemon_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Slow()
    monkeypatch.setattr(
        daemon_module, "_grace", lambda _: 60.0
    )  # longer than any pause of this machine: who waits for it is late
    async with start(node, limited(1.0, 0.1)) as (_, doors):
        calls = [
            asyncio.create_task(call)
            for call in (over_http(doors.dapp.port), over_ws(doors.dapp.port), over_ipc(doors.ipc.path))
        ]
        await node.holds(3)
    answers = await asyncio.gather(*calls)
    assert [answer["error"]["code"] for answer in answers] == [4900] * 3, "told what became of it, not cut off"


async def test_what_does_not_end_by_itself_holds_the_end_up_for_its_time_only(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon_module, "_grace", lambda _: 0.2)
    node = Slow()
    async with start(node) as (_, doors):
        calls = [
            asyncio.create_task(call)
            for call in (over_http(doors.dapp.port), over_ws(doors.dapp.port), over_ipc(doors.ipc.path))
        ]
        await node.holds(3)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes), "cut off, and told so by the closed connection"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_longest_limit_of_a_call_is_the_grace() -> None:
    assert daemon_module._grace(limited(30, 60).limits) == 62
    assert daemon_module._grace(limited(300, 60).limits) == 302


async def test_a_question_to_the_owner_does_not_hold_it_up(start: Start) -> None:
    asked: asyncio.Task[Any]
    async with start(FakeNode()) as (services, _):
        facts = Facts("personal_sign", plugin=None, action=None, asset=None, value=None)
        question = Question(
            origin=Origin.web("https://a.example"), kind="message", summary="s", digest="d", facts=facts
        )
        approvals = services.authority.approvals
        asked = asyncio.create_task(approvals.ask(question))
        await approvals.changed(approvals.version)
    with pytest.raises(Exception, match="the daemon stops"):
        await asked


@asynccontextmanager
async def process(
    data: Path, url: str, port: int = 0, *, options: Sequence[str] = ()
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    command = [
        sys.executable,
        "-m",
        "proxy",
        "run",
        "--json",
        "--port",
        str(port),
        "--l1",
        url,
        "--data",
        str(data),
        *options,
    ]
    started = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert started.stdout is not None
        async with asyncio.timeout(200):  # with all that the test does meanwhile
            yield started, json.loads(await started.stdout.readline() or "{}")
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


class Hanging(FakeNode):
    """A node that takes every request and answers none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def respond(self, raw: bytes) -> bytes | None:
        self.asked.set()
        return await asyncio.Future()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_start_that_waits_for_a_node_is_given_up_at_the_first_signal(
    short_tmp: Path, number: signal.Signals
) -> None:
    node = Hanging()
    command = [sys.executable, "-m", "proxy", "run", "--port", "0", "--data", str(short_tmp / "a"), "--json"]
    async with asyncio.timeout(100), node.http() as url:
        daemon = await asyncio.create_subprocess_exec(
            *command, "--l1", url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        await node.asked.wait()
        daemon.send_signal(number)
        said, errors = await daemon.communicate()
    assert (daemon.returncode, said) == (0, b""), errors
    assert b"Traceback" not in errors
    assert not (short_tmp / "a" / "admin.ipc").exists()


@pytest.mark.timeout(240)  # three starts
async def test_one_signal_finishes_and_the_second_does_not_wait(short_tmp: Path) -> None:
    node = Slow()
    async with node.http() as url:
        async with process(short_tmp / "a", url) as (daemon, ready):
            port = int(ready["dapp"].rpartition(":")[2])
            async with process(short_tmp / "b", url, port) as (second, not_ready):
                assert not_ready == {}
                assert second.stderr is not None
                said = (await second.stderr.read()).decode().splitlines()
                assert await second.wait() == 1
            assert said[-1].startswith(f"l2proxy: port {port} on 127.0.0.1 is taken by another program; choose another")
            assert not any("Traceback" in line for line in said)
            call = asyncio.create_task(over_http(port))
            await node.holds(1)
            daemon.send_signal(signal.SIGTERM)
            assert await refused(port, node.release)
            assert (await call)["result"] == "0xfeed"
            assert await daemon.wait() == 0
        node.release.clear()
        async with process(short_tmp / "a", url) as (daemon, ready):
            port = int(ready["dapp"].rpartition(":")[2])
            call = asyncio.create_task(over_http(port))
            await node.holds(2)
            daemon.send_signal(signal.SIGINT)
            await refused(port, asyncio.Event())
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 128 + signal.SIGTERM
            with pytest.raises(aiohttp.ClientError):
                await call
        node.release.set()
