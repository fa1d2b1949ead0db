"""`l2proxy plugin …` as the owner types it: what it asks the daemon, what it prints, how it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from middleware.errors import RpcError
from middleware.waist import OWNER, Context
from proxy.cli import plugin_removing, session
from proxy.cli.plugin import plugin
from proxy.methods.plugin_administration import admin_handlers
from tests.host.neighbours import ECHO, Home, new_keyring, package


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A catalog on a data directory, asked in process as without a daemon."""
    home = Home(tmp_path / "data", new_keyring(tmp_path))

    def call(self: session.Session, method: str, params: Any = None, *, live: bool = False) -> Any:
        async def ask() -> Any:
            home.open()
            try:
                return await admin_handlers(home.plugins.catalog)[method](dict(params or {}), Context(OWNER))
            finally:
                await home.close()

        try:
            return asyncio.run(ask())
        except RpcError as error:
            raise session.Failure(error.message) from error

    monkeypatch.setattr(session.Session, "call", call)
    return home


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(plugin, arguments, input=typed)


def test_add_needs_grant_without_a_terminal(home: Home) -> None:
    ended = run("add", str(ECHO))
    assert (ended.exit_code, "--grant all" in ended.output) == (2, True)


def test_add_list_info_logs_remove(home: Home) -> None:
    added = run("add", str(ECHO), "--grant", "all", "--json")
    assert added.exit_code == 0, added.output
    assert json.loads(added.output)["grants"] == ["store", "keys", "layer1"]
    assert [row["id"] for row in json.loads(run("list", "--json").output)] == ["echo"]
    assert "echo" in run("list").output
    shown = run("info", "echo").output
    assert "m/7002'/1'/0'" in shown
    assert "sandbox      -\n" in shown  # "none" would say that it runs without one
    assert json.loads(run("logs", "echo", "--json").output) == []
    assert "its store is kept" in run("remove", "echo").output
    assert "no plugin is installed" in run("list").output
    gone = run("info", "echo")
    assert (gone.exit_code, gone.output.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--grant", "everything"),
        ("--grant", "all,transfer"),
        ("--grant", "all", "--hub", "ws://127.0.0.1:1/"),
        ("--grant", "all", "--gateway", "1=0x12"),
        ("--grant", "all", "--owner", "0x12"),
    ],
)
def test_a_wrong_choice_is_one_sentence(home: Home, wrong: tuple[str, ...]) -> None:
    ended = run("add", str(ECHO), *wrong)
    assert (ended.exit_code, ended.output.count("\n")) == (1, 1), ended.output
    assert "no plugin is installed" in run("list").output


def test_on_a_terminal_each_grant_is_asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.plugin.terminal", lambda: True)
    ended = run("add", str(ECHO), typed="y\nn\ny\n")
    assert ended.exit_code == 0, ended.output
    assert "connected sites may call this unasked" in ended.output
    assert json.loads(run("info", "echo", "--json").output)["grants"] == ["store", "layer1"]


def test_update_and_rollback_without_a_terminal_take_it_and_grant_nothing_new(home: Home, tmp_path: Path) -> None:
    folder = shutil.copytree(ECHO, tmp_path / "echo", ignore=shutil.ignore_patterns("__pycache__"))
    manifest = (folder / "plugin.toml").read_text()
    assert run("add", str(folder), "--grant", "all").exit_code == 0
    assert 'version = "1.0.0"' in manifest
    (folder / "plugin.toml").write_text(
        manifest.replace('version = "1.0.0"', 'version = "1.1.0"').replace(
            "[permissions]", "[permissions]\ntransfer = true"
        )
    )
    taken = run("update", "echo")
    assert (taken.exit_code, "not granted unless you name it: transfer" in taken.output) == (0, True), taken.output
    assert _installed() == ("1.1.0", ["keys", "layer1", "store"])
    assert run("rollback", "echo", "--json").exit_code == 0
    assert _installed() == ("1.0.0", ["keys", "layer1", "store"])
    assert run("update", "echo", "--grant", "transfer").exit_code == 0
    assert _installed() == ("1.1.0", ["keys", "layer1", "store", "transfer"])


