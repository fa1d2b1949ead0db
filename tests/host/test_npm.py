"""An npm plugin from install to invoke, with a real process: the proposal's interface and each service once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sysconfig
from pathlib import Path
from typing import Any

import msgspec
import pytest

from middleware.errors import InvalidParams, PluginFailed, RpcError
from proxy.host.declarations import declared_by_code, differences
from proxy.host.inspection import check_files
from proxy.host.manifest import Manifest, ManifestError, read_manifest
from proxy.host.package import File
from proxy.host.sources import Source
from proxy.wallet import paths
from tests.host.neighbours import SITE, Home

PROPOSAL = Path(__file__).parent / "plugins" / "proposal"
BOB = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
INJECTED = {
    *("layer1Provider", "layer1BlockTracker", "layer1NetworkId", "layer1OwnerAddress", "localDatabase", "keys"),
    *("gateway", "hub", "state", "schedule", "log"),
}


async def ask(home: Home, what: str) -> Any:
    return json.loads((await home.invoke("proposal", "ask", [what]))["answer"])


async def test_the_proposals_interface_as_it_is_written(home: Home) -> None:
    await home.add(PROPOSAL)
    answer = await home.invoke("proposal", "makePayment", {"toAddress": BOB, "value": str(2**70)})
    assert answer["twice"] == hex(2**71)
    kind, to, origin, has_deadline, chain, owner = json.loads(answer["seen"])
    assert (kind, to.lower(), origin, has_deadline, chain) == ("bigint", BOB.lower(), SITE.name, True, 31337)
    assert len(owner) == 42
    assert await home.invoke("proposal", "requestWithdrawPayment", [BOB, "first"]) == {"before": "nothing"}
    assert await home.invoke("proposal", "requestWithdrawPayment", [BOB, "second"]) == {"before": "first"}
    with pytest.raises(InvalidParams):
        await home.invoke("proposal", "makePayment", [BOB])


async def test_each_service_answers_through_the_object_of_the_constructor(home: Home) -> None:
    await home.add(PROPOSAL)
    assert set(await ask(home, "given")) >= INJECTED
    assert await ask(home, "globals") == []
    assert await ask(home, "sign") is True
    assert await ask(home, "state") == 1
    assert await ask(home, "bytes") == [["a", 2, "object"], ["b", 3, "string"]]
    assert await ask(home, "keys") == ["one", "two", "three"]
    waiting = asyncio.create_task(ask(home, "block"))
    async with asyncio.timeout(60):
        while not waiting.done():
            home.l1.grow()
            await asyncio.wait({waiting}, timeout=0.05)
    assert (await waiting).startswith("0x")


async def test_the_block_tracker_tells_a_block_once_however_many_watches_bring_it(home: Home) -> None:
    await home.add(PROPOSAL)
    await home.invoke("proposal", "ask", ["heads"])
    first = len(home.l1.chain)
    home.l1.grow()
    home.l1.grow()
    told = await _told(home, 6)  # of the tracker's own watch and of two others
    assert told["latest"] == [first, first + 1]
    home.l1.rewind(1)
    home.l1.grow()
    assert (await _told(home, 9))["latest"] == [first, first + 1, first + 1]


async def _told(home: Home, deliveries: int) -> Any:
    async with asyncio.timeout(60):
        while True:
            told = await ask(home, "told")
            if told["onBlock"] >= deliveries:
                return told


async def test_a_state_outlives_the_process_that_published_it(home: Home) -> None:
    await home.add(PROPOSAL)
    await ask(home, "state")
    await home.close()
    home.open()
    await home.plugins.start()
    assert (await home.plugins.get_state("proposal", None, True, SITE))["state"] == {"paid": "0x3"}
    assert await ask(home, "patch") == 2  # the plugin knows the patch alone
    assert (await home.plugins.get_state("proposal", None, True, SITE))["state"] == {"paid": "0x3", "more": "0x4"}


async def test_errors_say_what_the_author_says_and_nothing_of_the_code(home: Home) -> None:
    await home.add(PROPOSAL)
    with pytest.raises(PluginFailed) as own:
        await home.invoke("proposal", "ask", ["mine"])
    assert own.value.to_json()["data"] == {
        "plugin": "proposal",
        "code": 7,
        "message": "no such luck",
        "data": {"spent": False},
    }
    with pytest.raises(PluginFailed, match="the reason is in its log"):
        await home.invoke("proposal", "ask", ["huge"])  # a code that JSON writes as no integer
    with pytest.raises(RpcError) as refused:
        await home.invoke("proposal", "ask", ["refused"])
    assert "eth_sendRawTransaction" in str(refused.value.to_json())
    with pytest.raises(RpcError) as bug:
        await home.invoke("proposal", "ask", ["bug"])
    shown = str(bug.value.to_json())
    assert "data:text" not in shown
    assert "nothing" not in shown
    assert await home.invoke("proposal", "ask", ["print"]) == {"answer": "undefined"}  # and no harm to the channel
    assert await ask(home, "globals") == []


async def test_the_author_reads_where_and_the_site_does_not(home: Home) -> None:
    await home.add(PROPOSAL)
    with pytest.raises(PluginFailed) as wrong:
        await home.invoke("proposal", "ask", ["wrong"])
    assert (
        wrong.value.data["message"] == "what ask returned is not what it declares: see `l2proxy plugin logs proposal`"
    )
    log = home.plugins.catalog.log("proposal")
    assert "host what ask returned is not what it declares: parameter result.answer: expected string" in "".join(
        log.read()[0]
    )
    with contextlib.suppress(RpcError):  # the process may end before it has answered
        await home.invoke("proposal", "ask", ["unawaited"])
    async with asyncio.timeout(60):
        while "exited" not in (said := "\n".join(log.read()[0])):  # noqa: ASYNC110 - nobody is told that a process has ended
            await asyncio.sleep(0.01)
    (line,) = (row for row in Path(PROPOSAL, "proposal.js").read_text().splitlines() if "unawaited" in row)
    number = Path(PROPOSAL, "proposal.js").read_text().splitlines().index(line) + 1
    assert "HostError: parameter params.put" in said
    assert f"(plugin:{number}:" in said
    assert "l2proxy:" not in said


async def test_the_code_declares_what_the_manifest_does() -> None:
    manifest = read_manifest(PROPOSAL)
    coded = await declared_by_code(PROPOSAL, manifest)
    assert [action.name for action in coded] == ["makePayment", "requestWithdrawPayment", "ask"]
    assert coded[0].params[1].type == "uint256"
    assert all("is not" not in line for line in differences(manifest, coded) if "params" in line)


def test_what_cannot_run_is_refused_before_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(PROPOSAL)
    source = Source("directory", str(PROPOSAL))

    def check(*names: str, manifest: Manifest = manifest) -> None:
        check_files(source, manifest, [File(name, b"") for name in names], paths, lambda _: True)

    with pytest.raises(ManifestError, match="is no ES module"):
        check("plugin.toml")
    unbundled = msgspec.structs.replace(manifest, dependencies="npm-shrinkwrap.json")
    with pytest.raises(ManifestError, match="this is not bundled"):
        check("plugin.toml", "proposal.js", manifest=unbundled)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nonexistent")
    with pytest.raises(ManifestError, match="need deno, and this system has none"):
        check("plugin.toml", "proposal.js")
