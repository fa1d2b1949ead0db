"""The unix sockets: private files, geth's framing, the same user only, and the admin client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket as sockets
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import RpcError
from middleware.waist import OWNER, SOCKET
from proxy.server import socket as module
from proxy.server.admin_client import call_admin_socket
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.socket import SocketListener, socket_path
from tests.server.conftest import CALL, PATIENCE, Echo


@pytest.fixture
async def listener(short_tmp: Path, echo: Echo) -> AsyncIterator[SocketListener]:
    listening = SocketListener(Door(echo), short_tmp / "run" / "l2proxy.ipc", most_bytes=100_000)
    await listening.start()
    yield listening
    await listening.close(0.5)


async def talk(path: Path, data: bytes, answers: int) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        lines = [json.loads(await reader.readline()) for _ in range(answers)]
    writer.close()
    return lines


async def test_files_are_private(listener: SocketListener) -> None:
    assert stat.S_IMODE(listener.path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(listener.path.parent.lstat().st_mode) == 0o700


@pytest.mark.parametrize("between", [b"", b"\n", b" \r\n\n"])
async def test_values_one_after_another(listener: SocketListener, between: bytes) -> None:
    answers = await talk(listener.path, between.join([CALL] * 3) + between, 3)
    assert [one["result"] for one in answers] == ["socket"] * 3
    assert (await talk(listener.path, b"[" + CALL + b"\n,\n" + CALL + b"]", 1))[0][1]["result"] == "socket"


async def test_a_client_that_has_said_everything_still_gets_its_answer(listener: SocketListener, echo: Echo) -> None:
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(CALL.replace(b"who", b"wait"))
    writer.write_eof()
    await echo.waiting.wait()
    echo.release.set()
    assert json.loads(await reader.readline())["result"] == "socket"
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_has_gone_is_noticed(listener: SocketListener, echo: Echo) -> None:
    _, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(CALL.replace(b"who", b"wait"))
    async with asyncio.timeout(PATIENCE):
        await echo.waiting.wait()
        writer.close()
        await echo.cancelled.wait()
        presence = echo.seen[0][1].presence
        assert presence is not None
        await presence.gone()


@pytest.mark.parametrize(("junk", "code"), [(b"GET / HTTP/1.1\r\n\r\n", -32700), (b"[" + b" " * 200_000, -32005)])
async def test_what_cannot_be_read_is_answered_once_and_ends(listener: SocketListener, junk: bytes, code: int) -> None:
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(junk)
    said = b""
    with contextlib.suppress(ConnectionError):  # where the system had not handed it all of the junk
        while piece := await reader.read(4096):
            said += piece
    writer.close()
    assert [json.loads(line)["error"]["code"] for line in said.splitlines()] == [code]


async def test_another_user_is_refused(listener: SocketListener, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(CALL)
    try:
        assert await reader.read() == b""
    except ConnectionError:  # of the reading, or of the writing before it
        assert reader.at_eof() is False  # what was sent was thrown away unread
    writer.close()
    assert echo.seen == []


async def test_connections_are_counted(short_tmp: Path, echo: Echo) -> None:
    listening = SocketListener(Door(echo), short_tmp / "x.ipc", connections=Connections(per_caller=1))
    await listening.start()
    _, first = await asyncio.open_unix_connection(listening.path)
    first.write(CALL)
    reader, second = await asyncio.open_unix_connection(listening.path)
    assert json.loads(await reader.read())["error"]["data"] == {"limit": "connections_per_caller"}
    first.close()
    second.close()
    await listening.close(0.5)


async def test_who_asks_and_never_reads_is_cut_off_and_counted(
    short_tmp: Path, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Outbox", functools.partial(module.Outbox, stall_seconds=0.2))
    connections = Connections()
    listening = SocketListener(Door(echo), short_tmp / "x.ipc", connections=connections)
    await listening.start()
    _, writer = await asyncio.open_unix_connection(listening.path, limit=1024)
    writer.write(b'{"jsonrpc":"2.0","id":1,"method":"large","params":[9000000]}' * 2)
    async with asyncio.timeout(PATIENCE):
        while not echo.seen or len(connections):  # noqa: ASYNC110  the other side notices in its own time
            await asyncio.sleep(0.01)
    assert connections.cut_off == {"http": 0, "ws": 0, "ipc": 1}
    writer.transport.abort()
    await listening.close(0.5)


async def test_a_stale_file_is_replaced_and_a_live_one_is_not(short_tmp: Path, echo: Echo) -> None:
    path = short_tmp / "l2proxy.ipc"
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(path))
    listening = SocketListener(Door(echo), path)
    await listening.start()
    with pytest.raises(OSError, match="another daemon listens"):
        await SocketListener(Door(echo), path).start()
    assert (await talk(path, CALL, 1))[0]["result"] == "socket"
    await listening.close(0.5)
    assert not path.exists()
    path.write_text("a file of the owner's")
    with pytest.raises(OSError, match="not a socket"):
        await SocketListener(Door(echo), path).start()
    assert path.read_text() == "a file of the owner's"


async def test_an_open_directory_is_refused(short_tmp: Path, echo: Echo) -> None:
    (short_tmp / "open").mkdir(mode=0o755)
    (short_tmp / "open").chmod(0o755)
    with pytest.raises(OSError, match="open to other users"):
        await SocketListener(Door(echo), short_tmp / "open" / "x.ipc").start()


def test_where_sockets_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert socket_path(Path("/a"), "admin.ipc") == Path("/a/admin.ipc")
    deep = Path("/" + "d" * 100)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    path = socket_path(deep, "admin.ipc")
    assert path.parent.parent == Path("/run/user/7")
    assert path.parent.name.startswith("l2proxy-")
    assert path == socket_path(deep, "l2proxy.ipc").with_name("admin.ipc")
    assert path.parent != socket_path(deep / "x", "admin.ipc").parent
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert len(os.fsencode(socket_path(deep, "l2proxy.ipc"))) <= module.LONGEST_PATH
    assert tmp_path.exists()


async def test_the_admin_client(short_tmp: Path, echo: Echo) -> None:
    path = short_tmp / "admin.ipc"
    with pytest.raises(ConnectionError, match="no daemon"):
        await call_admin_socket(path, "who", {})
    listening = SocketListener(Door(echo), path, origin=OWNER)
    await listening.start()
    assert await call_admin_socket(path, "who", {"a": 1}) == "owner"
    assert len(await call_admin_socket(path, "large", [300_000])) == 300_000
    with pytest.raises(RpcError) as refused:
        await call_admin_socket(path, "refuse", {})
    assert (refused.value.code, refused.value.data) == (4001, {"reason": "no"})
    asked = asyncio.create_task(call_admin_socket(path, "wait", {}))
    await echo.waiting.wait()
    await listening.close(0)
    with pytest.raises(ConnectionError):
        await asked
    assert echo.seen[0][1].origin is OWNER
    assert SOCKET is not OWNER


async def test_the_end_finishes_what_is_in_flight(listener: SocketListener, echo: Echo) -> None:
    asked = asyncio.create_task(talk(listener.path, CALL.replace(b"who", b"wait"), 1))
    await echo.waiting.wait()
    ending = asyncio.create_task(listener.close(PATIENCE))
    await asyncio.sleep(0)
    echo.release.set()
    assert (await asked)[0]["result"] == "socket"
    await ending
    assert not listener.path.exists()
