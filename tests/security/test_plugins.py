"""A plugin takes nothing that is not its own, and nobody down with it (security.md 17-23, hardening.md 9, 16, 27, 31)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middleware.errors import PluginTimeout, PluginUnavailable, RpcError
from middleware.waist import Context
from proxy.host import channel as channels
from proxy.host import lifecycle, process
from tests.host.neighbours import ECHO, SITE, Home, new_keyring, package

RAW = """
import fcntl, os, sys, time, json
def opened():
    for fd in range(64):
        try:
            yield fd, fcntl.fcntl(fd, fcntl.F_GETFL)
        except OSError:
            pass
channel_in, channel_out = [[fd for fd, flags in opened() if fd > 2 and flags & 3 == way][-1] for way in (0, 1)]
for fd in (channel_in, channel_out):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
def say(text): os.write(channel_out, text.encode() if isinstance(text, str) else text)
def hear():
    data = b""
    while not data.endswith(b"\\n"):
        data += os.read(channel_in, 1)
    return json.loads(data)
def answer(message, result): say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\\n")
class Main: pass
"""

ACTION = '[[action]]\nname = "go"\napproval = "never"\n'


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    """A running host whose plugins have little time for their end. For a call they have a minute: a process may be slow."""
    monkeypatch.setattr(lifecycle, "STOP_DEADLINE", 0.2)
    monkeypatch.setattr(process, "GRACE", 0.2)
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    yield home
    await home.close()


def give(home: Home, plugin: str, seconds: float) -> None:
    """Give the calls of one plugin so much time from now on: little to one that never answers."""
    home.plugins._hosted[plugin].calls._seconds = seconds


@pytest.mark.parametrize(
    "behaviour",
    {
        "garbage": 'say("not json\\n")',
        "huge line": 'say("x" * (1 << 21))',
        "nested": 'say("[" * 200_000 + "\\n")',
        "NaN": """say('{"jsonrpc":"2.0","id":1,"method":"load","params":{"limit":NaN}}\\n')""",
        "infinity": """say('{"jsonrpc":"2.0","id":1,"method":"load","params":{"limit":1e999}}\\n')""",
        "duplicate key": """say('{"jsonrpc":"2.0","id":1,"id":2,"method":"load","params":{}}\\n')""",
        "surrogate": """say('{"jsonrpc":"2.0","id":1,"method":"\\\\ud800","params":{}}\\n')""",
        "latin-1": 'say(b\'{"jsonrpc":"2.0","id":1,"method":"\\xff"}\\n\')',
        "unknown id": """say('{"jsonrpc":"2.0","id":99,"result":{}}\\n')""",
        "string id answer": """say('{"jsonrpc":"2.0","id":"2","result":{}}\\n')""",
        "both result and error": """say('{"jsonrpc":"2.0","id":2,"result":1,"error":{"code":1,"message":""}}\\n')""",
        "malformed error": """say('{"jsonrpc":"2.0","id":2,"error":"no"}\\n')""",
        "notification": """say('{"jsonrpc":"2.0","method":"persist","params":{}}\\n')""",
        "array params": """say('{"jsonrpc":"2.0","id":1,"method":"load","params":[]}\\n')""",
        "null id": """say('{"jsonrpc":"2.0","id":null,"method":"load","params":{}}\\n')""",
        "batch": """say('[{"jsonrpc":"2.0","id":1,"method":"load","params":{}}]\\n')""",
        "long number": """say('{"jsonrpc":"2.0","id":1,"method":"load","params":{"limit":' + "9" * 10000 + '}}\\n')""",
        "exit": "os._exit(0)",
        "signal": "os.kill(os.getpid(), 9)",
    }.items(),
    ids=lambda row: row[0],
)
async def test_a_broken_frame_ends_the_process_and_only_it(
    home: Home, tmp_path: Path, behaviour: tuple[str, str]
) -> None:
    await home.add(ECHO)
    await home.running("echo")
    code = RAW + f"answer(hear(), {{}})\nmessage = hear()\n{behaviour[1]}\nsay('\\n')\ntime.sleep(60)\n"
    await home.add(package(tmp_path, "hostile", code, ACTION))
    await home.running("hostile")
    with pytest.raises(PluginUnavailable) as caught:
        async with asyncio.timeout(50):  # less than an answer is waited for
            await home.invoke("hostile", "go")
            await home.plugins.invoke("hostile", "go", {}, SITE, None, Context(SITE))
    assert caught.value.code == -32012
    assert await home.invoke("echo", "say", ["still here", 1]) == {"text": "still here", "number": "0x1"}


async def test_a_second_answer_ends_the_process(home: Home, tmp_path: Path) -> None:
    code = RAW + "answer(hear(), {})\nmessage = hear()\nanswer(message, None)\nanswer(message, None)\ntime.sleep(60)\n"
    await home.add(package(tmp_path, "hostile", code, ACTION))
    await home.running("hostile")
    assert await home.invoke("hostile", "go") is None
    async with asyncio.timeout(60):
        while "not open" not in str(home.plugins.catalog.log("hostile").read()):  # noqa: ASYNC110 - a process is polled
            await asyncio.sleep(0.01)


async def test_silence_is_a_timeout_and_a_late_answer_is_dropped(home: Home, tmp_path: Path) -> None:
    code = (
        RAW
        + "answer(hear(), {})\nlate = hear()\nnext = hear()\nanswer(late, None)\nanswer(next, None)\ntime.sleep(60)\n"
    )
    await home.add(package(tmp_path, "hostile", code, ACTION))
    await home.running("hostile")
    give(home, "hostile", 0.5)
    with pytest.raises(PluginTimeout) as caught:
        await home.invoke("hostile", "go")
    assert caught.value.data == {"plugin": "hostile", "outcome": "unknown"}
    give(home, "hostile", 60)
    assert await home.invoke("hostile", "go") is None


async def flooded(home: Home) -> Path:
    """Return the log of the hostile plugin once its flood has come that far."""
    log = home.folder / "logs" / "hostile.log"
    async with asyncio.timeout(60):
        while not log.exists():  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)
    return log


async def test_a_flood_holds_up_nobody(home: Home, tmp_path: Path) -> None:
    flood = 'line = b\'{"jsonrpc":"2.0","method":"log","params":{"message":"x"}}\\n\' * 1000\nwhile True: say(line)\n'
    await home.add(ECHO)
    await home.running("echo")
    await home.add(package(tmp_path, "hostile", RAW + "answer(hear(), {})\n" + flood, ACTION))
    await home.running("hostile")
    log = await flooded(home)
    for number in range(20):  # a flood has no end: who waited for it would wait for ever
        async with asyncio.timeout(30):
            await home.invoke("echo", "say", ["x", number])
    assert log.stat().st_size < 1024 * 1024


async def test_a_flood_of_printing_holds_up_nobody(home: Home, tmp_path: Path) -> None:
    flood = 'lines = b"x\\n" * 4000\nwhile True: os.write(2, lines)\n'
    await home.add(ECHO)
    await home.running("echo")
    await home.add(package(tmp_path, "hostile", RAW + "answer(hear(), {})\n" + flood, ACTION))
    await home.running("hostile")
    log = await flooded(home)
    for number in range(20):
        async with asyncio.timeout(30):
            await home.invoke("echo", "say", ["x", number])
    assert log.stat().st_size < 1024 * 1024


async def test_requests_that_are_never_read_back_are_bounded(home: Home, tmp_path: Path) -> None:
    ask = 'line = (json.dumps({"jsonrpc":"2.0","id":n,"method":"load","params":{"prefix":""}}) + "\\n")\n'
    code = RAW + "answer(hear(), {})\nn = 0\nwhile True:\n    n += 1\n    " + ask + "    say(line)\n"
    await home.add(ECHO)
    await home.running("echo")
    await home.add(package(tmp_path, "hostile", code, ACTION))
    assert await home.invoke("echo", "say", ["x", 1])
    channel = await home.plugins._hosted["hostile"].life.channel()
    async with asyncio.timeout(60):
        while channel._writer.transport.get_write_buffer_size() == 0:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)
    assert channel._writer.transport.get_write_buffer_size() < 1024 * 1024


async def test_long_answers_that_are_never_read_are_bounded(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "MAX_UNREAD", 4 << 20)
    fill = 'say(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "persist", "params": {"put": rows}}) + "\\n")\n'
    ask = """'{"jsonrpc":"2.0","id":%d,"method":"load","params":{"prefix":""}}\\n' % n for n in range(1, 60)"""
    code = RAW + "answer(hear(), {})\nhear()\nrows = {'k%d' % n: 'v' * 90000 for n in range(8)}\n" + fill
    code += f"hear()\nsay(''.join({ask}))\ntime.sleep(60)\n"
    await home.add(package(tmp_path, "hostile", code, ACTION + "[permissions]\nstore_bytes = 10000000\n"))
    await home.running("hostile")
    channel = await home.plugins._hosted["hostile"].life.channel()
    give(home, "hostile", 0.5)
    with pytest.raises(PluginTimeout):
        await home.invoke("hostile", "go")
    async with asyncio.timeout(60):
        while channel._open or channel._unread() < 1 << 20:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)
    assert channel._unread() < 6 << 20


async def test_five_crashes_quarantine_it_until_the_owner_adds_it_again(home: Home, tmp_path: Path) -> None:
    source = package(tmp_path, "hostile", "import os\nos._exit(1)\n", ACTION)
    await home.add(source)
    async with asyncio.timeout(90):  # five starts
        while not home.notices:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.02)
    assert "quarantined" in home.notices[0]
    with pytest.raises(PluginUnavailable, match="quarantined") as caught:
        await home.invoke("hostile", "go")
    assert "outcome" not in caught.value.data
    await home.close()
    home.open()
    await home.plugins.start()
    assert "quarantined" in home.plugins.status("hostile")["why"]
    with pytest.raises(PluginUnavailable, match="does not run"):
        await home.invoke("hostile", "go")
    await home.add(source)
    assert home.plugins.catalog.all()[0].enabled


async def test_the_process_has_no_environment_no_descriptor_no_fork_and_cannot_write(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2PROXY_TEST_SECRET", "secret")
    probe = """
