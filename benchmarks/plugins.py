"""What a plugin costs: an echo action over HTTP, durable writes against raw LevelDB, cold start and idle memory.

`python -m benchmarks.plugins [--seconds S] [--folder F]`: one line a figure. A daemon of its own over a node that answers nothing but its
identity, in a temporary folder; the disk of that folder is what `persist` is measured on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import plyvel

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.app.services import Services
from proxy.config import Config
from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE
from tests.upstream.fake_node import FakeNode

PASSWORD = os.urandom(8).hex()
MANIFEST = """id = "bench"
name = "Bench"
version = "1"
runtime = "python"
entry = "bench:Bench"
[keys]
path = "m/7002'/9'/0'"
[permissions]
store_bytes = 268435456
cpu_seconds_per_minute = 60
[[action]]
name = "echo"
params = [{ name = "text", type = "string" }]
returns = [{ name = "text", type = "string" }]
approval = "never"
[[action]]
name = "persist"
params = [{ name = "seconds", type = "uint64" }, { name = "at_once", type = "uint64" }]
returns = [{ name = "count", type = "uint64" }]
approval = "never"
"""
CODE = """import asyncio, time
from typing import TypedDict
from l2proxy_sdk import Plugin, String, Uint64, action
class Text(TypedDict):
    text: String
class Count(TypedDict):
    count: Uint64
class Bench(Plugin):
    @action(approval="never")
    async def echo(self, text: String) -> Text:
        return {"text": text}
    @action(approval="never")
    async def persist(self, seconds: Uint64, at_once: Uint64) -> Count:
        self.count = 0
        until = time.monotonic() + seconds
        async def write():
            while time.monotonic() < until:
                self.count += 1
                await self.store.put(f"k{self.count}", "v" * 32)
        await asyncio.gather(*(write() for _ in range(at_once)))
        return {"count": self.count}
"""


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


@contextlib.asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[tuple[Services, str]]:
    """Run a daemon with the plugin installed; yield its services and the address of a site that may ask."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD)
    source = folder / "bench"
    source.mkdir()
    (source / "plugin.toml").write_text(MANIFEST)
    (source / "bench.py").write_text(CODE)
    async with FakeNode().http() as url:
        options = RunOptions(data, Config(), (url,), False, 0, 0, PASSWORD, True)
        async with open_daemon(options, say) as (services, doors):
            admin = data / "admin.ipc"
            await call_admin_socket(admin, "admin_pluginAdd", {"source": str(source), "grants": ["all"]})
            made = await call_admin_socket(
                admin, "admin_tokenNew", {"name": "bench", "allowPlugins": [{"plugin": "bench"}]}
            )
            yield services, f"http://127.0.0.1:{doors.dapp.port}/{made['token']}"


def asker(session: aiohttp.ClientSession, url: str) -> Callable[..., Awaitable[dict[str, str]]]:
    """Return a function that invokes an action and returns its result."""

    async def ask(action: str, *params: object) -> dict[str, str]:
        body = {"jsonrpc": "2.0", "id": 1, "method": "l2_invoke", "params": ["bench", action, list(params)]}
        async with session.post(url, json=body) as response:
            answer = await response.json()
        if "result" not in answer:
            raise RuntimeError(f"{action}: {answer}")
        result: dict[str, str] = answer["result"]
        return result

    return ask


async def one_client(ask: Callable[..., Awaitable[dict[str, str]]], seconds: float) -> float:
    """Return the median seconds of an echo, asked one after another."""
    taken = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await ask("echo", "hello")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def many_clients(services: Services, url: str, seconds: float, clients: int = 16) -> tuple[float, float]:
    """Return echoes a second and seconds of the daemon's and the plugin's CPU for each, asked by `load` processes of wrk."""
    script = Path(tempfile.mkdtemp()) / "echo.lua"
    body = '{"jsonrpc":"2.0","id":1,"method":"l2_invoke","params":["bench","echo",["hello"]]}'
    script.write_text(
        f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[==[{body}]==]\n"
        "done=function(s) io.write(s.requests/(s.duration/1e6),'\\n') end\n"
    )
    began = time.process_time()
    command = ("wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "-s", str(script), url)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    rate = float(said.decode().splitlines()[-1])
    return rate, (time.process_time() - began) / (rate * seconds)


def raw_puts(folder: Path, seconds: float) -> float:
    """Return synced puts a second of LevelDB alone."""
    database = plyvel.DB(str(folder / "raw"), create_if_missing=True)
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        database.put(b"k%d" % count, b"v" * 32, sync=True)
        count += 1
    database.close()
    return count / seconds


async def measure(folder: Path, seconds: float) -> None:
    """Measure everything and print it."""
    async with daemon(folder) as (services, url), aiohttp.ClientSession() as session:
        ask = asker(session, url)
        await ask("echo", "warm")
        await services.plugins.rehost("bench")
        began = time.perf_counter()
        await ask("echo", "cold")
        say(f"cold start to the first answer: {1000 * (time.perf_counter() - began):.0f} ms")
        figures = services.plugins.status("bench")
        say(f"idle memory: {figures['residentBytes'] / 1e6:.1f} MB")
        say(f"echo, one client, p50: {1e6 * await one_client(ask, seconds):.0f} us")
        rate, cpu = await many_clients(services, url, seconds)
        say(f"echo, 16 clients: {rate:.0f}/s, {1e6 * cpu:.0f} us of the daemon's CPU each")
        for at_once in (1, 8, 64):
            raw = raw_puts(folder, seconds)
            count = int((await ask("persist", int(seconds), at_once))["count"], 16)
            say(
                f"persist, {at_once} at once: {count / seconds:.0f}/s, {count / seconds / raw:.2f} of {raw:.0f} raw puts"
            )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    import uvloop

    with tempfile.TemporaryDirectory(dir=options.folder, prefix="l2b") as folder:
        uvloop.run(measure(Path(folder), options.seconds))


if __name__ == "__main__":
    main()
