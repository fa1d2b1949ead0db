"""The owner's commands as a process runs them: without a daemon, and against a live one (rpc.md, "Command line")."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from tests.conftest import TEST_PHRASE

SECONDS = 60
SITE = "https://app.example"


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "L2PROXY_DATA"}


class House:
    """A data directory and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "my data"
        (folder / "phrase").write_text(TEST_PHRASE)
        (folder / "password").write_text("secret password")
        self.password = folder / "password"
        self.run("init", "--mnemonic-file", str(folder / "phrase"), "--password-file", str(self.password))

    def process(self, *arguments: str, text: str = "") -> Result:
        """Run a command in this process, as its own would."""
        with pytest.MonkeyPatch.context() as clean:
            clean.delenv("L2PROXY_DATA", raising=False)
            done = CliRunner().invoke(cli, [*arguments, "--data", str(self.data)], input=text)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def run(self, *arguments: str, text: str = "") -> str:
        done = self.process(*arguments, text=text)
        assert done.exit_code == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments: str, text: str = "") -> Any:
        return json.loads(self.run(*arguments, "--json", text=text))

    def fails(self, code: int, *arguments: str, text: str = "") -> str:
        done = self.process(*arguments, text=text)
        assert done.exit_code == code, (arguments, done.stdout, done.stderr)
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def house(short_tmp: Path) -> House:
    return House(short_tmp)


def test_without_a_daemon_grants_work_and_questions_do_not(house: House) -> None:
    made = house.json("token", "new", "ci", "--accounts", "1", "--expires", "3600")
    assert made["url"].endswith("/" + made["token"])
    [listed] = house.json("token", "list")
    assert listed["name"] == "ci"
    assert made["token"] not in house.run("token", "list") + house.run("audit", "show")
    house.run("site", "connect", SITE)
    assert [entry["origin"] for entry in house.json("site", "list")] == [SITE]
    [held] = house.json("permission", "list")
    assert held["invoker"] == "token:ci"
    assert "token:ci" in house.run("permission", "list")
    house.run("permission", "revoke", held["id"])
    house.run("token", "revoke", "ci")
    house.run("site", "disconnect", SITE)
    head = house.run("audit", "show", "--head").strip()
    assert house.json("audit", "verify", "--head", head)["head"] == head
    for command in (["list"], ["show", "x"], ["approve", "x"], ["reject", "x"]):
        assert "no daemon" in house.fails(4, "approval", *command)


def test_every_mistake_is_one_sentence(house: House) -> None:
    assert "no origin" in house.fails(1, "site", "connect", "app.example")
    assert "https" in house.fails(1, "site", "connect", "http://shop.example")
    assert "not connected" in house.fails(1, "site", "disconnect", SITE)
    assert "no token" in house.fails(1, "token", "revoke", "ci")
    assert "not installed" in house.fails(1, "token", "new", "ci", "--allow-plugin", "nothere")
    assert "'a:,'" in house.fails(2, "token", "new", "ci", "--allow-plugin", "a:,")
    assert "accounts" in house.fails(1, "token", "new", "ci", "--accounts", "99")
    house.fails(2, "token", "new")
    assert "cannot be read" in house.fails(1, "rule", "attest", "/nowhere.toml")
    assert "blank cheque" in house.fails(1, "rule", "attest", "-", text='[[rule]]\ndecision = "allow"\n')
    assert "holds nothing" in house.fails(1, "permission", "revoke", "socket")
    assert "no head" in house.fails(1, "audit", "verify", "--head", "x")


def test_only_the_attested_copy_counts(house: House, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\norigin = "token:ci"\nmethod = "eth_sendTransaction"\nmax_value = 5\ndecision = "allow"\n'
    )
    house.run("rule", "attest", str(file))
    file.write_text('[[rule]]\norigin = "*"\nmethod = "eth_sendTransaction"\ndecision = "allow"\n')
    [rule] = house.json("rule", "list")["rules"]
    assert (rule["origin"], rule["max_value"]) == ("token:ci", 5)
    example = {
        "origin": "token:ci",
        "kind": "transaction",
        "method": "eth_sendTransaction",
        "asset": "ETH",
        "value": "6",
    }
    assert house.json("rule", "test", "-", text=json.dumps(example))["decision"] == "ask"
    assert house.json("rule", "test", "-", text=json.dumps({**example, "value": "5"}))["decision"] == "allow"


