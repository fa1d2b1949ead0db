"""What every command owes the owner: one sentence for whatever goes wrong, and nothing cut or obeyed on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from proxy.cli import cli
from proxy.cli.session import Failure, NoDaemon, Session, printable, read_secret, table
from proxy.config import default_data_directory
from proxy.storage.directory import DataDirectory

ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def fails(code: int, *arguments: str | Path, text: str = "") -> str:
    """Return the one line of standard error of a command that must fail with `code`."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=text, env={"L2PROXY_DATA": None})
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit)
    [line] = done.stderr.splitlines()
    assert line.startswith("l2proxy: ")
    return line


def test_what_every_command_takes_may_stand_before_it(tmp_path: Path) -> None:
    """As git and docker have it; where both places are used, the one behind the command wins."""
    here, there = tmp_path / "here", tmp_path / "there"
    assert str(here) in fails(4, "--data", here, "status")
    assert str(here) in fails(4, "--data", there, "lock", "--data", here)
    done = CliRunner().invoke(cli, ["--data", str(here), "status"], env={"L2PROXY_DATA": str(there)})
    assert str(here) in done.stderr
    done = CliRunner().invoke(cli, ["--json", "config", "show"], env={"L2PROXY_DATA": str(here)})
    assert json.loads(done.stdout)["unknown_sites"] == "ask"
    assert "no such option '--nothing'" in fails(2, "--nothing", "status")


def test_every_command_takes_data_and_json() -> None:
    """rpc.md, "Command line": programs append both to whatever they call."""

    def lacking(command: click.Command, path: str, parent: click.Context | None) -> list[str]:
        context = click.Context(command, parent=parent)
        if isinstance(command, click.Group):
            below = {name: command.get_command(context, name) for name in command.list_commands(context)}
            return [row for name, one in below.items() if one for row in lacking(one, f"{path} {name}", context)]
        options = {name for param in command.params for name in param.opts}
        return [path] if {"--data", "--json"} - options else []

    assert lacking(cli, "l2proxy", None) == []


