"""Sources: archives, a PyPI and an npm index on loopback; by exact version and digest, and nothing else is taken."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.host.archives import unpack
from proxy.host.indexes import Indexes
from proxy.host.locks import read_requirements, read_shrinkwrap
from proxy.host.manifest import ManifestError
from proxy.host.sources import parse_source, read_source
from tests.host.test_archives import tarred, zipped

MANIFEST = b'id = "demo"\nname = "Demo"\nversion = "1"\nruntime = "python"\nentry = "demo.main:Main"\n'
NPM_MANIFEST = MANIFEST.replace(b'"python"', b'"npm"').replace(b"demo.main:Main", b"main.js")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha512(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def wheel(name: str, *rows: tuple[str, bytes], pure: str = "true") -> bytes:
    info = f"{name}-1.0.dist-info"
    return zipped(*rows, (f"{info}/WHEEL", f"Root-Is-Purelib: {pure}\n".encode()), (f"{info}/RECORD", b"x"))


class Index:
    """Both indexes, in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.said: dict[str, str] = {}  # file name: another digest than the true one
        self.html = False
        self.fetched: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/simple/{name}/", self._simple)
        app.router.add_get("/{name:(@[^/]+/)?[^/]+}/-/{file}", self._file)
        app.router.add_get("/files/{file}", self._file)
        app.router.add_get("/{name:(@[^/]+/)?[^/@]+}/{version}", self._npm)
        return app

    async def _simple(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        rows = {
            file: data for file, data in self.files.items() if file.lower().replace("_", "-").startswith(name + "-")
        }
        if not rows:
            raise web.HTTPNotFound
        hashes = {file: self.said.get(file, sha256(data)) for file, data in rows.items()}
        if self.html:
            links = "".join(f'<a href="../../files/{file}#sha256={hashes[file]}">{file}</a>' for file in rows)
            return web.Response(text=f"<!doctype html>{links}", content_type="text/html")
        files = [{"filename": file, "url": f"/files/{file}", "hashes": {"sha256": hashes[file]}} for file in rows]
        return web.Response(text=json.dumps({"files": files}), content_type="application/vnd.pypi.simple.v1+json")

    async def _npm(self, request: web.Request) -> web.Response:
        name, version = request.match_info["name"], request.match_info["version"]
        file = f"{name.rpartition('/')[2]}-{version}.tgz"
        if file not in self.files:
            raise web.HTTPNotFound
        url = str(request.url.with_path(f"/{name}/-/{file}"))
        dist = {"tarball": url, "integrity": self.said.get(file, sha512(self.files[file]))}
        return web.json_response({"name": name, "version": version, "dist": dist})

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.match_info["file"])
        return web.Response(body=self.files[request.match_info["file"]])


@pytest.fixture
async def index(bundler_cache: Path) -> AsyncIterator[tuple[Index, Indexes]]:
    found = Index()
    async with TestServer(found.app()) as server:
        url = str(server.make_url("/"))
        yield found, Indexes(url, url, bundler_cache)


async def names(source: str, indexes: Indexes) -> list[str]:
    return [file.name for file in (await read_source(parse_source(source), indexes))[1]]


@pytest.mark.parametrize("html", [False, True])
async def test_a_wheel_with_the_pure_wheels_of_its_lock(index: tuple[Index, Indexes], html: bool) -> None:
    files, indexes = index
    files.html = html
    dependency = wheel("six_ish", ("six_ish.py", b"x = 1\n"))
    lock = f"# made by a tool\nSix.Ish==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{sha256(dependency)}\nl2proxy-sdk==0.1.0 --hash=sha256:{'1' * 64}\n"
    manifest = MANIFEST + b'dependencies = "requirements.lock"\n'
    plugin = wheel(
        "demo", ("demo/plugin.toml", manifest), ("demo/main.py", b""), ("demo/requirements.lock", lock.encode())
    )
    files.files = {
        "demo-1.0-py3-none-any.whl": plugin,
        "six_ish-1.0-py3-none-any.whl": dependency,
        "six_ish-1.0-cp311-cp311-linux_x86_64.whl": b"never looked at",
    }
    found = await names("pypi:Demo==1.0", indexes)
    assert {"plugin.toml", "requirements.lock", "demo/main.py", "six_ish.py"} <= set(found)
    assert not [name for name in found if name.endswith("RECORD")]
    assert await names(f"pypi:demo==1.0#sha256={sha256(plugin)}", indexes) == found
    with pytest.raises(ManifestError, match="no pure wheel of the index has the sha256"):
        await names(f"pypi:demo==1.0#sha256={'2' * 64}", indexes)
    files.files["six_ish-1.0-py3-none-any.whl"] += b"changed"
    files.said["six_ish-1.0-py3-none-any.whl"] = sha256(dependency)
    with pytest.raises(ManifestError, match="which is not the one"):
        await names("pypi:demo==1.0", indexes)


