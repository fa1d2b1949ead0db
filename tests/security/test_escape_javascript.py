"""The escape battery of npm plugins: what JavaScript with all of node's modules tries, and none of it gets through (plugin.md).

Every attempt runs twice: by deno without a jail and with every permission, where it must succeed, or the battery would prove
nothing; and in a plugin's process, where it must be refused. A missing answer is a failure. What the kernel itself refuses is
the same filter as for Python (test_escape_python.py), with the threads V8 lives on (tests/host/sandbox/test_filter.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.host.process import PluginProcess, spawn
from proxy.host.sandbox.deno_command import deno_program
from proxy.host.sandbox.syscalls import architecture

pytestmark = pytest.mark.skipif(architecture() is None, reason="Linux on x86_64 and aarch64 alone can sandbox")

BATTERY = Path(__file__).parent / "escapes" / "javascript.mjs"
SECONDS = 60.0
AT_LEAST, MAX_ENDS = 35, 4
FREE = """
import { ATTEMPTS, attempt } from "%s";
const scene = JSON.parse(Deno.args[0]), found = {};
for (const name of Object.keys(ATTEMPTS)) found[name] = await attempt(name, scene);
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(found)));
Deno.exit(0);
"""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """Files anybody may read, a server that answers, and a process that may be signalled."""
    for name in ("module.js", "module.cjs"):
        (tmp_path / name).write_text("globalThis.escaped = true;")
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "secret").write_text("secret")
    application = web.Application()
    application.router.add_get("/module.js", _module)
    application.router.add_get("/ws", _socket)
    async with TestServer(application) as server:
        yield {"folder": str(tmp_path), "secret": str(tmp_path / "secret"), "port": server.port, "other": os.getpid()}


async def _module(_request: web.Request) -> web.Response:
    return web.Response(text="export default 1;", content_type="text/javascript")


async def _socket(request: web.Request) -> web.WebSocketResponse:
    opened = web.WebSocketResponse()
    await opened.prepare(request)
    await opened.close()
    return opened


async def free(scene: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return what the attempts come to without any jail."""
    runner = folder / "runner.mjs"
    runner.write_text(FREE % BATTERY.as_uri())
    started = await asyncio.create_subprocess_exec(
        *(str(deno_program()), "run", "-A", "--no-config", "--no-lock", str(runner), json.dumps(scene)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"L2PROXY_SECRET": "x", "DENO_DIR": str(folder / "deno"), "DENO_NO_UPDATE_CHECK": "1"},
    )
    async with asyncio.timeout(SECONDS):
        out, said = await started.communicate()
    assert started.returncode == 0, said.decode()[-1000:]
    return dict(json.loads(out))


async def jailed(scene: dict[str, Any], names: list[str]) -> dict[str, str]:
    """Return what they come to in a plugin's process; one that ends its own process is refused, and another goes on."""
    found: dict[str, str] = {}
    ends = 0
    while len(found) < len(names):
        process = await spawn(BATTERY.parent, BATTERY.name, 1 << 28, runtime="npm", cpu=60)
        try:
            assert process.sandbox.why == ""
            assert await ask(process, "start", {"chainId": "0x1", "owner": "0x" + "0" * 40}) is not None
            for name in names[len(found) :]:
                params = {"scene": json.dumps(scene), "names": json.dumps([name])}
                answer = await ask(process, "invoke", {"call": "c", "action": "try", "params": params, "origin": "x"})
                if answer is None:
                    found[name] = f"refused: it {await process.wait()}"
                    ends += 1
                    break
                found |= json.loads(answer["found"])
        finally:
            process.close()
            await process.wait()
    assert ends <= MAX_ENDS, found
    return found


async def ask(process: PluginProcess, method: str, params: dict[str, Any]) -> Any:
    """Return the result, None where the process ended instead; what the plugin itself asks is left unanswered."""
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
    async with asyncio.timeout(SECONDS):
        while line := await process.stdout.readline():
            message = json.loads(line)
            if "method" not in message:
                return message["result"]
    return None


async def test_everything_succeeds_without_the_jail_and_nothing_in_it(scene: dict[str, Any], tmp_path: Path) -> None:
    without = await free(scene, tmp_path)
    assert {name: how for name, how in without.items() if how != "done"} == {}
    within = await jailed(scene, list(without))
    assert within.keys() == without.keys()
    assert [name for name, how in within.items() if not how.startswith("refused: ")] == []
    assert len(within) >= AT_LEAST


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("const held = []; for (;;) held.push(new Array(1e5).fill(held.length));", "was ended|exited|used"),
        ("const held = []; for (;;) held.push(new Uint8Array(1 << 24).fill(1));", "was ended|exited|used"),
    ],
    ids=["heap", "buffers"],
)
async def test_one_that_takes_all_memory_ends_alone(code: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "greedy.js").write_text(f"export default class {{ constructor() {{ {code} }} }}")
    process = await spawn(tmp_path, "greedy.js", 1 << 27, runtime="npm", cpu=60)
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"start","params":{"chainId":"0x1"}}\n')
    try:
        async with asyncio.timeout(SECONDS):
            *_, ended = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
    finally:
        process.close()
    assert any(word in ended for word in how.split("|")), ended
