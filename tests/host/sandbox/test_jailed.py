"""Real plugin processes: what they find when they are locked, what the host hears of them, and when they do not start."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.host import process as processes
from proxy.host.process import spawn
from proxy.host.sandbox import kernel
from proxy.host.sandbox.launcher import LAYERS, REQUIRED
from proxy.host.sandbox.probe import probe
from proxy.host.sandbox.report import Sandbox, Unsandboxed
from tests.host.neighbours import ECHO, Home, package

ROOT = Path(__file__).parent.parent.parent.parent


async def said_by(folder: Path, entry: str = "code_of:Main", **more: Any) -> tuple[str, str]:
    """Run a plugin that ends by itself; return what it printed and how it ended."""
    process = await spawn(folder, entry, 1 << 28, **more)
    async with asyncio.timeout(60):
        printed = (await process.stderr.read()).decode()
        how = await process.wait()
    process.close()
    return printed, how


async def test_everything_that_is_promised_can_be_imported(tmp_path: Path) -> None:
    told = (ROOT / "docs" / "plugin-authors.md").read_text()
    match = re.search(r"Of the standard library there are:(.*?)\. There is no", told, re.DOTALL)
    assert match is not None
    names = [
        *match[1].split(),
        "urllib.parse",
        "xml.etree.ElementTree",
        "unittest.mock",
        "email.message",
        "concurrent.futures",
    ]
    code = f"""
import sys
for name in {names!r}:
    try:
        __import__(name)
    except BaseException as error:
        print(name, repr(error), file=sys.stderr)
raise SystemExit(7)
"""
    assert await said_by(package(tmp_path, "curious", code)) == ("", "exited with status 7")


async def test_python_works_in_the_jail(tmp_path: Path) -> None:
    folder = package(
        tmp_path,
        "worker",
        """
import asyncio, datetime, decimal, hashlib, hmac, pkgutil, random, secrets, sys, time, uuid
from inside.deep import answer
import spread.part
assert (answer.VALUE, spread.part.VALUE) == (42, 43)
assert pkgutil.get_data("inside", "table.txt") == b"data"
assert "plugin/inside/deep/answer.py" == answer.__file__
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
assert hmac.new(b"k", b"m", "sha3_256").digest()
assert secrets.token_bytes(8) != secrets.token_bytes(8) and random.random() < 1 and uuid.uuid4()
assert datetime.datetime.strptime("2026-01-02", "%Y-%m-%d").day == 2
assert "bücher".encode("idna") == b"xn--bcher-kva" and "x".encode("utf-16-le") and "é".encode("latin-1")
assert decimal.Decimal("1.1") * 3 == decimal.Decimal("3.3")
assert time.localtime().tm_gmtoff == 0
async def timed():
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)), 5)
assert asyncio.get_event_loop_policy() and sys.path == []
class Main:
    def attach(self, *_): pass
    @classmethod
    def actions(cls): return []
