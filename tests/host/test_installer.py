"""Install, change, disable, remove: nothing of the package runs, and what the owner did not name is not granted."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import PluginUnavailable
from middleware.questions import digest_of
from middleware.waist import OWNER, Context
from proxy.host import tampering
from proxy.host.choices import InstallRefused
from proxy.host.package import is_as_stored
from proxy.methods.plugin_administration import admin_handlers
from tests.host.neighbours import ECHO, Home, new_keyring, package

ABI = '[{"type": "function", "name": "open", "inputs": [], "stateMutability": "payable"}]'
GATEWAY = '[[gateway]]\nchain = 1\naddress = "0x00000000000000000000000000000000000000aa"\nabi = "a.json"\ndeposit = ["open()"]\n'
EVERYTHING = '[keys]\npath = "m/7002\'/9\'/0\'"\nexport = true\n[permissions]\ntransfer = true\nlayer1 = ["eth_call", "eth_sendRawTransaction"]\n'
CODE = "raise SystemExit(open('/tmp/never').read())\n"
CONTEXT = Context(OWNER)


async def admin(home: Home, method: str, **params: Any) -> Any:
    return await admin_handlers(home.plugins.catalog, home.plugins)[f"admin_plugin{method}"](params, CONTEXT)


async def test_all_leaves_out_what_must_be_named(home: Home, tmp_path: Path) -> None:
    source = package(tmp_path, "greedy", CODE, EVERYTHING)
    info = await admin(home, "Add", source=str(source), grants=["all"])
    assert info["grants"] == ["store", "keys", "layer1"]
    assert info["refused"] == ["keys.export", "transfer", "eth_sendRawTransaction"]
    named = await admin(
        home, "Add", source=str(source), grants=["all", "keys.export", "transfer", "eth_sendRawTransaction"]
    )
    assert named["refused"] == []
    assert [event["event"] for event in home.audit.events] == ["plugin_add", "plugin_add"]


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"grants": ["everything"]}, "there are all"),
        ({"grants": ["hub"]}, "does not ask"),
        ({"grants": ["keys.export"]}, "needs keys"),
        ({"grants": [], "owner": "0x12"}, "address"),
        ({"grants": [], "owner": "0x" + "11" * 20}, "no account of this wallet"),
        ({"grants": [], "hub": "wss://hub.example"}, "no hub"),
        ({"grants": [], "gateways": ["1=0x12"]}, "name one of"),
        ({"grants": [], "digest": "sha256:00"}, "changed since"),
    ],
)
async def test_choices_that_do_not_fit_are_one_sentence(
    home: Home, tmp_path: Path, choices: dict[str, Any], says: str
) -> None:
    source = package(tmp_path, "greedy", CODE, EVERYTHING)
    with pytest.raises(InstallRefused, match=says):
        await admin(home, "Add", source=str(source), **choices)
    assert home.plugins.all() == []


@pytest.mark.parametrize(
    "method",
    [
        "eth_sendRawTransactionSync",
        "eth_sendTransaction",
        "eth_sign",
        "admin_peers",
        "wallet_x",
        "l2_invoke",
        "anvil_mine",
    ],
)
async def test_no_method_that_signs_sends_or_administers_can_be_asked_for(
    home: Home, tmp_path: Path, method: str
) -> None:
    source = package(tmp_path, "greedy", CODE, f'[permissions]\nlayer1 = ["{method}"]\n')
    with pytest.raises(InstallRefused, match=method):
        await admin(home, "Inspect", source=str(source))


async def test_a_gateway_is_taken_from_the_owner_for_the_present_chain(home: Home, tmp_path: Path) -> None:
    source = package(tmp_path, "bank", CODE, GATEWAY)
    (source / "a.json").write_text(ABI)
    with pytest.raises(InstallRefused, match="--gateway main:31337=ADDRESS"):
        await admin(home, "Add", source=str(source), grants=["all"])
    for text in ("main:31337=0x" + "22" * 20, "31337=0x" + "22" * 20):
        info = await admin(home, "Add", source=str(source), grants=["all"], gateways=[text])
        assert info["gateways"][0]["address"] == "0x" + "22" * 20
    for text in (
        "x:1=0x" + "22" * 20,
        "main=0x" + "22" * 20,
        "main:0=0x" + "22" * 20,
        "main:1=zz",
        "-1=0x" + "22" * 20,
    ):
        with pytest.raises(InstallRefused, match="--gateway"):
            await admin(home, "Add", source=str(source), grants=["all"], gateways=[text])


@pytest.mark.parametrize("function", ["transfer(address,uint256)", "approve(address,uint256)", "multicall(bytes[])"])
async def test_functions_that_move_other_money_are_refused(home: Home, tmp_path: Path, function: str) -> None:
    source = package(tmp_path, "thief", CODE, GATEWAY.replace("open()", function))
    name, _, types = function.rstrip(")").partition("(")
    inputs = ",".join(f'{{"name": "", "type": "{kind}"}}' for kind in types.split(","))
    (source / "a.json").write_text(f'[{{"type": "function", "name": "{name}", "inputs": [{inputs}]}}]')
    with pytest.raises(InstallRefused, match="could be moved"):
        await admin(home, "Inspect", source=str(source))


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/ws", "wss://10.0.0.1/", "wss://localhost/", "ws://hub.example/ws"])
async def test_private_and_unencrypted_hubs_need_the_owner(home: Home, tmp_path: Path, url: str) -> None:
    source = package(tmp_path, "hubbed", CODE, f'[hub]\nurl = "{url}"\n')
    with pytest.raises(InstallRefused, match="hub"):
        await admin(home, "Add", source=str(source), grants=["all"])


async def test_key_paths_and_ids_are_exclusive_and_stay_bound(home: Home, tmp_path: Path) -> None:
    keys = '[keys]\npath = "m/7002\'/{}"\n'
    await admin(home, "Add", source=str(package(tmp_path, "first", CODE, keys.format("5'/0'"))), grants=["all"])
    for number, path in enumerate(("5'/0'", "5'/0'/1'", "5'/0'/0'")):
        source = package(tmp_path, f"other{number}", CODE, keys.format(path))
        with pytest.raises(InstallRefused, match="overlaps the key path of first"):
            await admin(home, "Add", source=str(source), grants=["all"])
    for number, path in enumerate(("7002'/5'", "44'/60'/0'", "7/0'/0'", "7'/2147483648'/0'", "7'/05'/0'", "7h/5h/0h")):
        source = package(tmp_path, f"odd{number}", CODE, f'[keys]\npath = "m/{path}"\n')
        with pytest.raises(InstallRefused, match=r"keys\.path"):
            await admin(home, "Add", source=str(source), grants=["all"])
    await admin(home, "Remove", id="first")
    assert home.permissions.dropped == ["first"]
    elsewhere = package(tmp_path / "elsewhere", "first", CODE, keys.format("6'/0'"))
    with pytest.raises(InstallRefused, match="bound to"):
        await admin(home, "Add", source=str(elsewhere), grants=["all"])
    twin = package(tmp_path, "twin", CODE, keys.format("5'/0'"))
    with pytest.raises(InstallRefused, match="overlaps"):
        await admin(home, "Add", source=str(twin), grants=["all"])
    # Nor does a version that asks for no keys set free what the versions before may have funds on.
    first = tmp_path / "first" / "plugin.toml"
    first.write_text(first.read_text().replace(keys.format("5'/0'"), ""))
    await admin(home, "Add", source=str(first.parent), grants=["all"])
    with pytest.raises(InstallRefused, match="overlaps"):
        await admin(home, "Add", source=str(twin), grants=["all"])
    await admin(home, "Remove", id="first", deleteStore=True, release=True)
    await admin(home, "Add", source=str(twin), grants=["all"])


async def test_packages_that_hold_what_none_may_hold_are_refused(home: Home, tmp_path: Path) -> None:
    def links(folder: Path) -> None:
        (folder / "link.py").symlink_to("/etc/passwd")

    def folders(folder: Path) -> None:
        (folder / "linked").symlink_to("/etc")

    def devices(folder: Path) -> None:
        os.mkfifo(folder / "pipe")

    def names(folder: Path) -> None:
        (folder / "a\nb.py").write_text("")

    def compiled(folder: Path) -> None:
        (folder / "x.so").write_bytes(b"")

    def starts(folder: Path) -> None:
        (folder / "sitecustomize.py").write_text("")

    def pth(folder: Path) -> None:
        (folder / "x.pth").write_text("import os")

    for number, spoil in enumerate((links, folders, devices, names, compiled, starts, pth)):
        source = package(tmp_path, f"bad{number}", CODE)
        spoil(source)
        with pytest.raises(InstallRefused):
            await admin(home, "Inspect", source=str(source))
    for elsewhere in ("pypi:x==1", "npm:x@1", "relative", "/nowhere/at/all", "/x/y.whl"):
        with pytest.raises(InstallRefused):
            await admin(home, "Inspect", source=elsewhere)


async def test_a_file_changed_afterwards_disables_the_plugin_loudly(home: Home) -> None:
    await home.add(ECHO)
    folder = home.plugins.get("echo").folder  # type: ignore[union-attr]
    await home.close()
    (folder / "echo.py").chmod(0o600)
    (folder / "echo.py").write_text("class Echo: pass")
    home.open()
    await home.plugins.start()
    assert "changed" in home.notices[-1]
    with pytest.raises(PluginUnavailable, match="does not run"):
        await home.invoke_unchecked("echo", "count")
    assert (await admin(home, "List"))[0]["status"] == "disabled"
    await admin(home, "Add", source=str(ECHO), grants=["all"])
    assert await home.invoke("echo", "count") == {"count": "0x1"}


async def test_a_file_changed_while_it_runs_keeps_it_from_starting_again(home: Home) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    folder = home.plugins.get("echo").folder  # type: ignore[union-attr]
    (folder / "echo.py").chmod(0o600)
    (folder / "echo.py").write_text("class Echo: pass")
    with pytest.raises(PluginUnavailable):
        await home.invoke("echo", "fail", ["exit"])
    with pytest.raises(PluginUnavailable, match="disabled"):
        await home.invoke("echo", "count")
    assert "changed after it was installed" in home.notices[-1]
    assert (await admin(home, "List"))[0]["why"] == "its files changed after it was installed"


async def test_a_file_changed_while_it_runs_is_noticed_by_the_next_invoke(home: Home) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    process = home.plugins.status("echo")["pid"]
    code = home.plugins.get("echo").folder / "echo.py"  # type: ignore[union-attr]
    os.utime(code, (1, 1))  # looks otherwise, and is the same
    _looked(home)
    assert await home.invoke("echo", "count") == {"count": "0x2"}
    assert home.plugins.status("echo")["pid"] == process
    code.chmod(0o600)
    code.write_bytes(code.read_bytes() + b"\n")
    _looked(home)
    with pytest.raises(PluginUnavailable, match="disabled"):
        await home.invoke("echo", "count")
    assert "changed after it was installed" in home.notices[-1]
    assert (await admin(home, "List"))[0]["why"] == "its files changed after it was installed"


def _looked(home: Home) -> None:
    """Let the look at the files be due again: it takes a fiftieth of the time at most."""
    home.plugins._hosted["echo"]._files._again = 0.0


async def test_changed_files_are_read_once_for_all_who_ask_and_never_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    hosted, read = home.plugins._hosted["echo"], 0

    def counted(folder: Path, digest: str) -> bool:
        nonlocal read
        read += 1
        return is_as_stored(folder, digest)

    monkeypatch.setattr(tampering, "is_as_stored", counted)
    monkeypatch.setattr(tampering, "SHARE", 0)  # a look is always due
    code = hosted.plugin.folder / "echo.py"
    os.utime(code, (1, 1))
    await asyncio.gather(*(hosted.check_files() for _ in range(5)))
    assert read == 1  # each caller's reading took a thread of those that all plugins have together
    code.chmod(0o600)
    code.write_bytes(code.read_bytes() + b"\n")
    for _ in range(5):
        with pytest.raises(PluginUnavailable):
            await home.invoke("echo", "count")
    assert (await admin(home, "List"))[0]["status"] == "disabled"
    assert read == 2  # what is disabled is read for nobody: any site could have made us


async def test_thousands_of_files_are_looked_at_in_a_thread(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    hosted, looks, threads = home.plugins._hosted["echo"], tampering._looks, set[threading.Thread]()

    def noted(paths: Any) -> Any:
        threads.add(threading.current_thread())
        return looks(paths)

    monkeypatch.setattr(tampering, "_looks", noted)
    monkeypatch.setattr(tampering, "SHARE", 0)
    await hosted.check_files()
    assert threads == {threading.main_thread()}
    threads.clear()
    monkeypatch.setattr(tampering, "MANY", 1)
    await hosted.check_files()
    hosted.notice_changes()
    await hosted.check_files()
    assert threads
    assert threading.main_thread() not in threads


async def test_compiled_code_beside_the_stored_files_disables_the_plugin(home: Home) -> None:
    await home.add(ECHO)
    folder = home.plugins.get("echo").folder  # type: ignore[union-attr]
    await home.close()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "echo.cpython-311.pyc").write_bytes(b"")
    home.open()
    await home.plugins.start()
    assert (await admin(home, "List"))[0]["status"] == "disabled"


async def test_the_store_is_not_deleted_while_money_paid_in_has_not_come_back(home: Home) -> None:
    await home.add(ECHO)
    await home.invoke("echo", "count")
    home.money_inside.add("echo")
    offline = admin_handlers(home.plugins.catalog)["admin_pluginRemove"]
    for release in (False, True):
        with pytest.raises(InstallRefused, match="come back"):
            await admin(home, "Remove", id="echo", deleteStore=True, release=release)
        with pytest.raises(InstallRefused, match="come back"):
            await offline({"id": "echo", "deleteStore": True, "release": release}, CONTEXT)
    assert (await admin(home, "Remove", id="echo"))["store"] == "kept"
    with pytest.raises(InstallRefused, match="come back"):  # nor after it was removed
        await admin(home, "Remove", id="echo", deleteStore=True, release=True)
    await home.add(ECHO)
    assert await home.invoke("echo", "count") == {"count": "0x2"}


async def test_another_digest_is_no_silent_update_and_the_store_is_kept(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in ECHO.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    await home.add(copy)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    (copy / "echo.py").write_text((copy / "echo.py").read_text() + "\n")
    with pytest.raises(InstallRefused, match="another digest"):
        await home.add(copy)
    await admin(home, "Remove", id="echo")
    assert home.plugins.get("echo") is None
    await home.add(copy)
    assert await home.invoke("echo", "count") == {"count": "0x2"}


async def test_set_owner_and_info_and_logs(home: Home) -> None:
    await home.add(ECHO)
    owner = home.keyring.addresses()[0]
    assert (await admin(home, "SetOwner", id="echo", owner=owner.lower()))["owner"] == owner
    await home.invoke("echo", "say", ["x", 1])
    first = await admin(home, "Logs", id="echo")
    assert "the plugin runs" in first["lines"][-1]
    assert (await admin(home, "Logs", id="echo", after=first["cursor"]))["lines"] == []
    home.plugins.catalog.log("echo").stderr("\x1b[31mred\u202e")
    later = await admin(home, "Logs", id="echo", after=first["cursor"])
    assert later["lines"][0].endswith("stderr \\u001b[31mred\\u202e")
    for method in ("Info", "Logs", "Remove"):
        with pytest.raises(Exception, match="installed"):
            await admin(home, method, id="none")


async def test_without_a_daemon_the_same_handlers_work_on_the_catalog(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    handlers = admin_handlers(home.plugins.catalog)
    added = await handlers["admin_pluginAdd"]({"source": str(ECHO), "grants": ["all"]}, CONTEXT)
    assert (added["id"], added["status"]) == ("echo", "stopped")
    assert (await handlers["admin_pluginList"]({}, CONTEXT))[0]["id"] == "echo"
    assert (await handlers["admin_pluginRemove"]({"id": "echo"}, CONTEXT))["store"] == "kept"
    assert digest_of({}) != added["digest"]
    await home.close()
