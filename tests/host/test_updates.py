"""Update and rollback: the store is kept, nothing new is granted, and a power cut leaves one version or the other whole."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import PluginUnavailable, RpcError
from middleware.waist import OWNER, Context
from proxy.host.choices import InstallRefused
from proxy.host.exchanges import Exchanges
from proxy.host.freshness import Freshness
from proxy.host.manifest import parse_manifest
from proxy.host.registry import Registry
from proxy.host.updates import changed_actions, difference
from proxy.methods.plugin_administration import admin_handlers
from tests.host.neighbours import ECHO, Home, new_keyring, package

CONTEXT = Context(OWNER)
HEAD = 'id = "demo"\nname = "Demo"\nversion = "{}"\nruntime = "python"\nentry = "code_of:Main"\n'
ACTION = '[[action]]\nname = "pay"\nparams = [{ name = "value", type = "uint256" }]\n'
SPENDS = 'spends = { param = "value", asset = "ETH" }\n'
GATEWAY = '[[gateway]]\nchain = 1\naddress = "0x00000000000000000000000000000000000000aa"\nabi = "a.json"\ndeposit = ["open()"]\n'


async def admin(home: Home, method: str, **params: Any) -> Any:
    return await admin_handlers(home.plugins.catalog, home.plugins)[f"admin_plugin{method}"](params, CONTEXT)


async def offline(home: Home, method: str, **params: Any) -> Any:
    return await admin_handlers(home.plugins.catalog)[f"admin_plugin{method}"](params, CONTEXT)


def write(source: Path, version: str, more: str = "") -> None:
    (source / "plugin.toml").write_text(HEAD.format(version) + more)


@pytest.mark.parametrize(
    ("old", "new", "again", "says"),
    [
        ("", "[keys]\npath = \"m/7002'/9'\"\n", {"keys"}, "asks for keys"),
        ('[hub]\nurl = "wss://a.example"\n', '[hub]\nurl = "wss://b.example"\n', {"hub"}, "is wss://b.example"),
        (
            '[permissions]\nlayer1 = ["eth_call"]\n',
            '[permissions]\nlayer1 = ["eth_call", "eth_getLogs"]\n',
            {"layer1"},
            "eth_getLogs",
        ),
        ('[permissions]\nlayer1 = ["eth_call", "eth_getLogs"]\n', '[permissions]\nlayer1 = ["eth_call"]\n', set(), ""),
        ("[permissions]\nstore_bytes = 5\n", "[permissions]\nstore_bytes = 6\n", {"store"}, "store_bytes was 5"),
        ("[permissions]\nstore_bytes = 6\n", "[permissions]\nstore_bytes = 5\n", set(), "is 5"),
        (GATEWAY, GATEWAY.replace("aa", "ab"), {"gateway"}, "address was"),
        (GATEWAY, GATEWAY.replace('"open()"', '"open()", "shut()"'), {"gateway"}, "deposit was open\\(\\)"),
        (GATEWAY, GATEWAY + 'max_value = "1"\n', {"gateway"}, "max_value"),
        (GATEWAY, "", set(), "gateway main on chain 1 is gone"),
        ("", "[permissions]\ntransfer = true\n", {"transfer"}, "asks for transfer"),
    ],
)
def test_what_means_more_than_before_is_asked_again(old: str, new: str, again: set[str], says: str) -> None:
    import re

    found = difference(
        parse_manifest(HEAD.format(1).encode() + old.encode()),
        parse_manifest(HEAD.format(2).encode() + new.encode()),
        overridden=False,
    )
    assert found.asks_again == again
    assert re.search(says, "; ".join(found.sentences))


@pytest.mark.parametrize(
    ("new", "changed"),
    [
        (ACTION, False),
        (ACTION + 'description = "Other words."\n', False),
        (ACTION + SPENDS, True),
        (ACTION + 'approval = "always"\n', True),
        (ACTION.replace("uint256", "uint64"), True),
        (ACTION.replace('"value"', '"amount"'), True),
        ("", True),
    ],
)
def test_actions_that_are_called_paid_or_approved_differently(new: str, changed: bool) -> None:
    old = parse_manifest((HEAD.format(1) + ACTION).encode())
    assert changed_actions(old, parse_manifest((HEAD.format(2) + new).encode())) == (("pay",) if changed else ())


async def test_an_update_keeps_the_store_and_a_rollback_takes_the_code_alone_or_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved: list[Any] = []
    prove = Freshness.prove

    async def watched(self: Freshness, *arguments: Any) -> None:
        proved.append(self.restored)
        await prove(self, *arguments)

    monkeypatch.setattr(Freshness, "prove", watched)
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    source = tmp_path / "echo"
    shutil.copytree(ECHO, source, ignore=shutil.ignore_patterns("__pycache__"))
    await home.add(source)
    assert await home.invoke("echo", "count") == {"count": "0x1"}
    text = (source / "plugin.toml").read_text().replace('"1.0.0"', '"2.0.0"')
    (source / "plugin.toml").write_text(text.replace('"eth_blockNumber"]', '"eth_blockNumber", "eth_getLogs"]'))
    await admin(home, "SetCap", id="echo", asset="ETH", amount="7")
    shown = await admin(home, "Update", id="echo", grants=[])
    assert (shown["asksAgain"], "layer1" in shown["grants"]) == (["layer1"], False)
    assert home.plugins.get("echo").version == "1.0.0"  # type: ignore[union-attr]
    with pytest.raises(InstallRefused, match="changed since"):
        await admin(home, "Update", id="echo", grants=[], digest="sha256:00")
    info = await admin(home, "Update", id="echo", grants=[], digest=shown["digest"])
    assert (info["version"], info["refused"], info["before"]["snapshot"]) == ("2.0.0", ["layer1"], True)
    assert info["caps"] == {"ETH": "7"}
    assert await home.invoke("echo", "count") == {"count": "0x2"}
    with pytest.raises(InstallRefused, match="nothing to update"):
        await admin(home, "Update", id="echo", grants=[])

    back = await admin(home, "Rollback", id="echo")
    info = await admin(home, "Rollback", id="echo", digest=back["digest"])
    assert (info["version"], info["grants"]) == ("1.0.0", ["store", "keys"])  # of then and now
    assert await home.invoke("echo", "count") == {"count": "0x3"}
    there = await admin(home, "Rollback", id="echo", store=True)
    await admin(home, "Rollback", id="echo", store=True, digest=there["digest"])
    assert await home.invoke("echo", "count") == {"count": "0x3"}  # the snapshot taken at the rollback: two
    assert proved[1:3] == [False, False]
    assert proved[3]["expectedCounter"] > proved[3]["storeCounter"]  # own keys were frozen until it said `ready`
    assert len(list(home.plugins.catalog.registry.folder("echo").glob("store.replaced.*"))) == 1
    events = [event["event"] for event in home.audit.events]
    assert info["caps"] == {"ETH": "7"}
    assert events == ["plugin_add", "plugin_set_cap", "plugin_update", "plugin_rollback", "plugin_rollback"]
    assert home.operations.exchanges == ["echo"] * 3  # what was approved for the other version is asked again
    assert [bool(why) for _, why in home.operations.looks[1:]] == [False, False, True]
    await home.close()


async def test_what_cannot_be_updated_or_rolled_back(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    source, other = package(tmp_path, "demo", ""), package(tmp_path, "other", "")
    with pytest.raises(RpcError, match="no plugin 'demo' is installed"):
        await offline(home, "Update", id="demo", grants=[])
    with pytest.raises(RpcError, match="no plugin 'demo' is installed"):
        await offline(home, "Rollback", id="demo")
    await offline(home, "Add", source=str(source), grants=["all"])
    with pytest.raises(InstallRefused, match="no version before"):
        await offline(home, "Rollback", id="demo")
    with pytest.raises(InstallRefused, match="that is the plugin other"):
        await offline(home, "Update", id="demo", source=str(other), grants=[])
    elsewhere = package(tmp_path / "elsewhere", "demo", "# other\n")
    with pytest.raises(InstallRefused, match="bound to"):
        await offline(home, "Update", id="demo", source=str(elsewhere), grants=[])
    write(source, "2", ACTION)
    shown = await offline(home, "Update", id="demo", grants=[])
    await offline(home, "Update", id="demo", grants=[], digest=shown["digest"])
    with pytest.raises(InstallRefused, match="no snapshot"):
        await offline(home, "Rollback", id="demo", store=True)
    write(source, "3", ACTION + SPENDS)
    shown = await offline(home, "Update", id="demo", grants=[])
    assert shown["changedActions"] == ["pay"]
    await offline(home, "Update", id="demo", grants=[], digest=shown["digest"])
    assert home.permissions.dropped == ["demo.pay"]
    registry = home.plugins.catalog.registry
    assert len(list((registry.folder("demo") / "code").iterdir())) == 2  # this one and the one before
    before = registry.get("demo").former.digest  # type: ignore[union-attr]
    (registry.folder("demo") / "code" / before.removeprefix("sha256:") / "new.py").write_text("")
    with pytest.raises(InstallRefused, match="changed after"):
        await offline(home, "Rollback", id="demo")
    (registry.load(registry.get("demo"), 1).folder / "new.py").write_text("")  # type: ignore[arg-type]
    write(source, "4")
    with pytest.raises(InstallRefused, match="nothing can be compared"):
        await offline(home, "Update", id="demo", grants=[])
    await home.close()


class Cut(BaseException):
    """The power is gone."""


def cuts(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[int]:
    """Cut before the step `at` of all that reach the disk; yield how many there were."""
    count = 0

    def step(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Cut
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", step(Path.rename))
        patch.setattr(Registry, "put", step(Registry.put))
        patch.setattr(Exchanges, "_drop", step(Exchanges._drop))
        patch.setattr(Exchanges, "_prune", step(Exchanges._prune))
        patch.setattr("proxy.host.exchanges.sync_directory", step(lambda _: None))
        yield count


@pytest.mark.parametrize("what", ["update", "rollback", "rollback with the store"])
async def test_a_power_cut_at_any_step_leaves_one_version_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    keyring = new_keyring(tmp_path)
    done = False
    at = 0
    while not done:
        at += 1
        home = Home(tmp_path / f"data{at}", keyring)
        home.open()
        source = package(tmp_path / str(at), "demo", "")
        await offline(home, "Add", source=str(source), grants=["all"])
        store = home.plugins.catalog.store_folder("demo")
        store.mkdir(parents=True)
        (store / "data").write_text("first")
        write(source, "2", ACTION)
        if what != "update":
            shown = await offline(home, "Update", id="demo", grants=[])
            await offline(home, "Update", id="demo", grants=[], digest=shown["digest"])
            (store / "data").write_text("second")
        method = "Update" if what == "update" else "Rollback"
        asked: dict[str, Any] = {"id": "demo", "store": what != "rollback"}
        if what == "update":
            asked = {"id": "demo", "grants": []}
        shown = await offline(home, method, **asked)
        steps = cuts(monkeypatch, at)
        next(steps)
        try:
            await offline(home, method, **asked, digest=shown["digest"])
            done = True
        except Cut:
            done = False
        finally:
            steps.close()  # type: ignore[attr-defined]
        await home.close()
        home.open()  # the next start
        (row,) = await offline(home, "List")
        assert row["status"] == "stopped"  # whole: as it was digested
        assert row["version"] in ("1", "2")
        new = row["version"] == ("2" if what == "update" else "1")
        content = (store / "data").read_text()
        before = "first" if what == "update" else "second"
        assert content == ("first" if new and what == "rollback with the store" else before)
        if content != before:
            (kept,) = store.parent.glob("store.replaced.*")
            assert (kept / "data").read_text() == "second"  # nothing of the owner's is ever lost
        assert home.plugins.catalog.registry.get("demo").replaced == ""  # type: ignore[union-attr]
        assert new or not done
        await home.close()
    assert at > 4


OPERATION = {"plugin": "busy", "kind": "deposit", "status": "done", "steps": []}
WORKING = """
import asyncio
from l2proxy_sdk import Plugin, String, action
from typing import TypedDict
class Heard(TypedDict):
    heard: String
