"""`init`, `account`, `unlock`, `lock`: the spellings of rpc.md, secrets nowhere but where they belong, one-sentence errors.

Most commands run in this process, with a scrypt made cheap (`cheap`): each real one costs a second. One test makes a
keystore by the real command in a process of its own.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from eth_account import Account

from proxy.cli import cli
from proxy.wallet import keystore
from proxy.wallet.phrases import check_phrase
from tests.conftest import TEST_PHRASE

OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
ACCOUNT_1 = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
KEY_0 = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


class Box:
    """A data directory with its secret files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.password = self.file("password", "correct horse\n")
        self.phrase = self.file("phrase", TEST_PHRASE + "\n")

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *arguments: str | Path, text: str = "", data: Path | None = None) -> Ended:
        given = [*map(str, arguments), "--data", str(data or self.data)]
        result = CliRunner().invoke(cli, given, input=text, prog_name="l2proxy")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a person would see a traceback
        return Ended(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: str | Path, text: str = "") -> Any:
        result = self.run(*arguments, "--json", text=text)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def fails(self, code: int, *arguments: str | Path, text: str = "", data: Path | None = None) -> str:
        result = self.run(*arguments, text=text, data=data)
        assert result.returncode == code, (result.stdout, result.stderr)
        return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """Make new keystores cost next to nothing; the product's cost is tried in tests/wallet/test_keystore.py."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keystore, "DEFAULT_N", 16)
        yield


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A keystore of the test phrase, for tests that only read it."""
    box = Box(tmp_path_factory.mktemp("made"))
    made = box.json("init", "--mnemonic-file", box.phrase, "--password-file", box.password)
    assert made == {"address": OWNER, "index": 0}
    return box


def test_a_new_phrase_is_shown_once(box: Box) -> None:
    result = box.run("init", "--password-file", box.password)
    assert result.returncode == 0, result.stderr
    (phrase,) = [line.strip() for line in result.stdout.splitlines() if len(line.split()) == 12 and "  " in line]
    assert check_phrase(phrase) == phrase
    Account.enable_unaudited_hdwallet_features()
    assert Account.from_mnemonic(phrase).address in result.stdout
    for path in box.data.rglob("*"):
        assert path.is_dir() or phrase.encode() not in path.read_bytes()


