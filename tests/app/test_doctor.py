"""What the doctor finds, and what it says to do: each trouble by itself, then whole rounds through the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from middleware.errors import Disconnected
from proxy.app.doctor import directory, machine, nodes, running
from proxy.app.doctor.finding import Finding
from proxy.app.doctor.lacking import advice
from proxy.cli import cli
from proxy.config import Config, LimitSettings
from proxy.host.sandbox.report import Sandbox
from proxy.storage.directory import DataDirectory
from proxy.upstream.identity import ChainIdentity, write_pin
from tests.app.conftest import Mortal, Running, Start
from tests.upstream.fake_node import OTHER_GENESIS, FakeNode, result

KEYSTORE = {
    "format": "l2proxy keystore",
    "version": 1,
    "accounts": [{"address": "0x" + "11" * 20, "index": 0}],
    "kdf": {"name": "scrypt", "n": 262144, "r": 8, "p": 1, "salt": "00" * 32},
    "sealed": {},
}


def found(findings: Any, check: str) -> Finding:
    rows = [finding for finding in findings if finding.check == check]
    assert len(rows) == 1, [finding.check for finding in findings]
    assert rows[0].level == "ok" or rows[0].do, "whatever is not well says what to do"
    return rows[0]


@pytest.fixture
def data(short_tmp: Path) -> Path:
    folder = short_tmp / "data"
    folder.mkdir(mode=0o700)
    return folder


def test_a_sound_directory(data: Path) -> None:
    findings = list(directory.look(data))
    assert {finding.check for finding in findings} == {"data directory", "disk", "writing", "chain", "keystore"}
    assert {finding.level for finding in findings} <= {"ok", "warn"}
    assert found(findings, "keystore").do.startswith(f"`l2proxy init --data {data}`")
    assert list(data.iterdir()) == [], "the doctor leaves nothing behind"


def test_a_directory_others_may_look_into(data: Path) -> None:
    data.chmod(0o755)
    [finding] = directory.look(data)
    assert (finding.level, finding.do) == ("fail", f"`chmod 700 {data}`")
    assert data.stat().st_mode & 0o777 == 0o755


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    [finding] = directory.look(tmp_path / "none")
    assert finding.level == "warn"
    assert "init" in finding.do


@pytest.mark.parametrize(
    ("change", "mode", "level", "says"),
    [
        ({}, 0o600, "ok", "1 accounts"),
        ({}, 0o644, "fail", "others may copy it"),
        ({"kdf": {**KEYSTORE["kdf"], "n": 4096}}, 0o600, "warn", "N=4096"),  # type: ignore[dict-item]
        ({"kdf": None}, 0o600, "fail", "damaged"),
        ({"format": "another"}, 0o600, "fail", "not a keystore"),
        ({"version": 2}, 0o600, "fail", "does not know"),
    ],
)
def test_a_keystore(data: Path, change: dict[str, Any], mode: int, level: str, says: str) -> None:
    file = data / "keystore.json"
    file.write_text(json.dumps({**KEYSTORE, **change}))
    file.chmod(mode)
    finding = found(list(directory.look(data)), "keystore")
    assert finding.level == level
    assert says in finding.finding


def test_a_torn_pin(data: Path) -> None:
    (data / "chain.json").write_text("{")
    assert found(list(directory.look(data)), "chain").level == "fail"


def test_stores_open_or_are_damaged(data: Path) -> None:
    held = DataDirectory(data)
    held.lock()
    _ = held.owner_database
    held.release()
    assert found(list(directory.look_inside(data)), "store owner.db").level == "ok"
    (data / "owner.db" / "CURRENT").write_text("MANIFEST-999999\n")
    finding = found(list(directory.look_inside(data)), "store owner.db")
    assert finding.level == "fail"
    assert "nothing was changed" in finding.do


def test_a_lock_somebody_holds(data: Path) -> None:
    held = DataDirectory(data)
    held.lock()
    try:
        assert found(list(directory.look_inside(data)), "lock").level == "warn"
    finally:
        held.release()


def test_a_port_that_is_taken() -> None:
    assert machine.look_at_port(0).level == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = machine.look_at_port(port)
    assert finding.level == "fail"
    assert str(port) in finding.finding
    assert "[listen] port" in finding.do


def test_the_machine() -> None:
    findings = list(machine.look(Config()))
    assert found(findings, "python").level == "ok"
    assert "uvloop" in found(findings, "libraries").finding
    many = Config(limits=LimitSettings(connections=10**9))
    assert found(list(machine.look(many)), "descriptors").level in ("warn", "ok")


@pytest.mark.parametrize(
    ("sandbox", "level", "says"),
    [
        (Sandbox(("rlimits", "identity", "namespaces", "landlock", "seccomp")), "ok", "landlock"),
        (Sandbox(("rlimits", "identity", "seccomp"), {"landlock": "not built"}), "warn", "no landlock: not built"),
        (Sandbox(why="seccomp: forbidden"), "warn", "forbidden"),
    ],
)
def test_how_well_it_can_sandbox(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, level: str, says: str) -> None:
    monkeypatch.setattr(machine, "probe", lambda: sandbox)
    finding = found(list(machine.look(Config())), "sandbox")
    assert (finding.level, says in finding.finding) == (level, True)


@pytest.mark.parametrize(
    ("why", "settings", "says"),
    [
        ("No space left on device", {"user/max_user_namespaces": "96365"}, "are in use \\(96365\\)"),
        ("No space left on device", {"user/max_user_namespaces": "0"}, "are switched off"),
        ("Permission denied", {"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor forbids"),
        ("Operation not permitted", {"kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone=1"),
        ("Operation not permitted", {"kernel/unprivileged_userns_clone": "1"}, "its container forbids"),
        ("Invalid argument", {}, "a kernel built with user namespaces"),
    ],
)
def test_why_there_are_no_namespaces(tmp_path: Path, why: str, settings: dict[str, str], says: str) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    said = advice({"namespaces": why}, tmp_path)
    assert re.search(says, said), said
    assert "newer kernel" not in said
    assert "newer kernel" in advice({"landlock": why}, tmp_path)


async def look(url: str, pin: Path, stale_after: float = 180) -> list[Finding]:
    return [finding async for finding in nodes.look([url], pin, stale_after)]


def node(age: float = 5, *, version: str = "Geth/v1.17", **settings: Any) -> FakeNode:
    """Return a node of no dev kind whose newest block is `age` seconds old."""

    class Aged(FakeNode):
        async def respond(self, raw: bytes) -> bytes | None:
            request = json.loads(raw)
            if request["method"] == "eth_getBlockByNumber" and request["params"][0] == "latest":
                stamp = hex(int(time.time() - age))
                head = {"number": "0x64", "hash": "0x" + "01" * 32, "parentHash": "0x" + "02" * 32, "timestamp": stamp}
                return result(request, head)
            return await super().respond(raw)

    async def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "debug_traceTransaction":
            error = b'{"code":-32601,"message":"the method does not exist/is not available"}'
            return b'{"jsonrpc":"2.0","id":%d,"error":%b}' % (request["id"], error)
        return result(request, False if request["method"] == "eth_syncing" else "0x64")

    return Aged(answer, chain_id=12_345_678, version=version, **settings)


async def test_a_node_in_sync(data: Path) -> None:
    async with node().http() as url:
        findings = await look(url, data / "chain.json")
    assert {finding.level for finding in findings} == {"ok"}
    assert "Geth/v1.17" in found(findings, "node 1").finding
    assert "block 100" in found(findings, "node 1 head").finding
    assert "polled" in found(findings, "node 1 subscriptions").finding
    assert "not serve" in found(findings, "node 1 traces").finding
    assert not (data / "chain.json").exists(), "nothing is pinned by looking"


async def test_an_old_head_and_one_ahead_of_the_clock(data: Path) -> None:
    async with node(age=1000).http() as url:
        finding = found(await look(url, data / "chain.json"), "node 1 head")
    assert finding.level == "fail"
    assert "stale_after" in finding.do
    async with node(age=-60).http() as url:
        finding = found(await look(url, data / "chain.json"), "node 1 head")
    assert finding.level == "fail"
    assert "clock" in finding.do


async def test_a_node_of_another_chain_than_pinned(data: Path) -> None:
    pin = data / "chain.json"
    write_pin(pin, ChainIdentity(12_345_678, OTHER_GENESIS, "Geth", False))
    async with node().http() as url:
        [finding] = await look(url, pin)
    assert finding.level == "fail"
    assert OTHER_GENESIS in finding.finding


@pytest.mark.parametrize("url", ["http://user:hunter2@127.0.0.1:1/secret", "ftp://x", "/nowhere/geth.ipc"])
async def test_a_node_that_is_not_there(data: Path, url: str) -> None:
    [finding] = await look(url, data / "chain.json")
    assert finding.level == "fail"
    assert "hunter2" not in finding.finding
    assert "secret" not in finding.finding


async def test_no_node_and_the_embedded_one(data: Path) -> None:
    [finding] = [finding async for finding in nodes.look([], data / "chain.json", 180)]
    assert finding.level == "warn"
    [finding] = await look("dev", data / "chain.json")
    assert finding.level == "ok"


def status(**change: Any) -> dict[str, Any]:
    return {
        "pid": 1,
        "doors": {"dapp": "http://127.0.0.1:1"},
        "ready": {"ready": True, "checks": {"l1": {"ok": True, "why": "block 1"}}},
        "l1": {"nodes": []},
        "accounts": {"count": 0, "locked": True},
        "questions": 0,
        "plugins": [],
        **change,
    }


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({}, "accounts", "ok"),
        ({"accounts": {"count": 1, "locked": True}}, "accounts", "warn"),
        ({"questions": 2}, "questions", "warn"),
        ({"ready": {"checks": {"stores": {"ok": False, "why": "full"}}}}, "daemon stores", "fail"),
        ({"plugins": [{"id": "p", "version": "1", "status": "running", "sandbox": "full"}]}, "plugin p", "ok"),
        ({"plugins": [{"id": "p", "version": "1", "status": "quarantined", "why": "x"}]}, "plugin p", "fail"),
        ({"plugins": [{"id": "p", "version": "1", "status": "locked"}]}, "plugin p", "warn"),
        ({"ready": {"checks": {"plugins": {"ok": False, "why": "one"}}}}, "daemon plugins", "fail"),
        (
            {"plugins": [{"id": "p", "version": "1", "status": "running", "unguarded": "UNGUARDED: x"}]},
            "plugin p",
            "fail",
        ),
        ({"plugins": [{"id": "p", "version": "1", "status": "running", "sandbox": "none"}]}, "plugin p", "fail"),
        (
            {"plugins": [{"id": "p", "version": "1", "status": "running", "missingLayers": {"namespaces": "No"}}]},
            "plugin p",
            "warn",
        ),
    ],
)
def test_a_running_daemon(change: dict[str, Any], check: str, level: str) -> None:
    assert found(list(running.look(status(**change))), check).level == level


def test_a_plugin_that_could_not_answer_has_nothing_to_do_with_the_disk() -> None:
    checks = {"plugins": {"ok": False, "why": "a plugin could not answer"}, "stores": {"ok": False, "why": "full"}}
    findings = list(running.look(status(ready={"checks": checks})))
    assert "disk" not in found(findings, "daemon plugins").do
    assert "disk" in found(findings, "daemon stores").do


def command(*arguments: str | Path) -> Result:
    """Run a command; not on the loop of the daemon it asks."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