class Main(Plugin):
    async def start(self, info):
        self.go = asyncio.Event()
        await self.ready()
    async def on_operation(self, operation):
        await self.store.put(operation.id, "heard")
        self.go.set()
    @action(approval="never")
    async def work(self) -> Heard:
        await self.go.wait()
        return await self.heard()
    @action(approval="never")
    async def heard(self) -> Heard:
        return {"heard": " ".join([key for key, _ in await self.store.scan()])}
"""
HEARD = 'returns = [{ name = "heard", type = "string" }]\napproval = "never"\n'
WORKING_MANIFEST = f'[[action]]\nname = "work"\n{HEARD}[[action]]\nname = "heard"\n{HEARD}'


async def test_what_runs_is_finished_what_comes_is_too_early_and_no_operation_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "proxy.host.plugins.FINISHING_SECONDS", 60.0
    )  # what runs goes on over four turns of two processes
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    await home.add(package(tmp_path, "busy", WORKING, WORKING_MANIFEST))
    assert await home.invoke("busy", "heard") == {"heard": ""}
    running = asyncio.create_task(home.invoke("busy", "work"))
    async with asyncio.timeout(60):
        while home.plugins.status("busy")["queue"] == 0:  # noqa: ASYNC110 - nobody is told that a call runs
            await asyncio.sleep(0.01)

    async def change() -> None:
        assert [(plugin.id, home.plugins.status(plugin.id)["status"]) for plugin in home.plugins.all()] == [
            ("busy", "stopping")
        ]
        home.operations.change("busy", OPERATION | {"id": "while"})

    exchanged = asyncio.create_task(home.plugins.exchange("busy", change))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(PluginUnavailable, match="being exchanged") as early:
        await home.invoke("busy", "heard")
    assert "outcome" not in early.value.data
    home.operations.change("busy", OPERATION | {"id": "before"})
    assert await running == {"heard": "before"}
    await exchanged
    async with asyncio.timeout(60):
        while await home.invoke("busy", "heard") != {"heard": "before while"}:  # noqa: ASYNC110 - the hook runs beside it
            await asyncio.sleep(0.01)
    await home.close()