loop = [made for made in __import__("gc").get_objects() if isinstance(made, asyncio.BaseEventLoop)][0]
assert loop.run_until_complete(timed()) == [1, 2]
for name in ("ssl", "wave", "proxy", "l2proxy_sdk.testing.nothing"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(name, "The sandbox" in str(error), file=sys.stderr)
def fails():
    raise ValueError("shown")  # with this line
fails()
""",
    )
    for name, text in {
        "inside/__init__.py": "",
        "inside/table.txt": "data",
        "inside/deep/__init__.py": "",
        "inside/deep/answer.py": "VALUE = 42\n",
        "spread/part.py": "VALUE = 43\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    printed, how = await said_by(folder)
    assert how == "exited with status 1", printed
    rows = printed.splitlines()
    assert rows[:4] == ["ssl True", "wave True", "proxy False", "l2proxy_sdk.testing.nothing False"]
    assert 'raise ValueError("shown")  # with this line' in printed
    assert rows[-1] == "ValueError: shown"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["ptrace", "execve", "bpf", "unshare", "io_uring_setup", "personality"])
def test_the_host_says_which_tripwire_was_touched(tmp_path: Path, name: str, run: Callable[..., Any]) -> None:
    number = kernel.known_architecture().numbers[name]
    folder = package(
        tmp_path, "spy", f"import ctypes\nctypes.CDLL(None).syscall({number}, 0, 0, 0, 0)\nprint('alive')\n"
    )
    assert run(said_by(folder)) == ("", f"tried {name}, which no plugin may")


async def test_a_tripwire_is_in_the_log_and_the_status(home: Home, tmp_path: Path) -> None:
    home.back_off = (60,)
    await home.close()
    home.open()
    await home.plugins.start()
    number = kernel.known_architecture().numbers["ptrace"]
    await home.add(package(tmp_path, "spy", f"import ctypes\nctypes.CDLL(None).syscall({number}, 0, 0, 0, 0)\n"))
    async with asyncio.timeout(60):
        while home.plugins.status("spy")["status"] != "crashed":  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.02)
    assert home.plugins.status("spy")["why"] == "tried ptrace, which no plugin may"
    assert "tried ptrace" in str(home.plugins.catalog.log("spy").read())


async def test_status_names_the_layers_and_the_host_is_closed_to_others(home: Home) -> None:
    await home.add(ECHO)
    await home.running("echo")
    shown = home.plugins.status("echo")
    held = probe()
    assert (shown["sandbox"], shown["layers"]) == (held.level, list(held.layers))
    assert held.level in ("full", "reduced")
    assert set(REQUIRED) <= set(held.layers) <= set(LAYERS)
    assert kernel.prctl(kernel.PR_GET_DUMPABLE, 0) == 0


async def test_where_there_is_no_sandbox_plugins_do_not_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "architecture", lambda: None)
    await home.add(ECHO)
    async with asyncio.timeout(60):
        while home.plugins.status("echo")["status"] != "disabled":  # noqa: ASYNC110 - a task is polled
            await asyncio.sleep(0.01)
    why = home.plugins.status("echo")["why"]
    assert "without a sandbox: only Linux" in why
    assert "--allow-unsandboxed echo" in why
    assert home.plugins.catalog.all()[0].enabled, "it may run where there is a sandbox"


REFUSING = """
import asyncio, ctypes, json, struct, sys
from pathlib import Path
from proxy.host.process import spawn
from proxy.host.sandbox import bpf, kernel
from proxy.host.sandbox.report import Sandbox, Unsandboxed
refused = kernel.known_architecture().numbers[sys.argv[2]]
rows = [(bpf.LOAD, 0, 0, 0), (bpf.EQUAL, 0, 1, refused), (bpf.RETURN, 0, 0, bpf.ERRNO | 1), (bpf.RETURN, 0, 0, bpf.ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.call("seccomp", 1, 0, struct.pack("=H6xQ", len(rows), ctypes.addressof(program)))
async def main():
    try:
        await spawn(Path(sys.argv[1]), "code_of:Main", 1 << 28)
        refusal = None
    except Unsandboxed as error:
        refusal = str(error)
    process = await spawn(Path(sys.argv[1]), "code_of:Main", 1 << 28, unsandboxed=True)
    printed = (await process.stderr.read()).decode()
    await process.wait()
    process.close()
    print(json.dumps([refusal, process.sandbox.shown(), printed]))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("refused", "why", "level"),
    [
        ("seccomp", "seccomp: seccomp: Operation not permitted", "none"),
        ("capset", "identity: capset: Operation not permitted", "none"),
        ("landlock_create_ruleset", None, "reduced"),
        ("unshare", None, "reduced"),
    ],
)
def test_a_layer_that_is_needed_fails_closed_and_one_that_is_not_is_told(
    tmp_path: Path, refused: str, why: str | None, level: str
) -> None:
    folder = package(tmp_path, "plain", "import os, sys\nprint('ran', file=sys.stderr, flush=True)\nos._exit(0)\n")
    made = subprocess.run(
        [sys.executable, "-c", REFUSING, str(folder), refused], capture_output=True, cwd=ROOT, check=True
    )
    refusal, shown, printed = json.loads(made.stdout)
    assert (refusal, shown["sandbox"], printed) == (why, level, "ran\n")


ALONE = """
import json, os
from proxy.host.sandbox import kernel, namespaces, probe
user, group = os.getuid(), os.getgid()
try:
    kernel.call("unshare", 1 << 28)
except OSError:
    print(json.dumps(None))
    raise SystemExit
for name, text in {"uid_map": f"0 {user} 1", "setgroups": "deny", "gid_map": f"0 {group} 1"}.items():
    namespaces._write(f"/proc/self/{name}", text)
print(json.dumps([os.geteuid(), probe.probe().shown()]))
"""


def test_root_of_a_namespace_with_nobody_else_in_it_is_sandboxed_as_an_ordinary_user_is() -> None:
    made = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, cwd=ROOT, check=True)
    found, here = json.loads(made.stdout), probe()
    if found is None:
        assert "namespaces" in here.missing
    else:
        assert found == [0, here.shown()]


async def test_only_the_named_plugin_at_its_digest_may_run_unsandboxed(home: Home) -> None:
    installed = await home.add(ECHO)
    for allowed, expected in (
        ((), set()),
        (("echo",), {("echo", installed.digest)}),
        ((f"echo@{installed.digest}",), {("echo", installed.digest)}),
        (("echo@sha256:00",), set()),
        (("other",), set()),
    ):
        await home.close()
        home.open()
        home.plugins._allowed_unsandboxed = allowed
        await home.plugins.start()
        assert home.plugins._unsandboxed == expected


async def test_a_plugin_that_runs_without_is_warned_of_at_every_start(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.add(ECHO)
    monkeypatch.setattr(processes, "from_report", lambda report: Sandbox(why="seccomp: gone"))
    for starts in (1, 2):
        await home.close()
        home.open()
        home.plugins._allowed_unsandboxed = ("echo",)
        await home.plugins.start()
        await home.running("echo")
        warned = [
            line for line in home.notices if "WARNING: plugin echo runs WITHOUT a sandbox (seccomp: gone)" in line
        ]
        assert len(warned) == starts
        assert home.plugins.status("echo")["sandbox"] == "none"


async def test_where_the_system_is_another_one_a_named_plugin_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, "plain", "import sys\nprint('ran', file=sys.stderr, flush=True)\nraise SystemExit(3)\n")
    monkeypatch.setattr(processes, "architecture", lambda: None)
    monkeypatch.delattr("os.pidfd_open")
    with pytest.raises(Unsandboxed, match="only Linux"):
        await spawn(folder, "code_of:Main", 1 << 28)
    assert await said_by(folder, unsandboxed=True) == ("ran\n", "exited with status 3")


def test_the_refusal_is_an_error_of_its_own() -> None:
    assert not issubclass(Unsandboxed, OSError), "a missing sandbox must never be taken for a crash and tried again"
