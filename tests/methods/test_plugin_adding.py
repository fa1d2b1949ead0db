"""`l2_addPlugin` and `rpc.discover`: what a site can start, and what it can learn."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from middleware.errors import InvalidParams, Refused
from middleware.methods import OWN, MethodTable
from middleware.waist import ANONYMOUS, Context
from proxy.methods import discovery, plugin_adding
from tests.host.neighbours import ECHO, OTHER, SITE, Home, new_keyring
from tests.host.test_sources import MANIFEST, Index, sha256, wheel

NAME = "demo-1.0-py3-none-any.whl"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[tuple[Home, Index]]:
    """A running host and the index it asks."""
    index = Index()
    async with TestServer(index.app()) as server:
        home = Home(tmp_path / "data", new_keyring(tmp_path), index=str(server.make_url("/")))
        home.open()
        await home.plugins.start()
        yield home, index
        await home.close()


def packed(more: bytes = b"", code: bytes = b"from l2proxy_sdk import Plugin\nclass Main(Plugin): ...\n") -> bytes:
    return wheel("demo", ("demo/plugin.toml", MANIFEST + more), ("demo/main.py", code), ("demo/__init__.py", b""))


async def ask(home: Home, data: bytes, source: str = "pypi:demo==1.0") -> Any:
    handler = plugin_adding.handlers(home.plugins, home.approvals)["l2_addPlugin"]
    return await handler([{"source": source, "integrity": f"sha256:{sha256(data)}"}], Context(SITE))


async def test_two_questions_and_what_must_be_named_is_not_granted(shop: tuple[Home, Index]) -> None:
    home, index = shop
    data = packed(
        b'description = "good\\u00a0deed '
        + b"x" * 100
        + b"\"\n[keys]\npath = \"m/7002'/8'/0'\"\nexport = true\n[permissions]\ntransfer = true\n"
    )
    index.files[NAME] = data
    with pytest.raises(Refused):
        await ask(home, data)
    index.files[NAME] = data = packed(
        b"[keys]\npath = \"m/7002'/8'/0'\"\nexport = true\n[permissions]\ntransfer = true\n"
    )
    home.approvals.asked.clear()
    assert await ask(home, data) == "demo"
    look, install = home.approvals.asked
    assert look.details == {"source": f"pypi:demo==1.0#sha256={sha256(data)}"}
    assert (look.kind, install.kind, install.facts.always_ask) == ("plugin", "plugin", True)
    assert install.quoted == {"name": "Demo", "description": ""}
    assert install.details["grants"] == ["store", "keys"]
    plugin = home.plugins.get("demo")
    assert plugin is not None
    assert plugin.grants == {"store", "keys"}
    home.approvals.asked.clear()
    assert await ask(home, data) == "demo"  # installed or not: the same questions
    assert [question.summary for question in home.approvals.asked] == [look.summary, install.summary]
    index.files[NAME] = changed = packed(code=b"# other\n")
    with pytest.raises(Refused, match="was not added"):
        await ask(home, changed)
    assert home.plugins.get("demo").digest == plugin.digest  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [rb"Safe\u202e\u2066 ngrove", rb"Safe\u0085", rb"Safe \u200fx", rb"Safe\u001b[2J"])
async def test_a_name_of_a_stranger_is_short_and_turns_nothing_around(shop: tuple[Home, Index], text: bytes) -> None:
    home, index = shop
    code = (("demo/main.py", b"from l2proxy_sdk import Plugin\nclass Main(Plugin): ...\n"), ("demo/__init__.py", b""))
    bad = wheel("demo", ("demo/plugin.toml", MANIFEST.replace(b"Demo", text)), *code)
    index.files[NAME] = bad
    with pytest.raises(Refused, match="was not added"):
        await ask(home, bad)
    assert len(home.approvals.asked) == 1, "it is shown to nobody"
    long = wheel("demo", ("demo/plugin.toml", MANIFEST + b'description = "' + b"x" * 400 + b'"\n'), *code)
    index.files[NAME] = long
    await ask(home, long)
    assert home.approvals.asked[2].quoted == {"name": "Demo", "description": "x" * 64}


async def test_nothing_is_fetched_before_a_yes_and_every_failure_is_one(shop: tuple[Home, Index]) -> None:
    home, index = shop
    home.approvals.answer = Refused("no")
    with pytest.raises(Refused, match=r"^no$"):
        await ask(home, packed())
    home.approvals.answer = None
    for files, source in (({}, "pypi:demo==1.0"), ({NAME: b"other"}, "pypi:demo==1.0"), ({}, "npm:demo@1.0.0")):
        index.files = dict(files)
        with pytest.raises(Refused, match=r"^the plugin was not added$") as refused:
            await ask(home, packed(), source)
        assert refused.value.code == 4001
    assert home.plugins.all() == []


@pytest.mark.parametrize(
    "params",
    [
        [],
        [{}],
        ["pypi:demo==1.0"],
        [{"source": "pypi:demo==1.0"}],
        [{"source": "pypi:demo", "integrity": "sha256:" + "0" * 64}],
        [{"source": "/etc", "integrity": "sha256:" + "0" * 64}],
        [{"source": "pypi:demo==1.0#sha256=" + "1" * 64, "integrity": "sha256:" + "0" * 64}],
        [{"source": "npm:demo@latest", "integrity": "sha256:" + "0" * 64}],
        [{"source": "pypi:demo==1.0", "integrity": "sha512-xx"}],
        [{"source": "pypi:demo==1.0", "integrity": "sha256-00"}],
        [{"source": "pypi:demo==1.0", "integrity": 5}],
        [{"source": "pypi:demo==1.0", "integrity": "sha256:" + "0" * 64, "grant": "all"}],
    ],
)
async def test_what_is_no_exact_version_asks_nobody(shop: tuple[Home, Index], params: Any) -> None:
    home, _ = shop
    handler = plugin_adding.handlers(home.plugins, home.approvals)["l2_addPlugin"]
    with pytest.raises(InvalidParams):
        await handler(params, Context(SITE))
    assert home.approvals.asked == []


def openrpc() -> Draft7Validator:
    """Return the validator of OpenRPC documents; what they hold as JSON Schemas is held to draft 7."""
    draft7 = Resource.from_contents(Draft7Validator.META_SCHEMA, DRAFT7)
    registry: Registry[Any] = Registry(retrieve=lambda _: draft7)  # type: ignore[call-arg]  # as its documentation has it
    return Draft7Validator(json.loads((Path(__file__).parent / "openrpc-1.3.2.json").read_text()), registry=registry)


def test_every_method_of_the_table_is_described() -> None:
    assert discovery.described() >= set(OWN)


async def test_discovery_tells_each_what_it_may_call(shop: tuple[Home, Index]) -> None:
    home, _ = shop
    await home.add(ECHO)
    home.permissions.connected[str(SITE)] = frozenset({"echo"})
    home.permissions.refused |= {(str(SITE), "echo", name) for name in ("fail", "ask")}
    home.permissions.refused |= {(str(OTHER), "echo", action.name) for action in home.plugins.all()[0].manifest.action}
    discover = discovery.handlers(home.plugins.all, home.permissions, MethodTable())["rpc.discover"]
    document = await discover([], Context(SITE))
    methods = {row["name"]: row for row in document["methods"]}
    assert (document["openrpc"], len(methods)) == ("1.3.2", len(document["methods"]))
    assert list(openrpc().iter_errors(document)) == []
    assert [row["name"] for row in methods["eth_call"]["params"]] == ["transaction", "block", "overrides"]
    assert methods["eth_subscribe"]["paramStructure"] == "by-position"
    assert "paramStructure" not in methods["l2_getState"]
    assert "eth_sendTransaction" not in methods  # it may see no account
    actions = {row["action"]: row for row in methods["l2_invoke"]["x-actions"]}
    assert set(actions) == {"say", "count", "wait", "late"}
    assert actions["say"]["params"][1] == {
        "name": "number",
        "required": True,
        "schema": {"type": "string", "x-abi-type": "uint256"},
    }
    assert actions["say"]["result"]["schema"]["required"] == ["text", "number"]
    assert actions["wait"]["result"]["schema"] == {"type": "null"}
    other = {row["name"] for row in (await discover([], Context(OTHER)))["methods"]}
    assert not {"l2_invoke", "l2_getState"} & other
    nobody = {row["name"] for row in (await discover([], Context(ANONYMOUS)))["methods"]}
    assert {"eth_call", "rpc.discover"} <= nobody
    assert not {"eth_requestAccounts", "l2_plugins", "l2_invoke"} & nobody
    with pytest.raises(InvalidParams):
        await discover([1], Context(SITE))