class Daemon:
    """`l2proxy run --dev` over a house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "proxy",
                "run",
                "--dev",
                "--port",
                "0",
                "--console-port",
                "0",
                "--json",
                "--data",
                str(house.data),
                "--password-file",
                str(house.password),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "the daemon is not ready"
        self.url = json.loads(self.process.stdout.readline())["dapp"]

    def rpc(self, method: str, *params: Any, origin: str = SITE) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        headers = {"content-type": "application/json", "origin": origin}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310  the daemon's own address
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return json.loads(answer.read())

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, said
        return said


@pytest.fixture
def daemon(house: House) -> Iterator[Daemon]:
    running = Daemon(house)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def watched(house: House) -> Any:
    """Return the first question that `approval list --watch --json` shows."""
    watch = subprocess.Popen(
        [sys.executable, "-m", "proxy", "approval", "list", "--watch", "--json", "--data", str(house.data)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert watch.stdout is not None
        for line in watch.stdout:
            if questions := json.loads(line):
                return questions[0]
    finally:
        watch.kill()
        watch.communicate()
    raise AssertionError("the watch ended without a question")


def test_a_site_connects_asks_and_is_answered(house: House, daemon: Daemon) -> None:
    refused = daemon.rpc("eth_blockNumber")["error"]
    assert refused["code"] == 4100
    assert f"l2proxy site connect {SITE}" in refused["message"]
    [connect] = house.json("approval", "list")
    assert set(connect) == {"id", "origin", "kind", "summary", "digest", "expires", "warnings"}
    assert (connect["origin"], connect["kind"]) == (SITE, "connect")
    assert house.json("approval", "approve", connect["id"])["digest"] == connect["digest"]
    assert "result" in daemon.rpc("eth_blockNumber")
    assert "no open question" in house.fails(1, "approval", "approve", connect["id"])
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(daemon.rpc, "wallet_requestPermissions", {"eth_accounts": {}})
        question = watched(house)
        assert question["kind"] == "permissions"
        assert SITE in house.run("approval", "show", question["id"])
        house.run("approval", "approve", question["id"])
        [granted] = asked.result(SECONDS)["result"]
        address = granted["caveats"][0]["value"][0]
        assert daemon.rpc("eth_accounts")["result"] == [address]
        asked = pool.submit(daemon.rpc, "personal_sign", "0x6869", address)
        house.run("approval", "reject", watched(house)["id"])
        assert asked.result(SECONDS)["error"]["code"] == 4001
        asked = pool.submit(daemon.rpc, "personal_sign", "0x6869", address)
        watched(house)
        house.run("site", "disconnect", SITE)
        assert asked.result(SECONDS)["error"]["code"] == 4100
    assert daemon.rpc("eth_accounts")["result"] == []
    said = daemon.stop()
    assert f"l2proxy approval approve {question['id']} --data '{house.data}'" in said
    decided = [(entry["kind"], entry["decision"]) for entry in house.json("audit", "show") if "decision" in entry]
    assert decided == [("connect", "allow"), ("permissions", "allow"), ("message", "reject")]


def test_a_token_ends_while_the_daemon_runs(house: House, daemon: Daemon) -> None:
    made = house.json("token", "new", "ci", "--accounts", "1", "--origin", SITE)
    assert made["url"].startswith(daemon.url)
    daemon.url = made["url"]
    assert len(daemon.rpc("eth_accounts")["result"]) == 1
    house.run("token", "revoke", "ci")
    with pytest.raises(urllib.error.HTTPError) as refused:
        daemon.rpc("eth_accounts")
    assert refused.value.code == 401
