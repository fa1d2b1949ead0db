"""A daemon with plugins for the benchmarks: an echo in both runtimes, and as many copies of it as wanted.

`python -m benchmarks.plugin_daemon FOLDER L1 INSTALLED RUNNING` runs one in a process of its own and says on its first line
{"ready": true, "url": …}; `daemon` runs one in the caller's. The plugins do nothing but answer and write; all checks are on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.app.services import Services
from proxy.config import Config
from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from proxy.wallet.phrases import new_phrase

PYTHON, NPM = "bench", "bench-npm"
PASSWORD = os.urandom(8).hex()
MANIFEST = """id = "{name}"
name = "Bench"
version = "1"
runtime = "{runtime}"
entry = "{entry}"
[keys]
path = "m/7002'/9'/{number}'"
[permissions]
store_bytes = 268435456
cpu_seconds_per_minute = 60
[[action]]
name = "echo"
params = [{{ name = "text", type = "string" }}]
returns = [{{ name = "text", type = "string" }}]
approval = "never"
"""
PERSIST = """[[action]]
name = "persist"
params = [{ name = "seconds", type = "uint64" }, { name = "at_once", type = "uint64" }]
returns = [{ name = "count", type = "uint64" }]
approval = "never"
"""
IN_PYTHON = """import asyncio, time
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
IN_JAVASCRIPT = """export default class Bench {
  constructor() {
    const params = [{ name: "text", type: "string" }];
    this.layer2Interface = { actions: [{ name: "echo", call: async (text) => ({ text }), params }] };
  }
}
"""


def say(text: str) -> None:
    """Drop what the daemon tells its owner."""
    del text


@dataclass(frozen=True)
class Running:
    """A daemon in this process, and where everybody asks it."""

    url: str
    services: Services
    admin: Path


@contextlib.asynccontextmanager
async def daemon(folder: Path, l1: str) -> AsyncIterator[Running]:
    """Run a daemon over the node at `l1`, with what was installed in `folder` before."""
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    if not (data / "keystore.json").exists():
        Keystore(data / "keystore.json", scrypt_n=16).create(new_phrase(), PASSWORD)  # one phrase, one daemon
    options = RunOptions(data, Config(), (l1,), False, 0, 0, PASSWORD, True)
    async with open_daemon(options, say) as (services, doors):
        yield Running(f"http://127.0.0.1:{doors.dapp.port}/", services, data / "admin.ipc")


async def with_token(running: Running, plugins: Sequence[str]) -> str:
    """Return the address for a caller that may invoke everything of `plugins`."""
    wanted = {"name": os.urandom(8).hex(), "allowPlugins": [{"plugin": name} for name in plugins]}
    made = await call_admin_socket(running.admin, "admin_tokenNew", wanted)
    return running.url + str(made["token"])


async def install(running: Running, folder: Path, name: str, number: int, runtime: str = "python") -> None:
    """Install an echo under `name`; `number` makes its keys its own."""
    source = folder / name
    source.mkdir()
    entry = "bench:Bench" if runtime == "python" else "bench.js"
    manifest = MANIFEST.format(name=name, runtime=runtime, entry=entry, number=number)
    (source / "plugin.toml").write_text(manifest + (PERSIST if runtime == "python" else ""))
    file = source / ("bench.py" if runtime == "python" else "bench.js")
    file.write_text(IN_PYTHON if runtime == "python" else IN_JAVASCRIPT)
    await call_admin_socket(running.admin, "admin_pluginAdd", {"source": str(source), "grants": ["all"]})


async def invoke(session: aiohttp.ClientSession, url: str, plugin: str, action: str, *params: object) -> dict[str, str]:
    """Return the result of an action. Raise RuntimeError for an error."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "l2_invoke", "params": [plugin, action, list(params)]}
    async with session.post(url, json=body) as response:
        answer = await response.json()
    if "result" not in answer:
        raise RuntimeError(f"{action}: {answer}")
    result: dict[str, str] = answer["result"]
    return result


async def serve(folder: Path, l1: str, installed: int, running: int) -> None:
    """Run a daemon with `installed` plugins, `running` of them with a process, until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    names = [f"{PYTHON}-{number}" for number in range(installed)]
    if names:
        async with daemon(folder, l1) as first:
            for number, name in enumerate(names):
                await install(first, folder, name, number)
    async with daemon(folder, l1) as here, aiohttp.ClientSession() as session:  # none of them starts unasked
        url = await with_token(here, names) if names else here.url
        for name in names[:running]:
            await invoke(session, url, name, "echo", "hello")
        sys.stdout.write(json.dumps({"ready": True, "url": here.url}) + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
