"""An npm plugin with a lock through its life: installed from an index, run, updated, rolled back, changed by a stranger."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from middleware.waist import OWNER, Context
from proxy.cli.plugin import plugin
from proxy.cli.plugin_shown import shown
from proxy.host.choices import InstallRefused
from proxy.methods.plugin_administration import admin_handlers
from tests.host.free_bundler import bundled_freely
from tests.host.neighbours import Home, new_keyring
from tests.host.test_archives import tarred
from tests.host.test_sources import Index, sha512

MANIFEST = """id = "demo"
name = "Demo"
version = "{version}"
runtime = "npm"
entry = "main.mjs"
dependencies = "npm-shrinkwrap.json"

[[action]]
name = "say"
returns = [{{ name = "said", type = "string" }}]
approval = "never"
"""
CODE = """
import { greeting } from "greeter";
import EventEmitter from "events";
export default class {
  constructor() {
    const said = [];
    const emitter = new EventEmitter().on("x", (word) => said.push(word));
    emitter.emit("x", greeting);
    this.layer2Interface = { actions: [{ name: "say", call: () => ({ said: said.join() }), params: [] }] };
  }
}
"""
ELSEWHERE = "http://127.0.0.1:1/stolen.tgz"  # what a lock may say of an address is never asked


class Life:
    """A host, an index that has two versions of one dependency, and a plugin's folder that is locked to one of them."""

    def __init__(self, home: Home, index: Index, source: Path, bundler_cache: Path) -> None:
        self.home, self.index, self.source, self.bundler_cache = home, index, source, bundler_cache
        for version in ("1.0.0", "2.0.0"):
            self.index.files[f"greeter-{version}.tgz"] = tarred(
                (
                    "package/package.json",
                    b'{"name": "greeter", "exports": {"require": "./i.cjs", "default": "./i.cjs"}}',
                ),
                (
                    "package/i.cjs",
                    f"const e = require('events'); exports.greeting = `{version} ${{typeof e}}`;".encode(),
                ),
            )

    def write(self, version: str, data: bytes | None = None) -> None:
        """Write the plugin at this version, locked to the dependency of the same."""
        self.source.mkdir(exist_ok=True)
        locked = self.index.files[f"greeter-{version}.tgz"] if data is None else data
        row = {"version": version, "integrity": sha512(locked), "resolved": ELSEWHERE}
        lock = {"lockfileVersion": 3, "packages": {"": {}, "node_modules/greeter": row}}
        (self.source / "plugin.toml").write_text(MANIFEST.format(version=version))
        (self.source / "main.mjs").write_text(CODE)
        (self.source / "npm-shrinkwrap.json").write_text(json.dumps(lock))

    async def admin(self, method: str, **params: Any) -> Any:
        plugins = self.home.plugins
        handler = admin_handlers(plugins.catalog, plugins)[f"admin_plugin{method}"]
        shown = await handler({"id": "demo", **params}, Context(OWNER))
        return await handler({"id": "demo", **params, "digest": shown["digest"]}, Context(OWNER))

    async def said(self) -> str:
        answer = await self.home.invoke("demo", "say", [])
        return str(answer["said"])


@pytest.fixture
async def life(tmp_path: Path, bundler_cache: Path) -> AsyncIterator[Life]:
    index = Index()
    async with TestServer(index.app()) as server:
        home = Home(tmp_path / "data", new_keyring(tmp_path), index=str(server.make_url("/")), cache=bundler_cache)
        home.open()
        await home.plugins.start()
        yield Life(home, index, tmp_path / "source", bundler_cache)
        await home.close()


async def test_a_bundle_is_installed_updated_rolled_back_and_disabled_like_any_plugin(life: Life) -> None:
    life.write("1.0.0")
    first = await life.home.add(life.source)
    assert await life.said() == "1.0.0 function"
    life.write("2.0.0")
    seen = (await life.home.plugins.catalog.installer.inspect(str(life.source))).to_json()
    assert seen["bundle"]["packages"] == ["greeter@2.0.0"]
    assert "  bundled  by esbuild 0.28.2 from greeter@2.0.0" in shown(seen, None, None, ()).splitlines()
    await life.admin("Update", grants=[])
    assert await life.said() == "2.0.0 function"
    second = life.home.plugins.get("demo")
    assert second is not None
    assert second.digest != first.digest
    assert json.loads((second.folder / "bundle.json").read_bytes())["packages"][0].startswith("greeter@2.0.0 sha512-")
    await life.admin("Rollback")
    assert await life.said() == "1.0.0 function"
    catalog = life.home.plugins.catalog
    folder = catalog.registry.load(catalog.registry.get("demo"), 1).folder  # type: ignore[arg-type]
    (folder / "main.mjs").chmod(0o600)
    (folder / "main.mjs").write_bytes((folder / "main.mjs").read_bytes() + b" ")
    await life.home.plugins.rehost("demo")
    changed = life.home.plugins.get("demo")
    assert changed is not None
    assert not changed.enabled


async def test_a_pack_is_the_same_bytes_twice_and_needs_neither_lock_nor_index(life: Life, tmp_path: Path) -> None:
    life.write("1.0.0")
    data = tmp_path / "author"
    shutil.copytree(life.bundler_cache, data / "cache")
    (data / "config.toml").write_text(f'[plugins]\nnpm = "{life.home.index}"\n')
    packs = [tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"]
    for file in packs:
        asked = ["pack", str(life.source), "--output", str(file), "--data", str(data), "--json"]
        ran = await asyncio.to_thread(CliRunner().invoke, plugin, asked)
        assert ran.exit_code == 0, ran.output
    assert packs[0].read_bytes() == packs[1].read_bytes()
    life.index.files.clear()
    source = f"{packs[0]}#sha256={json.loads(ran.output)['sha256']}"
    inspected = await life.home.plugins.catalog.installer.inspect(source)
    assert inspected.manifest.dependencies is None
    assert inspected.to_json()["bundle"] is None  # what the archive says of its making is its author's word
    await life.home.add(Path(source))
    assert await life.said() == "1.0.0 function"


async def test_only_what_the_lock_names_by_digest_is_taken(life: Life, tmp_path: Path, bundler_cache: Path) -> None:
    life.write("1.0.0", b"another tarball")
    with pytest.raises(InstallRefused, match="which is not the one that is asked for"):
        await life.home.add(life.source)
    owner = tmp_path / "key.js"
    owner.write_text('export const greeting = "a key of the owner";')
    linked = tmp_path / "linked"
    (linked / "node_modules").mkdir(parents=True)
    (linked / "node_modules" / "greeter.js").symlink_to(owner)
    code = {"main.js": b'import { greeting } from "./node_modules/greeter.js"; console.log(greeting);'}
    assert "a key of the owner" in bundled_freely(bundler_cache, linked, code)

    def link(row: Any) -> None:
        if row.name.endswith("i.cjs"):
            row.type, row.linkname, row.size = b"2", str(owner), 0

    life.index.files["greeter-1.0.0.tgz"] = tarred(
        ("package/package.json", b'{"name": "greeter", "main": "i.cjs"}'), ("package/i.cjs", b""), change=link
    )
    life.write("1.0.0")
    with pytest.raises(InstallRefused, match="is a link or a device"):
        await life.home.add(life.source)
    (life.source / "part.js").symlink_to(owner)
    with pytest.raises(InstallRefused, match="is a link"):
        await life.home.add(life.source)