found = {"environ": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path, "descriptors": list(opened())}
def attempt(name, work):
    try:
        work()
        found[name] = "done"
    except BaseException as error:
        found[name] = repr(error)
def importing():
    import proxy
attempt("memory", lambda: bytearray(1 << 30))
attempt("write", lambda: open(OUT, "w"))
attempt("fork", os.fork)
attempt("proxy", importing)
answer(hear(), {})
message = hear()
say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"found": json.dumps(found)}}) + "\\n")
time.sleep(60)
"""
    returns = 'returns = [{ name = "found", type = "string" }]\n'
    code = RAW + f"OUT = {str(tmp_path / 'out')!r}\n" + probe
    await home.add(package(tmp_path, "hostile", code, ACTION + returns))
    await home.running("hostile")
    found = json.loads((await home.invoke("hostile", "go"))["found"])
    assert found["environ"].get("L2PROXY_TEST_SECRET") is None
    assert set(found["environ"]) <= {"LC_CTYPE"}  # CPython itself sets it (PEP 538)
    assert (found["cwd"], found["path"], len(found["argv"])) == ("/", [], 1)
    assert found["memory"] == "MemoryError()"
    assert "PermissionError(1," in found["write"]
    assert "PermissionError(1," in found["fork"]
    assert "ModuleNotFoundError" in found["proxy"]
    assert len(found["descriptors"]) <= 8
    rows = Path(f"/proc/{home.plugins.status('hostile')['pid']}/status").read_text().splitlines()
    known = dict(row.split(":\t", 1) for row in rows if ":\t" in row)
    assert (known["NoNewPrivs"], known["Seccomp"], known["Threads"]) == ("1", "2", "1")
    assert {known[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert "0" not in known["Uid"].split()


async def test_a_plugin_ends_with_its_host(home: Home) -> None:
    await home.add(ECHO)
    await home.running("echo")
    await home.invoke("echo", "say", ["x", 1])
    pid = home.plugins.status("echo")["pid"]
    await home.plugins.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


HOST = """
import asyncio, os, sys
from pathlib import Path
from proxy.host.process import spawn