async def test_what_an_index_may_not_give(index: tuple[Index, Indexes]) -> None:
    files, indexes = index
    for file, data, says in (
        (None, b"", "the index has no demo==1.0"),
        ("demo-2.0-py3-none-any.whl", b"", "no wheel of demo==1.0"),
        ("demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl", b"", "native wheels only"),
        ("demo-1.0-py3-none-any.whl", wheel("demo", ("demo/x.py", b"")), "there are 0"),
        ("demo-1.0-py3-none-any.whl", wheel("demo", ("a/plugin.toml", MANIFEST), ("b/plugin.toml", MANIFEST)), "are 2"),
        ("demo-1.0-py3-none-any.whl", wheel("demo", ("demo/plugin.toml", MANIFEST), pure="false"), "no pure wheel"),
        ("demo-1.0-py3-none-any.whl", wheel("demo", ("demo-1.0.data/scripts/x", b"")), "puts files elsewhere"),
        ("demo-1.0-py3-none-any.whl", wheel("demo", ("demo/x.so", b"")), "compiled"),
    ):
        files.files = {} if file is None else {file: data}
        with pytest.raises(ManifestError, match=says):
            await names("pypi:demo==1.0", indexes)
    with pytest.raises(ManifestError, match="cannot be reached"):
        await names("pypi:demo==1.0", Indexes("http://127.0.0.1:1", "http://127.0.0.1:1"))


async def test_an_npm_graph_without_its_scripts(index: tuple[Index, Indexes]) -> None:
    files, indexes = index
    inner = tarred(
        ("package/package.json", b'{"scripts": {"install": "touch /tmp/never"}}'),
        ("package/i.js", b"export const inner = 'bundled';"),
        ("package/i.d.ts", b""),
        ("package/perf/O(n).js", b""),
    )
    lock: dict[str, Any] = {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "demo"},
            "node_modules/@s/inner": {"version": "1.2.3", "integrity": sha512(inner)},
            "node_modules/tests-only": {"version": "9.9.9", "dev": True},
            "node_modules/on-a-mac": {"version": "9.9.9", "optional": True, "os": ["darwin"]},
            "node_modules/compiled": {"version": "9.9.9", "optional": True, "hasInstallScript": True},
        },
    }

    def packed() -> bytes:
        manifest = NPM_MANIFEST + b'dependencies = "npm-shrinkwrap.json"\n'
        return tarred(
            ("package/plugin.toml", manifest),
            (
                "package/main.js",
                b'import { inner } from "@s/inner/i.js"; export default class { static said = inner; }',
            ),
            ("package/npm-shrinkwrap.json", json.dumps(lock).encode()),
        )

    files.files = {"demo-1.0.0.tgz": packed(), "inner-1.2.3.tgz": inner}
    _, found = await read_source(parse_source("npm:@me/demo@1.0.0"), indexes)
    assert [file.name for file in found] == ["bundle.json", "main.js", "npm-shrinkwrap.json", "plugin.toml"]
    assert b'"bundled"' in found[1].data
    assert json.loads(found[0].data)["packages"] == [f"@s/inner@1.2.3 {sha512(inner)}"]
    files.fetched.clear()
    again = await read_source(parse_source("npm:@me/demo@1.0.0"), indexes)  # to agree to what was shown
    assert again[1] == found
    assert files.fetched == ["demo-1.0.0.tgz"], "its own bytes are looked at again, its graph is there"
    files.files["demo-1.0.0.tgz"] = tarred(*((row.name, row.data + b"\n") for row in unpack(packed(), "x.tgz")))
    assert (await read_source(parse_source("npm:@me/demo@1.0.0"), indexes))[1] != found, "another package is made anew"
    files.said["demo-1.0.0.tgz"] = sha512(b"other")
    with pytest.raises(ManifestError, match="which is not the one"):
        await names("npm:demo@1.0.0", indexes)
    files.said.clear()
    for bad in (b"gyp", b"wasm"):
        name = "package/binding.gyp" if bad == b"gyp" else "package/x.wasm"
        files.files["inner-1.2.3.tgz"] = tarred((name, b""))
        lock["packages"]["node_modules/@s/inner"]["integrity"] = sha512(files.files["inner-1.2.3.tgz"])
        files.files["demo-1.0.0.tgz"] = packed()
        with pytest.raises(ManifestError, match="native code or WebAssembly"):
            await names("npm:demo@1.0.0", indexes)


