"""The socket door: whom it answers, and that one slow caller holds up nobody's connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.upstream.embedded import server as server_module
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.server import Server
from proxy.upstream.embedded.unix_socket import bind_private, peer
from tests.upstream.embedded.conftest import FUND

CHAIN = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


@pytest.fixture
async def path(short_tmp: Path) -> AsyncIterator[Path]:
    """The socket of a fresh node."""
    server = Server(Node(FUND))
    await server.open_socket(bind_private(short_tmp / "l1.ipc"))
    yield short_tmp / "l1.ipc"
    await server.close()


def test_a_socket_is_never_open_to_others(short_tmp: Path) -> None:
    before = os.umask(0)
    try:
        listener = bind_private(short_tmp / "x.ipc")
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((short_tmp / "x.ipc").stat().st_mode) == 0o600
    listener.close()


async def test_the_kernel_names_the_peer(path: Path) -> None:
    _, writer = await asyncio.open_unix_connection(path)
    assert peer(writer.get_extra_info("socket")) == (os.getpid(), os.geteuid())
    writer.close()


async def test_a_peer_of_another_user_gets_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "peer", lambda connection: (1, os.geteuid() + 1))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(CHAIN)
    # Closed with the request unread, the kernel may say so by a reset instead of an end.
    said = b""
    with contextlib.suppress(ConnectionResetError):
        said = await reader.read()
    assert said == b""
    assert reader.at_eof() or reader.exception() is not None
    writer.close()


async def test_half_a_request_holds_up_nobody(path: Path) -> None:
    _, slow = await asyncio.open_unix_connection(path)
    slow.write(CHAIN[:-1])
    await slow.drain()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(CHAIN)
    assert json.loads(await reader.readline())["result"] == "0x539"
    writer.close()
    slow.close()


async def test_a_caller_who_never_reads_holds_up_nobody(path: Path) -> None:
    _, deaf = await asyncio.open_unix_connection(path, limit=1)
    block = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x0",true]}'
    deaf.write(block * 3000)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(CHAIN)
    async with asyncio.timeout(60):
        assert json.loads(await reader.readline())["result"] == "0x539"
    writer.close()
    deaf.transport.abort()