def test_a_new_phrase_goes_into_a_new_file_of_the_owners_alone(box: Box) -> None:
    out = box.folder / "new-phrase"
    made = box.json("init", "--mnemonic-out", out, "--password-file", box.password)
    assert "mnemonic" not in made
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    Account.enable_unaudited_hdwallet_features()
    assert Account.from_mnemonic(out.read_text().strip()).address == made["address"]
    assert stat.S_IMODE((box.data / "keystore.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(box.data.stat().st_mode) == 0o700


def test_phrase_and_password_may_both_come_from_standard_input(box: Box) -> None:
    made = box.json("init", "--mnemonic-file", "-", "--password-file", "-", text=f"{TEST_PHRASE}\ncorrect horse\n")
    assert made["address"] == OWNER
    assert box.json("account", "new", "--password-file", box.password)["address"] == ACCOUNT_1


def test_the_real_command_takes_a_descriptor_as_password_file(box: Box) -> None:
    with box.password.open() as file:
        result = subprocess.run(
            [
                *(sys.executable, "-m", "proxy", "init", "--mnemonic-file", str(box.phrase), "--data", str(box.data)),
                *("--password-file", f"/dev/fd/{file.fileno()}", "--json"),
            ],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert json.loads(result.stdout)["address"] == OWNER
    assert json.loads((box.data / "keystore.json").read_text())["kdf"]["n"] == 2**18


def test_an_existing_keystore_is_left_as_it_is(made: Box) -> None:
    before = (made.data / "keystore.json").read_bytes()
    out = made.folder / "never"
    said = made.fails(1, "init", "--mnemonic-out", out, "--password-file", made.password)
    assert "already" in said
    assert not out.exists()
    assert (made.data / "keystore.json").read_bytes() == before


@pytest.mark.parametrize(
    ("phrase", "says"),
    [("test " * 12, "checksum"), ("a b c", "3 words"), ("test " * 11 + "xyzzy", "word 12"), ("", "empty")],
)
def test_a_bad_phrase_is_one_sentence_that_quotes_no_word(box: Box, phrase: str, says: str) -> None:
    said = box.fails(1, "init", "--mnemonic-file", box.file("bad", phrase), "--password-file", box.password)
    assert says in said
    assert "xyzzy" not in said
    assert not (box.data / "keystore.json").exists()


def test_mistakes_are_usage_errors_before_anything_is_made(box: Box) -> None:
    both = box.fails(
        2, "init", "--mnemonic-file", box.phrase, "--mnemonic-out", box.folder / "x", "--password-file", box.password
    )
    assert "exclude" in both
    assert "--password-file" in box.fails(2, "init", "--mnemonic-file", box.phrase)
    box.fails(1, "init", "--mnemonic-file", box.folder / "nowhere", "--password-file", box.password)
    box.fails(1, "init", "--mnemonic-file", box.phrase, "--password-file", box.file("empty", "\n"))
    taken = box.file("taken", "precious")
    assert "new file" in box.fails(1, "init", "--mnemonic-out", taken, "--password-file", box.password)
    assert taken.read_text() == "precious"
    assert not (box.data / "keystore.json").exists()


def test_what_comes_next_can_be_copied(box: Box) -> None:
    said = box.run("init", "--mnemonic-file", box.phrase, "--password-file", box.password).stdout
    assert f"l2proxy run --data {box.data} --l1 URL" in said
    assert f"l2proxy run --data {box.data} --dev" in said


def test_a_data_directory_that_cannot_be_is_one_sentence(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("init", "--mnemonic-file", box.phrase, "--password-file", box.password)
    out = box.folder / "never"
    below_a_file = box.phrase / "data"
    assert f"{below_a_file} cannot be made" in box.fails(1, *given, data=below_a_file)
    assert "/proc/nothing cannot be made" in box.fails(1, *given, data=Path("/proc/nothing"))
    box.fails(1, "init", "--mnemonic-out", out, "--password-file", box.password, data=below_a_file)
    assert not out.exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert "cannot be written to" in box.fails(1, *given)


def test_accounts_are_listed_without_a_daemon(made: Box) -> None:
    accounts = made.json("account", "list")
    assert accounts[0] == {"address": OWNER, "index": 0, "balance": None}
    shown = made.run("account", "list").stdout
    assert OWNER in shown
    assert "unknown (no node)" in shown


def test_keys_go_out_and_come_in_again(box: Box) -> None:
    box.json("init", "--mnemonic-file", box.phrase, "--password-file", box.password)
    out, sealed_with = box.folder / "key.json", box.file("export-password", "other\n")
    box.json(
        "account", "export", OWNER, "--out", out, "--password-file", box.password, "--export-password-file", sealed_with
    )
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert bytes(Account.decrypt(json.loads(out.read_text()), "other")).hex() == KEY_0
    assert "already" in box.fails(
        1, "account", "import", out, "--password-file", box.password, "--key-password-file", sealed_with
    )
    key = "0x" + "01" * 32
    made = box.json("account", "import", box.file("raw", key), "--password-file", box.password)
    assert made["index"] is None
    assert [account["address"] for account in box.json("account", "list")] == [OWNER, made["address"]]


def test_standard_input_and_output_are_files_too(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(box.folder)  # a file called "-" would stand there
    box.json("init", "--mnemonic-file", box.phrase, "--password-file", box.password)
    shown = box.run("account", "export", OWNER, "--out", "-", "--password-file", box.password)
    assert bytes(Account.decrypt(json.loads(shown.stdout), "correct horse")).hex() == KEY_0
    assert not (box.folder / "-").exists()
    made = box.json("account", "import", "-", "--password-file", box.password, text="02" * 32)
    assert made["address"] == Account.from_key("02" * 32).address
    both = box.fails(2, "account", "import", "-", "--password-file", "-", text="03" * 32)
    assert "standard input" in both
    assert "longer" in box.fails(1, "account", "import", "/dev/zero", "--password-file", box.password)


def test_a_wrong_password_is_refused(made: Box) -> None:
    wrong = made.file("wrong", "wrong\n")
    assert "password is wrong" in made.fails(3, "account", "new", "--password-file", wrong)
    out = made.folder / "never.json"
    made.fails(3, "account", "export", OWNER, "--out", out, "--password-file", wrong)
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"version": 3}', "00" * 32, "ff" * 32, "0x1234"])
def test_what_is_no_key_is_one_sentence(made: Box, text: str) -> None:
    file = made.file("no-key", text)
    said = made.fails(
        1, "account", "import", file, "--password-file", made.password, "--key-password-file", made.password
    )
    assert text not in said or len(text) < 3


def test_unlock_and_lock_need_a_daemon(made: Box) -> None:
    assert "l2proxy run" in made.fails(4, "unlock", "--password-file", made.password)
    assert "l2proxy run" in made.fails(4, "lock")


@pytest.fixture
def daemon(box: Box) -> Iterator[dict[str, Any]]:
    """A daemon on the embedded L1, started locked."""
    box.json("init", "--mnemonic-file", box.phrase, "--password-file", box.password)
    process = subprocess.Popen(
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
            str(box.data),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = process.stdout.readline()
    try:
        assert ready, process.communicate()
        yield json.loads(ready)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_running_daemon_is_unlocked_and_locked(box: Box, daemon: dict[str, Any]) -> None:
    assert daemon["ready"] is True
    (account,) = box.json("account", "list")
    assert int(account["balance"], 16) == 10_000 * 10**18
    assert "10000 ETH" in box.run("account", "list").stdout
    assert "password is wrong" in box.fails(3, "unlock", "--password-file", box.file("wrong", "wrong"))
    assert box.json("unlock", "--password-file", box.password) == {"locked": False, "accounts": [OWNER]}
    assert box.json("account", "new", "--password-file", box.password)["address"] == ACCOUNT_1
    assert [entry["address"] for entry in box.json("account", "list")] == [OWNER, ACCOUNT_1]
    assert box.json("lock") == {"locked": True}
    assert "already" in box.fails(1, "init", "--password-file", box.password)
