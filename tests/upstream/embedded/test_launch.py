"""Starting, finding, outliving and ending: the embedded L1 as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.upstream.embedded import ending, launch
from proxy.upstream.embedded.launch import EmbeddedError, EmbeddedNode, ensure, socket_path

RICH = "0x" + "ab" * 20
OTHER = "0x" + "cd" * 20


@pytest.fixture(autouse=True)
def _ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill no node because the machine is slow: it must end by SIGTERM, and clear up behind itself."""
    monkeypatch.setattr(ending, "_SECONDS_TO_END", 100.0)


@pytest.fixture
async def directory(short_tmp: Path) -> AsyncIterator[Path]:
    """A private directory; whatever node runs for it is ended afterwards."""
    folder = short_tmp / "data"
    folder.mkdir(mode=0o700)
    yield folder
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        await EmbeddedNode(socket_path(folder), (await ask(socket_path(folder)))[1]).stop()


async def ask(path: Path, method: str = "eth_chainId", *params: object) -> tuple[Any, int]:
    return await launch._ask(path, method, list(params))


async def gone(pid: int) -> bool:
    """Wait until a process that is not our child has ended, whether or not its parent has looked yet."""
    async with asyncio.timeout(60):
        while running(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return True


def running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


async def test_a_node_is_started_found_again_and_ended(directory: Path) -> None:
    node = await ensure(directory, {RICH: 5})
    assert node.socket == directory / "dev-l1.ipc"
    assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600
    assert await ask(node.socket) == ("0x539", node.pid)
    assert (await ask(node.socket, "eth_getBalance", RICH, "latest"))[0] == "0x5"
    assert int((directory / "dev-l1.pid").read_text()) == node.pid
    assert await ensure(directory, {}) == node
    await node.stop()
    assert not running(node.pid)
    assert not node.socket.exists()
    assert not (directory / "dev-l1.pid").exists()
    await node.stop()


async def test_several_at_once_start_one(directory: Path) -> None:
    nodes = await asyncio.gather(*(ensure(directory, {RICH: 5}) for _ in range(4)))
    assert len(set(nodes)) == 1


async def test_a_found_node_funds_whom_it_has_never_seen(directory: Path) -> None:
    node = await ensure(directory, {RICH: 5})
    await ensure(directory, {RICH: 100, OTHER: 7})
    assert (await ask(node.socket, "eth_getBalance", RICH, "latest"))[0] == "0x5"
    assert (await ask(node.socket, "eth_getBalance", OTHER, "latest"))[0] == "0x7"


async def test_it_outlives_a_killed_starter_and_keeps_nothing_of_it(directory: Path, short_tmp: Path) -> None:
    secret = short_tmp / "secret"
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom proxy.upstream.embedded.launch import ensure\n"
        f"leak = os.open({str(secret)!r}, os.O_CREAT | os.O_RDWR)\nos.set_inheritable(leak, True)\n"
        f"node = asyncio.run(ensure(Path({str(directory)!r}), {{}}))\nprint(node.pid, flush=True)\nsys.stdin.read()\n"
    )
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    pid = int(await starter.stdout.readline())
    starter.kill()
    await starter.wait()
    assert await ask(socket_path(directory)) == ("0x539", pid)
    held = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the connection of the question above, closed meanwhile
            held.append(os.readlink(link))
    assert str(secret) not in held
    assert not [name for name in held if name.endswith(".lock")]
    assert os.getsid(pid) != os.getsid(0)
    assert (await ensure(directory, {})).pid == pid


async def test_a_new_chain_has_another_genesis(directory: Path) -> None:
    hashes = []
    for _ in range(2):
        node = await ensure(directory, {RICH: 5})
        hashes.append((await ask(node.socket, "eth_getBlockByNumber", "0x0", False))[0]["hash"])
        await node.stop()
    assert hashes[0] != hashes[1]


async def test_what_a_killed_node_left_is_cleared(directory: Path) -> None:
    node = await ensure(directory, {})
    os.kill(node.pid, signal.SIGKILL)
    assert await gone(node.pid)
    assert node.socket.exists()
    assert (directory / "dev-l1.pid").exists()
    again = await ensure(directory, {})
    assert again.pid != node.pid
    assert (await ask(again.socket))[1] == again.pid


