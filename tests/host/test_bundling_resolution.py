"""What an import means: node's rules over files in memory, and the same modules as esbuild itself takes from a disk."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from proxy.host.bundling.answers import Run
from proxy.host.bundling.built_ins import ALLOWED
from proxy.host.bundling.resolution import BuiltIn, Graph, Module, Nothing
from proxy.host.manifest import ManifestError
from tests.conftest import need
from tests.host.free_bundler import program

MODULES = Path(__file__).parent.parent / "node_modules"
EXPORTS = {
    ".": [{"unknown": "./no.js"}, {"require": "./r.cjs", "browser": "./b.js", "default": "./d.js"}],
    "./sub": {"node": "./no.js", "import": {"types": "./t.d.ts", "module": "./sub.mjs"}},
    "./features/*.js": "./src/*.js",
    "./features/private/*": None,
    "./all/*": "./src/*.js",
    "./up": "./../../key.js",
    "./abs": "/etc/passwd",
}
PACKAGES: dict[str, Any] = {
    "": {"name": "own", "exports": "./main.js", "imports": {"#in": "./lib/in.js", "#dep": "mains", "#up": "../up.js"}},
    "node_modules/exp": {"name": "exp", "exports": EXPORTS},
    "node_modules/text": {"name": "text", "exports": "./only.js"},
    "node_modules/mains": {
        "name": "mains",
        "main": "lib",
        "module": "./lib/m",
        "sideEffects": ["./lib/effect*.js", "*.css"],
    },
    "node_modules/pure": {"name": "pure", "sideEffects": False},
    "node_modules/map": {
        "name": "map",
        "main": "node.js",
        "browser": {"./node.js": "./web.js", "fs": False, "net": "mains", "./gone": False, "./same": "./same.js"},
    },
    "node_modules/turn": {"name": "turn", "browser": {"a": "b", "b": "a"}},
    "node_modules/outer/node_modules/mains": {"name": "mains"},
    "node_modules/@s/scoped": {"name": "@s/scoped", "browser": "web.js"},
    "node_modules/mains/nested": {"main": "../lib/m.js"},
}
FILES = """
main.js part.ts lib/in.js lib/index.js up.js data.json
node_modules/exp/r.cjs node_modules/exp/b.js node_modules/exp/d.js node_modules/exp/sub.mjs node_modules/exp/src/a.js
node_modules/exp/src/private/x.js node_modules/exp/hidden.js node_modules/text/only.js
node_modules/mains/lib/index.js node_modules/mains/lib/m.js node_modules/mains/lib/effects.js
node_modules/pure/index.js node_modules/map/node.js node_modules/map/web.js node_modules/map/gone.js node_modules/map/same.js
node_modules/turn/index.js node_modules/outer/index.js node_modules/outer/node_modules/mains/index.js
node_modules/@s/scoped/web.js node_modules/@s/scoped/index.js node_modules/alone.js
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    files = dict.fromkeys(FILES.split(), b"")
    packages = {os.path.join(folder, "package.json"): json.dumps(said).encode() for folder, said in PACKAGES.items()}
    return Graph({**files, **packages})


