"""`l2proxy`: help, and every mistake at `run` is one sentence and an exit code of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import cli
from tests.conftest import TEST_PHRASE

SECONDS = 60


def l2proxy(*arguments: str | Path, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "L2PROXY_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=clean | environment,
    )


def in_process(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command here: where no process of its own is the point, it takes a tenth of the time."""
    with pytest.MonkeyPatch.context() as clean:
        clean.delenv("L2PROXY_DATA", raising=False)
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=text)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def one_sentence(result: subprocess.CompletedProcess[str], code: int) -> str:
    assert result.returncode == code, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("l2proxy: "), result.stderr
    return last


def test_help_reads_well() -> None:
    result = l2proxy("--help")
    assert result.returncode == 0
    for name in ("demo", "init", "run", "approval", "plugin", "token"):
        assert f"\n  {name} " in result.stdout


def test_run_without_configuration_says_what_to_do(tmp_path: Path) -> None:
    said = one_sentence(in_process("run", "--data", tmp_path / "d"), 2)
    assert "--l1" in said
    assert "--dev" in said
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--l1", "ftp://x"], 3, "ftp"),
        (["--l1", "http://127.0.0.1:1"], 1, "L1"),
        (["--l1", "/nowhere/geth.ipc"], 1, "L1"),
        (["--dev", "--l1", "http://127.0.0.1:1"], 1, "L1"),
        (["--config", "/nowhere.toml"], 2, "no config file"),
        (["--port", "70000", "--dev"], 2, "70000"),
        (["--password-file", "/nowhere", "--dev"], 1, "password"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    assert says in one_sentence(in_process("run", "--data", tmp_path / "d", *arguments), code)


@pytest.mark.parametrize("use", ["nowhere:Thing", "web3.middleware:NoSuchMiddleware", "json", "os:getcwd"])
def test_a_bad_middleware_is_one_sentence(tmp_path: Path, use: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[[middleware]]\nuse = '{use}'\n")
    said = one_sentence(in_process("run", "--dev", "--port", "0", "--config", config, "--data", tmp_path / "d"), 2)
    assert use.partition(":")[0] in said
    assert not (tmp_path / "d").exists(), "said before anything is started"


def test_a_wrong_password_is_refused(short_tmp: Path) -> None:
    (short_tmp / "phrase").write_text(TEST_PHRASE)
    (short_tmp / "pw").write_text("right")
    (short_tmp / "wrong").write_text("wrong")
    made = in_process(
        "init", "--data", short_tmp / "d", "--mnemonic-file", short_tmp / "phrase", "--password-file", short_tmp / "pw"
    )
    assert made.returncode == 0, made.stderr
    assert "junk" not in made.stdout + made.stderr
    said = one_sentence(
        in_process("run", "--dev", "--data", short_tmp / "d", "--password-file", short_tmp / "wrong"), 3
    )
    assert "password" in said
    assert "wrong" not in said.replace("wrong password", "").replace("password is wrong", "")
    assert not (short_tmp / "d" / "dev-l1").exists(), "an embedded L1 was started in vain"


@pytest.mark.parametrize("command", ["status", "approval list", "unlock", "lock"])
def test_what_needs_a_daemon_says_so(short_tmp: Path, command: str) -> None:
    said = one_sentence(in_process(*command.split(), "--data", short_tmp / "d"), 4)
    assert "l2proxy run" in said


def test_ready_line_second_daemon_and_sigterm(short_tmp: Path) -> None:
    data = short_tmp / "d"
    daemon = subprocess.Popen(
        [sys.executable, "-m", "proxy", "run", "--dev", "--json", "--port", "0", "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        ready = json.loads(daemon.stdout.readline())
        assert set(ready) == {"ready", "dapp", "ws", "ipc", "admin", "console", "chainId"}
        assert ready["ipc"] == str(data / "l2proxy.ipc")
        status = json.loads(in_process("status", "--data", data, "--json").stdout)
        assert status["doors"]["dapp"] == ready["dapp"]
        assert "holds" in one_sentence(in_process("run", "--dev", "--port", "0", "--data", data), 1)
        port = ready["dapp"].rsplit(":", 1)[1]
        assert port in one_sentence(in_process("run", "--dev", "--port", port, "--data", short_tmp / "e"), 1)
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=SECONDS)
    assert daemon.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_refused_start_is_a_json_line_too(tmp_path: Path) -> None:
    done = in_process("run", "--data", tmp_path / "d", "--l1", "http://127.0.0.1:1", "--log-format", "json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["level"] == "error"
    assert "no L1 node can be asked" in lines[-1]["message"]