def test_a_command_without_a_data_directory_leaves_the_one_it_is_given_alone(tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    for words in (["completion", "fish", "--data", there], ["--data", there, "completion", "fish"]):
        done = CliRunner().invoke(cli, words)
        assert (done.exit_code, "_L2PROXY_COMPLETE" in done.stdout) == (0, True), done.stderr
    assert not Path(there).exists()


def test_the_settings_are_shown_without_the_secrets_of_an_url(tmp_path: Path) -> None:
    """hardening.md 19: hosted nodes carry their key in the path, the query or before the host."""
    settings = tmp_path / "config.toml"
    settings.write_text(
        '[l1]\nurls = ["https://me:s3cret@node.example/v3/s3cret?key=s3cret", "ws://127.0.0.1:8546", "/run/geth.ipc", "dev"]\n'
        '[plugins]\npypi = "https://me:s3cret@index.example/root/pypi?token=s3cret"'
    )
    for words in (["config", "show"], ["config", "show", "--json"]):
        done = CliRunner().invoke(cli, [*words, "--config", str(settings)])
        assert done.exit_code == 0
        assert "s3cret" not in done.stdout
    assert json.loads(done.stdout)["l1"]["urls"] == [
        "https://node.example", "ws://127.0.0.1:8546", "/run/geth.ipc", "dev",
    ]  # fmt: skip
    assert json.loads(done.stdout)["plugins"]["pypi"] == "https://index.example/root/pypi"


def test_a_command_that_is_to_be_typed_names_the_data_directory(tmp_path: Path) -> None:
    """As it stood it meant the usual one: who followed it made a keystore somewhere else."""
    session = Session(tmp_path / "my data", False)
    here = f"--data '{tmp_path / 'my data'}'"
    assert session.told("none; `l2proxy init` makes one") == f"none; `l2proxy init {here}` makes one"
    for said in (
        "`l2proxy init --data /x` there",
        "`l2proxy demo` or `chmod 600 x`",
        "l2proxy: no `l2proxy",
        "`L2proxy x`",
    ):
        assert session.told(said) == said
    assert Session(default_data_directory().absolute(), False).told("`l2proxy init`") == "`l2proxy init`"
    assert f"`l2proxy init {here}`" in fails(1, "account", "list", "--data", tmp_path / "my data")
    directory = DataDirectory(tmp_path / "my data")
    directory.lock()
    directory.release()
    assert f"`l2proxy site list {here}`" in fails(
        1, "site", "disconnect", "https://a.example", "--data", tmp_path / "my data"
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that somebody used."""
    directory = DataDirectory(tmp_path / "data")
    directory.lock()
    directory.owner_database.space("tokens").write({b"x": b"{}"}, delete=[])
    directory.owner_database.space("tokens").write(delete=[b"x"])
    directory.chain_database.space("budgets").write({b"latest": b"1"})
    directory.release()
    return directory.path


@pytest.mark.parametrize("database", ["owner.db", "chain.db"])
@pytest.mark.parametrize("command", [("token", "list"), ("site", "connect", "https://a.example"), ("audit", "verify")])
@pytest.mark.parametrize("broken", ["CURRENT", "MANIFEST-*"])
def test_a_damaged_database_is_one_sentence(data: Path, database: str, broken: str, command: Sequence[str]) -> None:
    [file] = (data / database).glob(broken)
    file.write_bytes(b"torn\xff")
    said = fails(1, *command, "--data", data)
    assert str(data / database) in said
    assert "damaged" in said
    assert "b'" not in said
    assert file.read_bytes() == b"torn\xff", "what is damaged is left as it is"


def test_a_daemon_on_a_damaged_database_is_one_sentence(data: Path) -> None:
    [file] = (data / "owner.db").glob("MANIFEST-*")
    file.write_bytes(b"")
    assert "damaged" in fails(1, "token", "list", "--data", data)


def test_a_file_where_a_database_belongs_is_one_sentence(tmp_path: Path, data: Path) -> None:
    (data / "owner.db").rename(tmp_path / "away")
    (data / "owner.db").touch()
    assert "owner.db cannot be opened" in fails(1, "token", "list", "--data", data)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["token", "nw"], "Did you mean 'new'?"),
        (["token", "new"], "missing argument 'NAME'"),
        (["status", "--foo"], "no such option '--foo'"),
        (["status", "extra"], "unexpected extra argument"),
        (["completion", "pwsh"], "'bash', 'zsh', 'fish'"),
        (["token", "new", "x", "--expires", "9" * 30], "--expires"),
        (["permission", "grant", "socket", "--accounts", "-1"], "--accounts"),
        (["token", "list", "--data", __file__], "--data"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], says: str) -> None:
    said = fails(2, *arguments)
    assert says in said
    assert "--help" in said


@pytest.mark.parametrize("named", ["/nowhere", ".", "binary", "loop"])
def test_an_unreadable_file_is_one_sentence(
    data: Path, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "loop").symlink_to("loop")
    for command in (["rule", "attest"], ["rule", "test"], ["approval", "approve", "deadbeef", "--only"]):
        said = fails(1, *command, named, "--data", data)
        assert "cannot be read" in said
        assert "Errno" not in said


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"origin": "socket"}', "[" * 100_000])
def test_an_example_that_is_no_question_is_one_sentence(data: Path, text: str) -> None:
    fails(1, "rule", "test", "-", "--data", data, text=text)


def test_what_the_owner_typed_is_never_obeyed_by_the_terminal(data: Path) -> None:
    said = fails(1, "token", "revoke", "\x1b[31mred\u202e\r", "--data", data)
    assert printable(said) == said


def test_commands_at_once_wait_for_each_other(data: Path) -> None:
    held = DataDirectory(data)
    held.lock()
    threading.Timer(0.3, held.release).start()
    done = CliRunner().invoke(cli, ["token", "list", "--data", str(data)])
    assert (done.exit_code, done.output) == (0, "there are no tokens\n")


@pytest.mark.parametrize("width", [20, 40])
def test_a_table_cuts_no_address(width: int) -> None:
    console = Console(width=width)
    with console.capture() as shown:
        console.print(table(["address", "path"], [[ADDRESS, "m/44'/60'/0'/0/0"]], ""))
    columns = [line.split("  ")[0].strip() for line in shown.get().splitlines()[1:]]
    assert "…" not in shown.get()
    assert ADDRESS.startswith("".join(columns)[:40])


def test_without_a_terminal_a_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Session(Path("/"), json=False).show([], lambda _: table(["a", "b"], [[ADDRESS * 4, ADDRESS * 4]], ""))
    assert f"{ADDRESS * 4}  {ADDRESS * 4}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stdout", "code", "says"), [("/dev/full", 1, "l2proxy: the output cannot be"), ("closed", 0, "")]
)
def test_an_output_that_takes_nothing_is_one_sentence(data: Path, stdout: str, code: int, says: str) -> None:
    redirect = ">&-" if stdout == "closed" else f">{stdout}"
    done = subprocess.run(  # the shell only redirects: everything else are its positional arguments
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {redirect}',
            "sh",
            sys.executable,
            "-m",
            "proxy",
            "token",
            "list",
            "--data",
            data,
        ],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (1 if says else 0)
    assert done.stderr.startswith(says)


def test_a_secret_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="longer than"):
        read_secret("/dev/zero", "password")
    (tmp_path / "pw").write_text("pass word\r\n")
    assert read_secret(str(tmp_path / "pw"), "password") == "pass word"


def test_without_a_daemon_the_port_is_that_of_the_config(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir(mode=0o700)
    (data / "config.toml").write_text("[listen]\nport = 8777\n")
    (data / "lock").touch()
    made = Session(data, json=True).call("admin_tokenNew", {"name": "shop"})
    assert made["url"].startswith("http://127.0.0.1:8777/")


def test_without_a_daemon_the_command_that_starts_one_names_the_directory() -> None:
    assert "`l2proxy run --data '/some where'`" in NoDaemon(Path("/some where")).message
    assert NoDaemon(default_data_directory().absolute()).message.endswith("`l2proxy run`")