def test_what_each_import_means(graph: Graph) -> None:
    exp, mains, mapped = "node_modules/exp/", "node_modules/mains/", "node_modules/map/"
    for importer, specifier, kind, means in (
        ("main.js", "./part", "import", "part.ts"),
        ("main.js", "./part.js", "import", None),
        ("part.ts", "./part.js", "import", "part.ts"),
        ("main.js", "./lib", "import", "lib/index.js"),
        ("main.js", "./lib/", "import", "lib/index.js"),
        ("lib/in.js", "../data", "import", "data.json"),
        ("lib/in.js", "..", "import", None),
        ("main.js", "#in", "import", "lib/in.js"),
        ("main.js", "#dep", "import", mains + "lib/m.js"),
        ("main.js", "#other", "import", None),
        ("main.js", "exp", "import", exp + "b.js"),
        ("main.js", "exp", "require", exp + "r.cjs"),
        ("main.js", "exp/sub", "import", exp + "sub.mjs"),
        ("main.js", "exp/sub", "require", None),
        ("main.js", "exp/features/a.js", "import", exp + "src/a.js"),
        ("main.js", "exp/features/private/x.js", "import", None),
        ("main.js", "exp/all/a", "import", exp + "src/a.js"),
        ("main.js", "exp/hidden.js", "import", None),
        (exp + "d.js", "exp/sub", "import", exp + "sub.mjs"),
        (exp + "d.js", "./hidden", "require", exp + "hidden.js"),
        ("main.js", "text", "require", "node_modules/text/only.js"),
        ("main.js", "mains", "import", mains + "lib/m.js"),
        ("main.js", "mains/lib", "import", mains + "lib/index.js"),
        ("main.js", "mains/nested", "import", mains + "lib/m.js"),
        ("node_modules/outer/index.js", "mains", "import", "node_modules/outer/node_modules/mains/index.js"),
        ("node_modules/outer/index.js", "pure", "import", "node_modules/pure/index.js"),
        ("main.js", "map", "import", mapped + "web.js"),
        (mapped + "web.js", "./node", "require", mapped + "web.js"),
        (mapped + "web.js", "./same", "require", mapped + "same.js"),
        (mapped + "web.js", "net", "require", mains + "lib/m.js"),
        ("main.js", "@s/scoped", "import", "node_modules/@s/scoped/web.js"),
        ("main.js", "@s/scoped/index", "import", "node_modules/@s/scoped/index.js"),
        ("main.js", "@s", "import", None),
        ("main.js", "alone", "import", None),
        ("main.js", "outer/node_modules/mains", "import", "node_modules/outer/node_modules/mains/index.js"),
        ("main.js", "mains/../../main.js", "import", None),
        ("main.js", "fs", "import", None),
        ("main.js", "", "import", None),
    ):
        found = graph.resolve(specifier, importer, kind)
        assert (found.path if isinstance(found, Module) else found) == means, (importer, specifier, kind)
    assert graph.resolve("fs", mapped + "web.js", "require") == Nothing("fs")
    assert isinstance(graph.resolve("./gone", mapped + "web.js", "require"), Nothing)
    assert graph.resolve("node:crypto", "main.js", "import") == BuiltIn("crypto")
    assert graph.resolve("util", "main.js", "require") == BuiltIn("util")


def test_what_leads_outside_is_refused(graph: Graph) -> None:
    for importer, specifier in (
        ("main.js", "/etc/passwd"),
        ("main.js", "../x.js"),
        ("main.js", "./lib/../../x.js"),
        ("main.js", "C:\\x"),
        ("main.js", "file:x"),
        ("main.js", "exp/up"),
        ("main.js", "exp/abs"),
        ("main.js", "#up"),
        ("main.js", "node:unheard"),
        ("node_modules/turn/index.js", "a"),
        ("main.js", "x" * 600),
    ):
        with pytest.raises(ManifestError):
            graph.resolve(specifier, importer, "import")
    for said in (b"[]", b"{", b'{"a":' * 100, b"\xff", b"{" + b" " * 2**20 + b"}"):
        with pytest.raises(ManifestError, match=r"no package\.json"):
            Graph({"package.json": said, "main.js": b""}).resolve("./main.js", "main.js", "import")


PARTS = [".", "..", "/", "#", "*", "a", "b.js", "node_modules", "@s", "%2e", "\\", "node:", "fs", "\0", "é", "?x", ""]
FIELDS = ("name", "exports", "imports", "browser", "main", "module", "sideEffects")


def some_path(dice: Random) -> str:
    whole = dice.choice(["", "/"]).join(dice.choices(PARTS, k=dice.randrange(6)))
    return dice.choice(["", "./"]) + whole


def something(dice: Random, depth: int = 0) -> Any:
    kind = dice.randrange(9) if depth < 4 else 0
    if kind < 5:
        return dice.choice([None, True, False, 3, some_path(dice), some_path(dice)])
    if kind < 7:
        return [something(dice, depth + 1) for _ in range(dice.randrange(4))]
    keys = [".", "./*", "import", "default", some_path(dice), some_path(dice)]
    return {dice.choice(keys): something(dice, depth + 1) for _ in range(dice.randrange(5))}