async def main():
    process = await spawn(Path(sys.argv[1]), "code_of:Main", 1 << 28)
    line = await process.stderr.readline()
    print(process.pid, line.decode().strip(), flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_plugin_ends_with_a_host_that_was_killed(tmp_path: Path) -> None:
    waits = 'import sys, time\nprint("here", file=sys.stderr, flush=True)\ntime.sleep(600)\n'
    folder = package(tmp_path, "hostile", waits)
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOST, str(folder)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await host.communicate()
    pid, word = said.decode().split()
    assert (word, host.returncode) == ("here", -9)
    async with asyncio.timeout(60):
        while alive(int(pid)):  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # who has no parent to collect it is dead all the same


HOSTILE_NAMES = [
    "../echo",
    "echo",
    "..",
    ".",
    "/",
    "\0",
    "a\0b",
    "ｅcho",
    "echo/../twin",
    "%2e%2e/echo",
    "data\0",
    "meta\0bytes",
]


async def test_no_key_or_prefix_reaches_another_plugins_store(home: Home, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in ECHO.iterdir():
        if file.is_file():
            text = file.read_text().replace('id = "echo"', 'id = "twin"').replace("7002'/1'/0'", "7002'/2'/0'")
            (twin / file.name).write_text(text)
    await home.add(ECHO)
    await home.add(twin)
    await home.running("echo")
    await home.running("twin")
    await home.ask("persist", {"put": {"secret": "of echo", "zz": "more"}})
    for name in HOSTILE_NAMES:
        for params in ({"prefix": name}, {"start": name}, {"keys": [name, f"{name}/secret", f"{name}\0secret"]}):
            assert "of echo" not in str(await home.ask("load", params, "twin"))
    assert (await home.ask("load", {"start": "", "reverse": True}, "twin")) == {"items": []}
    for name in HOSTILE_NAMES:
        await home.ask("persist", {"put": {f"{name}\0secret": "x", f"{name}/secret": "x"}}, "twin")
        await home.ask("persist", {"delete": ["secret", f"{name}\0secret"]}, "twin")
    assert await home.ask("load", {"keys": ["secret", "zz"]}) == {"items": [["secret", "of echo"], ["zz", "more"]]}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../1'/0'",
        "m",
        "m/7002'/1'/0'/0'",
        "m/44'/60'/0'/0/0",
        "/0'",
        "0'/",
        "00'",
        "01'",
        "-1'",
        "0x1'",
        "2147483648'",
        "2147483692'/2147483708'",
        "4294967296",
        " 0'",
        "0' ",
        "0'-1'",
        "0-5",
        "0h",
        "０'",
        "0'\0",
        "1" * 100,
        "/".join(["0'"] * 9),
    ],
)
async def test_no_path_leads_outside_the_plugins_own(home: Home, path: str) -> None:
    await home.add(ECHO)
    await home.running("echo")
    assert (await home.ask("derive", {"path": path}))["error"]["code"] == -32602
    assert (await home.ask("sign", {"account": path, "message": "x"}))["error"]["code"] == -32602


