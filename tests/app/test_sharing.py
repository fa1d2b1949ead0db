"""In-flight sharing through a daemon: the first asker is cut off, those who wait for the same are answered, each with its own id."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app.daemon import Doors, open_daemon
from proxy.app.options import RunOptions
from proxy.config import CacheSettings, Config
from tests.upstream.chain_node import KINDS, ChainNode
from tests.upstream.fake_node import Reply, result

PARAMS = [{"to": "0x" + "11" * 20}, "latest"]


class Gated(ChainNode):
    """A node of a chain that lasts, whose eth_call waits for `go`."""

    def __init__(self) -> None:
        super().__init__(version="Geth/v1.15.0", pushes_heads=False)
        self.mine()
        self.go = asyncio.Event()

    async def respond(self, raw: bytes) -> Reply:
        request = json.loads(raw)
        if request["method"] == "eth_call":
            self.asked.append(raw)
            await self.go.wait()
            return result(request, "0x2a")
        return await super().respond(raw)


def body(raw_id: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": raw_id, "method": "eth_call", "params": PARAMS}).encode()


class Cut:
    """An asker over a bare socket, that can leave with a reset."""

    def __init__(self, doors: Doors) -> None:
        self._socket = socket.create_connection(("127.0.0.1", doors.dapp.port))
        asked = body("cut")
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{doors.dapp.port}\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


async def over_http(doors: Doors, raw_id: Any) -> Any:
    url, headers = f"http://127.0.0.1:{doors.dapp.port}/", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session, session.post(url, data=body(raw_id), headers=headers) as response:
        return await response.json()


async def over_ws(doors: Doors, raw_id: Any) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{doors.dapp.port}/") as connection,
    ):
        await connection.send_str(body(raw_id).decode())
        return await connection.receive_json()


async def over_ipc(doors: Doors, raw_id: Any) -> Any:
    reader, writer = await asyncio.open_unix_connection(doors.ipc.path)
    writer.write(body(raw_id) + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return answer


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  (poll with a deadline)
            await asyncio.sleep(0.005)


def waiting(calls: dict[Any, Any], most: int) -> Callable[[], bool]:
    """Return whether so many wait for calls of others."""
    return lambda: sum(len(call.waiting) for call in calls.values()) >= most


@pytest.mark.parametrize("leavers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_leaves_by_a_reset_hurts_nobody(kind: str, leavers: int, short_tmp: Path) -> None:
    node = Gated()
    config = Config(cache=CacheSettings(enabled=True))
    async with node.over(kind, short_tmp) as url:
        options = RunOptions(short_tmp / "data", config, (url,), False, 0, 0, None, True)
        async with open_daemon(options, lambda line: None) as (services, doors):
            sharing = services.node_answers.in_flight
            calls = sharing._calls
            first = Cut(doors)
            await until(lambda: node.times("eth_call") == 1)
            more = []
            for nth in range(1, leavers):
                more.append(Cut(doors))
                await until(waiting(calls, nth))
            ids = ["a", 7, None, "\u00e4", 2**63, 1.5]
            asking = [asyncio.create_task(ask(doors, one)) for ask in (over_http, over_ws, over_ipc) for one in ids]
            # An id that must travel as it is asks for itself.
            shared = 3 * sum(one in ("a", 7, None) for one in ids)
            await until(waiting(calls, leavers - 1 + shared))
            asked = node.times("eth_call")
            for cut in (first, *more):
                cut.reset()
            await until(lambda: node.times("eth_call") > asked)
            assert not any(task.done() for task in asking)
            node.go.set()
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*asking)
            assert [one["id"] for one in answers] == 3 * ids
            assert {one["result"] for one in answers} == {"0x2a"}
            assert sharing.figures.shared >= shared - 1
            await until(lambda: not calls)
            assert await over_http(doors, "after") == {"jsonrpc": "2.0", "id": "after", "result": "0x2a"}


@pytest.mark.parametrize("kind", KINDS)
async def test_when_all_leave_nothing_is_left_of_them(kind: str, short_tmp: Path) -> None:
    node = Gated()
    config = Config(cache=CacheSettings(enabled=True))
    async with node.over(kind, short_tmp) as url:
        options = RunOptions(short_tmp / "data", config, (url,), False, 0, 0, None, True)
        async with open_daemon(options, lambda line: None) as (services, doors):
            calls = services.node_answers.in_flight._calls
            cuts = [Cut(doors) for _ in range(20)]
            await until(waiting(calls, 19))
            for cut in cuts:
                cut.reset()
            await until(lambda: not calls)
            await until(lambda: not any(one.figures.in_flight for one in services.l1.nodes))
            node.go.set()
            assert (await over_http(doors, 1))["result"] == "0x2a"