def test_no_package_and_no_specifier_leads_anywhere_else() -> None:
    empty = dict.fromkeys(
        ["a", "b.js", "node_modules/a/b.js", "node_modules/a/index.js", "node_modules/@s/a/b.js"], b""
    )
    for seed in range(200):
        dice = Random(seed)
        packages = {
            f"{folder}package.json": json.dumps(
                {field: something(dice) for field in FIELDS if dice.random() < 0.5}
            ).encode()
            for folder in ("", "node_modules/a/")
        }
        graph = Graph({**empty, **packages})
        for importer, wanted in product(("b.js", "node_modules/a/b.js"), (some_path(dice), "a", "./b")):
            try:
                found = graph.resolve(wanted, importer, dice.choice(["import", "require"]))
            except ManifestError:
                continue
            assert found is None or isinstance(found, Nothing) or getattr(found, "path", "a") in graph.files, (
                seed,
                wanted,
            )
            assert not isinstance(found, BuiltIn) or found.name in ALLOWED, (seed, wanted)


def test_what_may_be_left_out_when_nothing_of_it_is_used(graph: Graph) -> None:
    effects = {
        "mains": False,
        "mains/lib/effects.js": True,
        "pure": False,
        "map": True,
    }
    for specifier, kept in effects.items():
        found = graph.resolve(specifier, "main.js", "import")
        assert isinstance(found, Module)
        assert found.has_effects is kept, specifier


def test_a_real_library_becomes_what_esbuild_makes_of_it_on_a_disk(bundler_cache: Path, tmp_path: Path) -> None:
    """ethers: `exports`, `browser` maps, sideEffects; six packages. Written down: viem, web3 and a dozen others agreed as well."""
    need((MODULES / "ethers").is_dir(), "ethers")
    code = b'import { Wallet, AbiCoder } from "ethers"; console.log(Wallet, AbiCoder);'
    files = {"main.js": code}
    for name in ("ethers", "@noble", "@adraffy", "aes-js"):
        for path in (MODULES / name).rglob("*"):
            if path.suffix in (".js", ".cjs", ".mjs", ".json") and path.is_file():
                files[f"node_modules/{path.relative_to(MODULES).as_posix()}"] = path.read_bytes()
    opened = os.open(program(bundler_cache), os.O_RDONLY)
    try:
        bundle, inputs = Run(files, "main.js").result(opened)
    finally:
        os.close(opened)
    (tmp_path / "main.js").write_bytes(code)
    (tmp_path / "node_modules").symlink_to(MODULES)
    flags = (
        "--bundle",
        "--format=esm",
        "--platform=browser",
        "--preserve-symlinks",
        "--target=esnext",
        "--charset=utf8",
    )
    define = '--define:process.env.NODE_ENV="production"'
    subprocess.run(
        [
            program(bundler_cache),
            "main.js",
            *flags,
            define,
            "--metafile=meta.json",
            "--outfile=out.js",
            "--log-level=error",
        ],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    assert inputs == set(json.loads((tmp_path / "meta.json").read_bytes())["inputs"])
    assert _without_comments(bundle) == _without_comments((tmp_path / "out.js").read_bytes())


def _without_comments(bundle: bytes) -> list[bytes]:
    lines = [line.replace(b"graph:", b"") for line in bundle.splitlines()]
    return sorted(line for line in lines if not line.startswith(b"// "))


def test_nothing_asks_where_the_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> str:
        raise AssertionError("a call of the system for every module")

    monkeypatch.setattr(os, "getcwd", asked)
    files = {
        "node_modules/a/package.json": b'{"name": "a", "main": "./in/i.js", "browser": {"./in/i.js": "./in/b.js"}}',
        "node_modules/a/in/i.js": b"",
        "node_modules/a/in/b.js": b"",
        "main.js": b"",
        "package.json": b'{"name": "own", "browser": {"./other.js": "./main.js"}}',
    }
    graph = Graph(files)
    assert graph.resolve("a", "main.js", "import-statement") == Module("node_modules/a/in/b.js")
    assert graph.resolve("./other.js", "main.js", "import-statement") == Module("main.js")
