"""Who takes part: the node, the mock, the daemon as users start it, and the peers, each before the same node."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.children import ROOT, held_port, saying_ready, silent

HERE = Path(__file__).parent
METAMASK = HERE / "metamask"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
ANVIL = (
    ROOT
    / f"tests/node_modules/@foundry-rs/anvil-linux-{MACHINES.get(platform.machine(), platform.machine())}/bin/anvil"
)


@dataclass(frozen=True)
class Node:
    """A node to ask: real or mock."""

    http: str
    ipc: str
    pid: int

    @property
    def ws(self) -> str:
        return "ws" + self.http.removeprefix("http")


@dataclass(frozen=True)
class Target:
    """Something that answers JSON-RPC over HTTP, and the processes that cost of it is counted on."""

    name: str
    url: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Daemon(Target):
    """A running `l2proxy run`, and what its ready line said."""

    ready: dict[str, str] = field(default_factory=dict)


def find_nginx() -> str | None:
    """Return nginx's path; Debian keeps it where users have no PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def anvil(folder: Path) -> AsyncIterator[Node]:
    """Run a real node, silent: a line of log for each call would be measured too."""
    ipc = f"{folder}/anvil.ipc"
    with held_port() as port:
        command: list[str | Path] = [ANVIL, "--silent", "--host", "127.0.0.1", "--port", str(port), "--ipc", ipc]
        async with silent("anvil", command, f"http://127.0.0.1:{port}", folder) as pid:
            yield Node(f"http://127.0.0.1:{port}", ipc, pid)


@asynccontextmanager
async def mock(folder: Path) -> AsyncIterator[Node]:
    """Run the mock node."""
    ipc = f"{folder}/mock.ipc"
    async with saying_ready("mock", [sys.executable, "-m", "benchmarks.mock_node", ipc], folder) as process:
        yield Node(f"http://127.0.0.1:{process.ready['port']}", ipc, process.pid)


@asynccontextmanager
async def daemon(
    name: str, upstream: str, folder: Path, config: str = "", options: Sequence[str] = ()
) -> AsyncIterator[Daemon]:
    """Run the daemon on a data directory of its own; `config` is TOML for --config."""
    home = folder / name.replace(" ", "-")
    home.mkdir()
    command = [sys.executable, "-m", "proxy", "run", "--json", "--port", "0", "--console-port", "0"]
    if config:
        (home / "config.toml").write_text(config)
        command += ["--config", str(home / "config.toml")]
    command += ["--data", str(home / "data"), "--l1", upstream, *options]
    async with saying_ready(home.name, command, folder) as process:
        yield Daemon(name, process.ready["dapp"] + "/", (process.pid,), process.ready)


@asynccontextmanager
async def nginx(name: str, upstream: str, folder: Path) -> AsyncIterator[Target]:
    """Run nginx: one worker, connections kept on both sides, buffers that hold a large answer."""
    binary = find_nginx()
    if binary is None:
        raise FileNotFoundError("nginx is not installed")
    home = folder / name.replace(" ", "-")
    home.mkdir()
    text = (HERE / "nginx.conf").read_text()
    with held_port() as port:
        places = {"@FOLDER@": str(home), "@PORT@": str(port), "@UPSTREAM@": upstream.removeprefix("http://")}
        for place, value in places.items():
            text = text.replace(place, value)
        (home / "nginx.conf").write_text(text)
        url = f"http://127.0.0.1:{port}/"
        async with silent(
            home.name, [binary, "-p", home, "-c", home / "nginx.conf", "-e", home / "error.log"], url, folder
        ) as pid:
            yield Target(name, url, (pid,))


@asynccontextmanager
async def metamask(name: str, upstream: str, folder: Path) -> AsyncIterator[Target]:
    """Run MetaMask's engine behind Node."""
    async with saying_ready(name.replace(" ", "-"), ["node", METAMASK / "server.mjs", upstream], folder) as process:
        yield Target(name, f"http://127.0.0.1:{process.ready['port']}/", (process.pid,))


@asynccontextmanager
async def aiohttp_proxy(name: str, upstream: str, folder: Path) -> AsyncIterator[Target]:
    """Run the plain aiohttp proxy."""
    command = [sys.executable, "-m", "benchmarks.aiohttp_proxy", upstream]
    async with saying_ready(name.replace(" ", "-"), command, folder) as process:
        yield Target(name, f"http://127.0.0.1:{process.ready['port']}/", (process.pid,))


def direct(name: str, node: Node) -> Target:
    """The node itself."""
    return Target(name, node.http + "/", (node.pid,))


def bodies(folder: Path, name: str, calls: Sequence[tuple[str, list[object]]]) -> Path:
    """Write request bodies for the load generator, one a line, ids in sequence."""
    file = folder / f"{name}.jsonl"
    file.write_text(
        "".join(
            json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, separators=(",", ":"))
            + "\n"
            for number, (method, params) in enumerate(calls, 1)
        )
    )
    return file


def balances(count: int) -> list[tuple[str, list[object]]]:
    """Return `count` different small reads of about 120 bytes, so that no two in flight are the same."""
    return [("eth_getBalance", [f"0x{number:040x}", "latest"]) for number in range(1, count + 1)]