@pytest.mark.parametrize(
    "params",
    [{"index": -1}, {"index": 2**31}, {"index": "0"}, {"index": 1.5}, {"index": True}, {"path": "0'"}, {"index": [0]}],
)
async def test_no_index_leads_outside_either(home: Home, params: dict[str, object]) -> None:
    await home.add(ECHO)
    await home.running("echo")
    assert (await home.ask("getAccount", params))["error"]["code"] == -32602


async def test_without_a_grant_a_host_method_is_4100_before_its_params_are_looked_at(home: Home) -> None:
    await home.add(ECHO, "store")
    await home.running("echo")
    for method in (
        "getAccount",
        "derive",
        "layer1.watch",
        "hub.send",
        "hub.request",
        "deposit",
        "withdraw",
        "transfer",
    ):
        assert (await home.ask(method, {"nonsense": 1}))["error"]["code"] == 4100, method
    assert (await home.ask("layer1.request", {"method": "eth_call"}))["error"]["code"] == 4100
    assert (await home.ask("sign", {"account": "0'", "message": "x"}))["error"]["code"] == 4100
    assert (await home.ask("admin_tokenNew"))["error"]["code"] == -32601


async def test_a_waiting_call_is_refused_on_revocation_and_on_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", new_keyring(tmp_path), limits={"invokes_in_flight": 1, "invokes_waiting": 2})
    home.open()
    await home.plugins.start()
    try:
        await home.add(ECHO)
        await home.running("echo")
        await home.invoke("echo", "say", ["x", 1])
        first = asyncio.create_task(home.invoke("echo", "wait", [False]))
        second = asyncio.create_task(home.invoke("echo", "say", ["x", 1]))
        third = asyncio.create_task(home.invoke("echo", "count"))
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match="waiting already") as full:
            await home.invoke("echo", "say", ["x", 1])
        assert full.value.code == -32005
        home.permissions.revoke(SITE, "echo", "say")
        with pytest.raises(RpcError, match="no longer") as revoked:
            await second
        assert revoked.value.code == 4100
        home.keyring.lock()
        with pytest.raises(RpcError, match="locked") as locked:
            await third
        assert locked.value.code == 4100
        assert not first.done()
        first.cancel()
    finally:
        await home.close()