async def test_an_archive_is_taken_at_its_digest_alone(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0.tar.gz"
    path.write_bytes(tarred(("demo-1.0/plugin.toml", MANIFEST), ("demo-1.0/demo/main.py", b"")))
    given = f"{path}#sha256={sha256(path.read_bytes())}"
    assert await names(given, Indexes()) == ["demo/main.py", "plugin.toml"]
    assert parse_source(given).text == given
    assert parse_source(given).binding == f"archives in {tmp_path}"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ManifestError, match="which is not the one that was given"):
        await names(given, Indexes())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pypi:demo", "exact version"),
        ("pypi:demo>=1", "exact version"),
        ("npm:demo", "exact version"),
        ("npm:demo@^1", "exact version"),
        ("npm:../x@1.0.0", "exact version"),
        ("pypi:demo==1#sha256=12", "64 hex digits"),
        ("relative/path", "not an absolute path"),
        ("/nowhere/x.tar.gz", "say its sha256"),
        ("/tmp#sha256=" + "0" * 64, "has no sha256"),
        ("/nowhere/at/all", "no directory"),
        (f"{__file__}#sha256=" + "0" * 64, "name ends in .whl, .zip, .tar.gz, .tgz"),
    ],
)
def test_sources_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        parse_source(text)


@pytest.mark.parametrize(
    "line",
    [
        "demo",
        "demo==1.0",
        "demo>=1.0 --hash=sha256:" + "0" * 64,
        "demo==1.0 --hash=md5:00",
        "--index-url https://elsewhere.example",
        "-r other.txt",
        "demo @ https://elsewhere.example/demo.whl",
        "git+https://elsewhere.example/demo",
        './demo ; python_version > "3" --hash=sha256:' + "0" * 64,
        "demo==1.0 --hash=sha256:" + "0" * 64 + "\nDemo==2.0 --hash=sha256:" + "0" * 64,
    ],
)
def test_locks_that_lock_nothing(line: str) -> None:
    with pytest.raises(ManifestError, match="dependencies"):
        read_requirements(line.encode())


@pytest.mark.parametrize(
    "packages",
    [
        None,
        {"node_modules/a": {"version": "1.0.0"}},
        {"node_modules/a": {"version": "1.0.0", "integrity": "sha1-xx"}},
        {"node_modules/a": {"version": "git+ssh://x", "integrity": "sha512-" + "A" * 86 + "=="}},
        {"node_modules/../../a": {"version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}},
        {"node_modules/a": {"link": True, "resolved": "../a"}},
        {"node_modules/a": {"name": "b", "version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}},
        {"elsewhere": {"version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}},
    ],
)
def test_shrinkwraps_that_lock_nothing(packages: Any) -> None:
    with pytest.raises(ManifestError, match=r"dependencies|no npm package"):
        read_shrinkwrap(json.dumps({"packages": packages}).encode())