def test_on_a_terminal_update_and_rollback_ask_first(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(ECHO, tmp_path / "echo", ignore=shutil.ignore_patterns("__pycache__"))
    assert run("add", str(folder), "--grant", "all").exit_code == 0
    monkeypatch.setattr("proxy.cli.plugin_versions.terminal", lambda: True)
    (folder / "plugin.toml").write_text(
        (folder / "plugin.toml").read_text().replace('version = "1.0.0"', 'version = "1.1.0"')
    )
    assert run("update", "echo", typed="n\n").exit_code == 1
    assert _installed()[0] == "1.0.0"
    assert run("update", "echo", typed="y\n").exit_code == 0
    assert run("rollback", "echo", typed="n\n").exit_code == 1
    assert _installed()[0] == "1.1.0"
    assert run("rollback", "echo", "--yes").exit_code == 0
    assert _installed()[0] == "1.0.0"


def _installed() -> tuple[str, list[str]]:
    found = json.loads(run("info", "echo", "--json").output)
    return found["version"], sorted(found["grants"])


def test_check_compares_the_code_with_the_manifest(tmp_path: Path) -> None:
    assert run("check", str(ECHO)).exit_code == 0
    sdk = "from l2proxy_sdk import Plugin, Uint8, action\nclass Main(Plugin):\n    @action\n    async def go(self, n: Uint8) -> None: ...\n"
    good = package(tmp_path, "good", sdk, '[[action]]\nname = "go"\nparams = [{ name = "n", type = "uint8" }]\n')
    assert run("check", str(good)).exit_code == 0
    for name, manifest, says in (
        ("more", '[[action]]\nname = "stop"\n', "action stop is in the manifest and not in the code"),
        ("other", '[[action]]\nname = "go"\nparams = [{ name = "n", type = "uint16" }]\n', "uint16"),
    ):
        ended = run("check", str(package(tmp_path, name, sdk, manifest)))
        assert (ended.exit_code, says in ended.output) == (1, True), ended.output
    broken = run("check", str(package(tmp_path, "broken", "import nothing_of_the_kind\n")))
    assert (broken.exit_code, "nothing_of_the_kind" in broken.output) == (1, True)
    assert run("check", str(tmp_path)).exit_code == 1


@pytest.mark.parametrize(
    ("found", "typed", "sent", "says"),
    [
        ({"locked": [], "paidIn": False, "known": True}, "delete\n", True, "Nothing is locked"),
        ({"locked": [], "paidIn": False, "known": True}, "\n", False, "Nothing is locked"),
        ({"locked": [], "paidIn": True, "known": True}, "y\n", False, "still locked on L1"),
        ({"locked": [], "paidIn": True, "known": True}, "n\n", None, "Aborted"),
        ({"locked": [], "paidIn": False, "known": False}, "y\n", False, "No daemon runs"),
        (
            {
                "locked": [{"gateway": "main", "asset": "ETH", "source": "events", "locked": "0x1bc16d674ec80000"}],
                "paidIn": False,
                "known": True,
            },
            "\n",
            None,
            "gateway main: 2 ETH locked, 0.5 ETH on the way (by events)",
        ),
    ],
)
def test_remove_asks_on_a_terminal_what_becomes_of_the_store(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], typed: str, sent: bool | None, says: str
) -> None:
    for row in found["locked"]:
        row["pending"] = hex(5 * 10**17)
    asked: list[dict[str, Any]] = []

    def call(_: session.Session, method: str, params: Any = None, *, live: bool = False) -> Any:
        assert method == "admin_pluginRemove"
        asked.append(params)
        return found if params.get("look") else {"id": "echo", "store": "deleted" if params["deleteStore"] else "kept"}

    monkeypatch.setattr(session.Session, "call", call)
    monkeypatch.setattr(plugin_removing, "terminal", lambda: True)
    ended = run("remove", "echo", typed=typed)
    assert says in ended.output
    assert [params.get("deleteStore") for params in asked[1:]] == ([] if sent is None else [sent])
    for flag in ("--keep-store", "--delete-store", "--json"):
        asked.clear()
        assert run("remove", "echo", flag).exit_code == 0
        assert [params["deleteStore"] for params in asked] == [flag == "--delete-store"]
    assert run("remove", "echo", "--keep-store", "--delete-store").exit_code == 2


def test_remove_looks_before_it_removes(home: Home) -> None:
    assert run("add", str(ECHO), "--grant", "all").exit_code == 0
    call: Any = session.Session.call
    found = call(None, "admin_pluginRemove", {"id": "echo", "look": True})
    assert found == {"id": "echo", "locked": [], "paidIn": False, "known": False}
    assert [row["id"] for row in json.loads(run("list", "--json").output)] == ["echo"]


def test_a_cap_is_set_shown_kept_and_taken_away(home: Home) -> None:
    assert run("add", str(ECHO), "--grant", "all").exit_code == 0
    token = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert "5 of ETH, in wei: 0.000000000000000005 ETH" in run("set-cap", "echo", "ETH", "5").output
    assert run("set-cap", "echo", token.lower(), str(2**256 - 1)).exit_code == 0
    assert run("add", str(ECHO), "--grant", "all").exit_code == 0  # agreed to anew: the cap stays
    caps = json.loads(run("info", "echo", "--json").output)["caps"]
    assert caps == {token: str(2**256 - 1), "ETH": "5"}
    home.open()
    installed = home.plugins.catalog.get("echo")
    assert installed is not None
    assert installed.caps == {token: 2**256 - 1, "ETH": 5}
    asyncio.run(home.close())
    assert run("set-cap", "echo", "ETH", "none").exit_code == 0
    assert json.loads(run("set-cap", "echo", token, "none", "--json").output)["caps"] == {}
    assert run("set-cap", "echo", "ETH", "0.5").exit_code == 2
    assert "or ETH" in run("set-cap", "echo", "BTC", "1").output
    assert "is installed" in run("set-cap", "nobody", "ETH", "1").output