async def test_a_whole_round_with_a_daemon(daemon: Running, short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.app.health.PATIENCE", 60.0)
    for module in ("administration", "doctor.examination"):
        monkeypatch.setattr(f"proxy.app.{module}.PATIENCE", 60.0)
    await daemon[0].l1.blocks.sync()
    shown = await asyncio.to_thread(command, "doctor", "--data", short_tmp / "data", "--json")
    rows = json.loads(shown.stdout)
    assert all(set(row) == {"check", "level", "finding", "do"} for row in rows)
    by_check = {row["check"]: row for row in rows}
    assert by_check["daemon"]["finding"].startswith(f"pid {os.getpid()}")
    assert by_check["daemon l1"]["level"] == "ok"
    assert by_check["daemon node 1"]["level"] == "ok"
    assert "dapp port" not in by_check, "it is ours"
    assert shown.exit_code == (1 if any(row["level"] == "fail" for row in rows) else 0)
    people = await asyncio.to_thread(command, "doctor", "--data", short_tmp / "data")
    assert people.exit_code == shown.exit_code
    assert "daemon" in people.stdout


async def test_a_daemon_that_hangs_is_said_and_not_waited_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("administration", "doctor.examination"):
        monkeypatch.setattr(f"proxy.app.{module}.PATIENCE", 0.05)
    taken = asyncio.Event()
    never = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        taken.set()
        await never.wait()
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_unix_server(take, data / "admin.ipc"):
        rows = json.loads((await asyncio.to_thread(command, "doctor", "--data", data, "--json")).stdout)
        asked = await asyncio.to_thread(command, "status", "--data", data)
        never.set()
    assert taken.is_set()
    [daemon] = [row for row in rows if row["check"] == "daemon"]
    assert daemon["level"] == "fail"
    assert "has not answered for 0.05 s" in daemon["finding"]
    assert asked.exit_code == 1
    assert "l2proxy: the daemon has not answered" in asked.stderr


async def test_a_whole_round_without_one(data: Path) -> None:
    (data / "config.toml").write_text("[l1]\nurls = ['http://127.0.0.1:1']\n[listen]\nport = 0\n")
    done = await asyncio.to_thread(command, "doctor", "--data", data)
    assert done.exit_code == 1
    assert "l2proxy: one thing must be mended" in done.stderr
    assert "!!  node 1" in done.stdout
    (data / "config.toml").write_text("[listen]\nport = 0\nnonsense = 1\n")
    rows = json.loads((await asyncio.to_thread(command, "doctor", "--data", data, "--json")).stdout)
    assert next(row for row in rows if row["check"] == "config")["level"] == "fail"


async def test_status_for_people_and_programs(start: Start, short_tmp: Path) -> None:
    mortal = Mortal()
    async with start(mortal) as daemon:
        await daemon[0].l1.blocks.sync()
        mortal.dead = True
        with pytest.raises(Disconnected):
            await daemon[0].l1.call("eth_call")
        people = await asyncio.to_thread(command, "status", "--data", short_tmp / "data")
        programs = await asyncio.to_thread(command, "status", "--data", short_tmp / "data", "--json")
    assert people.exit_code == programs.exit_code == 0, people.output
    for said in ("chain 31337, block 0", "ready", "no: l1: no L1 node can be asked", "down:", "of callers", "cache"):
        assert said in people.stdout, said
    value = json.loads(programs.stdout)
    assert value["ready"]["ready"] is False
    assert value["l1"]["nodes"][0]["address"].startswith("http://127.0.0.1:")
    assert {"hitRate", "bytes"} <= set(value["cache"])
    gone = await asyncio.to_thread(command, "status", "--data", short_tmp / "data", "--watch")
    assert gone.exit_code == 4, "watching ends with the daemon"


async def test_accounts_made_beside_a_running_daemon(daemon: Running, short_tmp: Path) -> None:
    """Who starts first and makes accounts then is led on: by `unlock` to `init`, by `init` back to `unlock`."""
    data, password = short_tmp / "data", short_tmp / "password"
    password.write_text("pw")
    given = ("--password-file", password, "--data", data)
    early = await asyncio.to_thread(command, "unlock", *given)
    assert early.exit_code == 1
    assert early.stderr == f"l2proxy: there are no accounts yet; `l2proxy init --data {data}` makes them\n"
    made = await asyncio.to_thread(command, "init", "--mnemonic-out", short_tmp / "phrase", *given)
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines()[-1] == f"next: l2proxy unlock --data {data}"
    assert (await asyncio.to_thread(command, "unlock", *given)).exit_code == 0
    assert not daemon[0].keyring.locked