async def test_a_stale_pid_of_another_program_is_left_alone(directory: Path) -> None:
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    (directory / "dev-l1.pid").write_text(str(bystander.pid))
    node = await ensure(directory, {})
    assert bystander.returncode is None
    await EmbeddedNode(node.socket, bystander.pid).stop()
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_it_ends_when_its_directory_goes(directory: Path, short_tmp: Path) -> None:
    node = await ensure(directory, {})
    directory.rename(short_tmp / "moved")
    assert await gone(node.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_on_a_signal(directory: Path, number: signal.Signals) -> None:
    node = await ensure(directory, {})
    os.kill(node.pid, number)
    assert await gone(node.pid)
    assert not node.socket.exists()


async def test_a_signal_ends_it_in_the_middle_of_a_long_call(directory: Path) -> None:
    node = await ensure(directory, {})
    reader, writer = await asyncio.open_unix_connection(node.socket)
    endless = {"data": "0x5b600056"}
    writer.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [endless, "latest"]}).encode())
    await writer.drain()
    # The loop goes on meanwhile: another connection is taken and closed by the node's own hand.
    second, other = await asyncio.open_unix_connection(node.socket)
    other.write(b"no json")
    assert b"-32700" in await second.readline()
    await node.stop()
    assert not node.socket.exists(), "it was not killed"
    assert await reader.read() == b""
    writer.close()
    other.close()


async def test_others_may_not_enter_the_directory(directory: Path) -> None:
    directory.chmod(0o755)
    with pytest.raises(EmbeddedError, match="chmod 700"):
        await ensure(directory, {})
    directory.chmod(0o700)


async def test_another_server_on_the_socket_is_not_taken_for_a_node(directory: Path) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b'{"jsonrpc":"2.0","id":1,"result":"Geth/v1.16"}\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(other, socket_path(directory))
    with pytest.raises(EmbeddedError, match="another program"):
        await ensure(directory, {})
    server.close()
    socket_path(directory).unlink()


async def test_a_failed_start_says_why(directory: Path) -> None:
    (directory / "dev-l1.ipc").mkdir()
    with pytest.raises(EmbeddedError, match="is no socket; move it away"):
        await ensure(directory, {})
    (directory / "dev-l1.ipc").rmdir()
    with pytest.raises(EmbeddedError, match="expected ADDRESS=WEI"):
        await ensure(directory, {"nobody": 5})


async def test_a_long_path_moves_the_socket(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = short_tmp / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    deep = short_tmp / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    node = await ensure(deep, {})
    try:
        assert runtime in node.socket.parents
        assert stat.S_IMODE(node.socket.parent.stat().st_mode) == 0o700
        assert (await ask(node.socket))[1] == node.pid
        assert await ensure(deep, {}) == node
    finally:
        await node.stop()
    assert socket_path(deep) != socket_path(deep / "x")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert len(os.fsencode(socket_path(deep))) <= 100


async def test_a_stream_of_values_is_answered_in_order(directory: Path) -> None:
    node = await ensure(directory, {})
    reader, writer = await asyncio.open_unix_connection(node.socket)
    one = b'{"jsonrpc":"2.0","id":%d,"method":"eth_chainId"}'
    text = b" ".join(one % n for n in range(50)) + b"[" + one % 50 + b"," + one % 51 + b"]" + one % 52
    for byte in range(0, len(text), 7):
        writer.write(text[byte : byte + 7])
        await writer.drain()
    answers = [json.loads(await reader.readline()) for _ in range(52)]
    assert [answer["id"] for answer in answers[:50]] == list(range(50))
    assert [answer["id"] for answer in answers[50]] == [50, 51]
    assert answers[51]["id"] == 52
    writer.write(b"}")
    assert json.loads(await reader.readline())["error"]["code"] == -32700
    assert await reader.read() == b""
    writer.close()


async def command(*words: str) -> tuple[int, str]:
    """Run the command line to its end; returns exit code and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy.upstream.embedded", *words), stdout=-3, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    return process.returncode or 0, error.decode()


@pytest.mark.timeout(300)  # nine interpreters, one after the other
async def test_mistakes_on_the_command_line_are_one_sentence(directory: Path, short_tmp: Path) -> None:
    path = str(directory / "x.ipc")
    assert (await command())[0] == 2
    for word in ("nobody=5", f"{RICH}=-1", f"{RICH}", f"{RICH}={2**256}"):
        code, text = await command("--socket", path, "--fund", word)
        assert (code, "expected ADDRESS=WEI" in text) == (2, True)
    assert (await command("--socket", path, "--port", "70000"))[0] == 2
    code, text = await command("--socket", str(short_tmp / "missing" / "x.ipc"))
    assert (code, text.count("\n"), "does not exist" in text) == (1, 1, True)
    with socket.socket(socket.AF_INET) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = await command("--socket", path, "--port", str(taken.getsockname()[1]))
    assert (code, text.count("\n"), "port" in text) == (1, 1, True)
    node = await ensure(directory, {})
    code, text = await command("--socket", str(node.socket))
    assert (code, text.count("\n"), "already serves" in text) == (1, 1, True)
    assert (await ask(node.socket))[1] == node.pid
