"""Hostile plugins of both runtimes, all at once, behind the assembled daemon: nobody else and no page notices (plugin.md; security.md 20).

What is measured meanwhile, calls and the worst wait of each kind, is printed (`pytest -s`) and noted in the JUnit report; no
time is asserted, for machines differ. The frames themselves are fuzzed in tests/security/test_plugins_fuzz.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions
from proxy.config import Config, LimitSettings
from proxy.host import lifecycle, process
from proxy.host.calls import Calls
from proxy.server.admin_client import call_admin_socket
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE
from tests.host.neighbours import ECHO, PASSWORD, package
from tests.security.test_plugins import ACTION, RAW
from tests.upstream.fake_node import FakeNode

pytestmark = pytest.mark.timeout(300)

ROUNDS = 40
PERMISSIONS = "[permissions]\ncpu_seconds_per_minute = 6\nmemory_bytes = 134217728\n"
PYTHON = {
    "flood": "n = 0\nwhile True:\n    n += 1\n"
    """    say('{"jsonrpc":"2.0","id":%d,"method":"persist","params":{"put":{"k":"v"}}}\\n' % n)""",
    "never-reading": """
for n in range(100000):
    say('{"jsonrpc":"2.0","id":%d,"method":"load","params":{"prefix":""}}\\n' % n)
time.sleep(600)""",
    "half": """say('{"jsonrpc":"2.0","id":1,"meth')\nos.close(channel_out)\ntime.sleep(600)""",
    "memory": "held = []\nwhile True: held.append(bytearray(1 << 20))",
    "spin": "while True: pass",
}
JAVASCRIPT = {
    "random": "for (;;) write(crypto.getRandomValues(new Uint8Array(4096)));",
    "huge": 'const line = text("x".repeat(1 << 19)); for (;;) write(line);',
    "deep": 'write(text("[".repeat(200000) + "\\n")); for (;;);',
    "one-id": """for (;;) write(text('{"jsonrpc":"2.0","id":1,"method":"load","params":{"prefix":""}}\\n'));""",
    "unasked": """for (;;) write(text('{"jsonrpc":"2.0","id":77,"result":{}}\\n'));""",
    "flood": """for (let n = 1;; n++) write(text(`{"jsonrpc":"2.0","id":${n},"method":"log","params":{}}\\n`));""",
    "half": """write(text('{"jsonrpc":"2.0","id":1,"meth')); Deno.stdout.close(); await new Promise(() => {});""",
    "memory": "const held = []; for (;;) held.push(new Uint8Array(1 << 24).fill(1));",
    "regex": """/^(a+)+$/.test("a".repeat(60) + "b");""",
    "silent": "await new Promise(() => {});",
    "rejects": "Promise.reject(new Error('nobody waits')); await new Promise(() => {});",
}
MODULE = """
const text = (said) => new TextEncoder().encode(said);
function write(bytes) {
  for (let written = 0; written < bytes.length;) written += Deno.stdout.writeSync(bytes.subarray(written));
}
export default class {
  constructor() {
    this.layer2Interface = { actions: [{ name: "go", call: async () => { %s } }] };
  }
}
"""


@pytest.fixture
def packages(tmp_path: Path) -> list[Path]:
    """Write all hostile plugins."""
    made = []
    for name, behaviour in PYTHON.items():
        code = RAW + f"answer(hear(), {{}})\nhear()\n{behaviour}\n"
        made.append(package(tmp_path, f"py-{name}", code, ACTION + PERMISSIONS))
    for name, behaviour in JAVASCRIPT.items():
        folder = tmp_path / f"js-{name}"
        folder.mkdir()
        head = f'id = "js-{name}"\nname = "Test"\nversion = "1"\nruntime = "npm"\nentry = "main.js"\n'
        (folder / "plugin.toml").write_text(head + ACTION + PERMISSIONS)
        (folder / "main.js").write_text(MODULE % behaviour)
        made.append(folder)
    return made


async def test_all_of_them_at_once_disturb_neither_another_plugin_nor_the_gateway(
    short_tmp: Path,
    packages: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(lifecycle, "STOP_DEADLINE", 0.2)
    monkeypatch.setattr(process, "GRACE", 0.2)
    monkeypatch.setattr("proxy.host.hosting.Calls", _calls)
    data = short_tmp / "data"
    data.mkdir(mode=0o700)
    Keystore(data / "keystore.json", scrypt_n=16).create(TEST_PHRASE, PASSWORD)
    async with FakeNode().http() as url, aiohttp.ClientSession() as session:
        options = RunOptions(data, Config(limits=LimitSettings(plugin_call=8.0)), (url,), False, 0, 0, PASSWORD, True)
        async with open_daemon(options, lambda line: None) as (_, doors):

            async def owner(method: str, **params: Any) -> Any:
                return await call_admin_socket(data / "admin.ipc", method, params)

            await owner("admin_pluginAdd", source=str(ECHO), grants=["all"])
            async with asyncio.timeout(60):
                while (await owner("admin_status"))["plugins"][0]["status"] != "running":  # noqa: ASYNC110 - a process is polled
                    await asyncio.sleep(0.02)
            for folder in packages:
                await owner("admin_pluginAdd", source=str(folder), grants=["all"])
            names = [folder.name for folder in packages]
            allowed = [{"plugin": name} for name in ("echo", *names)]
            token = (await owner("admin_tokenNew", name="site", allowPlugins=allowed))["token"]

            async def ask(method: str, *params: Any) -> Any:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
                async with session.post(f"http://127.0.0.1:{doors.dapp.port}/{token}", json=body) as response:
                    return await response.json()

            assert "result" in await ask("l2_invoke", "echo", "say", ["x", 0])
            attacks = [asyncio.create_task(ask("l2_invoke", name, "go", [])) for name in names]
            waits: dict[str, list[float]] = {"eth_chainId": [], "l2_invoke": [], "persist": []}
            asked = 0
            while asked < ROUNDS or not all(attack.done() for attack in attacks):
                await _timed(waits["eth_chainId"], ask("eth_chainId"), "0x7a69")
                said = {"text": "x", "number": hex(asked)}
                await _timed(waits["l2_invoke"], ask("l2_invoke", "echo", "say", ["x", asked]), said)
                await _timed(waits["persist"], ask("l2_invoke", "echo", "count", []), {"count": hex(asked + 1)})
                asked += 1
            for name, outcome in zip(names, await asyncio.gather(*attacks), strict=True):
                fails = (
                    (-32010, -32011, -32012) if name.endswith("memory") else (-32011, -32012)
                )  # it may catch that itself
                assert outcome["error"]["code"] in fails, (name, outcome)
            rows = {row["id"]: row for row in (await owner("admin_status"))["plugins"]}
            assert (rows["echo"]["status"], rows["echo"]["restarts"]) == ("running", 0)
            for kind, seconds in waits.items():
                told = f"{len(seconds)} {kind}, worst wait {max(seconds) * 1000:.0f} ms"
                record_property(f"beside {len(names)} hostile plugins", told)
                print(f"beside {len(names)} hostile plugins: {told}")  # noqa: T201 - a measurement, shown by -s


def _calls(plugin_id: str, **limits: Any) -> Calls:
    """Give what is measured longer than the hostile ones get: it has to be right beside them, not quick on every machine."""
    return Calls(plugin_id, **limits | ({"seconds": 60.0} if plugin_id == "echo" else {}))


async def _timed(waits: list[float], asked: Awaitable[Any], expected: Any) -> None:
    began = time.perf_counter()
    answer = await asked
    waits.append(time.perf_counter() - began)
    assert answer.get("result") == expected, answer
