"""Bundling: what a graph may reach, each attack shown to succeed with the same bundler on a disk (hardening.md 29)."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.host.archives import unpack
from proxy.host.bundling import answers, launch, session
from proxy.host.bundling.bundle import RECORD, bundled, without_lock
from proxy.host.bundling.messages import Malformed, packet, parsed, read_packet
from proxy.host.bundling.program import Program
from proxy.host.locks import Pinned
from proxy.host.manifest import ManifestError, parse_manifest
from proxy.host.package import File, digest_of_package
from proxy.host.packing import pack
from proxy.host.sandbox import bpf, rlimits
from proxy.host.sandbox.syscalls import Architecture
from tests.host.free_bundler import OPEN_LAUNCH, SECCOMP_ALONE, bundled_freely, program
from tests.host.sandbox.test_filter import BOTH, EPERM, decide

MANIFEST = b"""id = "demo"
name = "Demo"
version = "1"
runtime = "npm"
entry = "main.js"
dependencies = "npm-shrinkwrap.json"

[permissions]
"""
SECRET = "a key of the owner"
DEPENDENCY = {"node_modules/dep/package.json": b'{"name": "dep", "main": "index.js"}'}

Files = dict[str, bytes]


class NoIndex:
    """An index that has nothing."""

    async def tarball(self, wanted: Pinned) -> bytes:
        raise ManifestError(f"the index has no {wanted.name}@{wanted.version}")


async def bundle(cache: Path, files: Files, graph: list[Pinned] | None = None) -> dict[str, bytes]:
    whole = [File("plugin.toml", MANIFEST), *(File(name, data) for name, data in files.items())]
    made = await bundled(parse_manifest(MANIFEST), whole, graph or [], Program(NoIndex(), cache))
    return {file.name: file.data for file in made}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the package with the owner's files in it."""
    folder = tmp_path / "owner"
    folder.mkdir()
    for name, text in (
        ("key.js", f'export default "{SECRET}"; export const key = "{SECRET}";'),
        ("key.json", json.dumps({"key": SECRET})),
        ("tsconfig.json", json.dumps({"compilerOptions": {"paths": {"dep": [str(folder / "key.js")]}}})),
    ):
        (folder / name).write_text(text)
    return folder


# What each attack's files are, given the owner's folder; and how it is refused.
ATTACKS: dict[str, tuple[Callable[[Path], Files], str]] = {
    "an absolute path": (
        lambda owner: {"main.js": f'import k from "{owner}/key.js"; console.log(k);'.encode()},
        "outside of the package",
    ),
    "a JSON file by an absolute path": (
        lambda owner: {"main.js": f'import k from "{owner}/key.json"; console.log(k);'.encode()},
        "outside of the package",
    ),
    "a required absolute path": (
        lambda owner: {"main.js": f'console.log(require("{owner}/key.js"));'.encode()},
        "outside of the package",
    ),
    "a dynamic import that is caught": (
        lambda owner: {"main.js": f'try {{ console.log(await import("{owner}/key.js")) }} catch {{}}'.encode()},
        "outside of the package",
    ),
    "a path above the root": (
        lambda owner: {"main.js": b'import k from "../owner/key.js"; console.log(k);'},
        "outside of the package",
    ),
    "a path above the root, of a dependency": (
        lambda owner: {
            "main.js": b'import "dep";',
            **DEPENDENCY,
            "node_modules/dep/index.js": b'import k from "../../../owner/key.js"; console.log(k);',
        },
        "node_modules/dep/index.js imports .* outside",
    ),
    "a main outside": (
        lambda owner: {
            "main.js": b'import k from "dep"; console.log(k);',
            "node_modules/dep/package.json": b'{"name": "dep", "main": "../../../owner/key.js"}',
        },
        "main .* leads out of the package",
    ),
    "a browser map to outside": (
        lambda owner: {
            "main.js": b'import k from "dep"; console.log(k);',
            "node_modules/dep/package.json": b'{"name": "dep", "browser": {"./index.js": "../../../owner/key.js"}}',
            "node_modules/dep/index.js": b"",
        },
        "browser .* leads out of the package",
    ),
    "imports in the own package.json": (
        lambda owner: {
            "main.js": b'import k from "dep"; console.log(k);',
            "package.json": json.dumps({"browser": {"dep": "../owner/key.js"}}).encode(),
        },
        "browser .* leads out of the package",
    ),
    "tsconfig paths": (
        lambda owner: {
            "main.js": b'import k from "dep"; console.log(k);',
            "tsconfig.json": json.dumps({"compilerOptions": {"paths": {"dep": [f"{owner}/key.js"]}}}).encode(),
        },
        'Could not resolve "dep"',
    ),
    "tsconfig extends": (
        lambda owner: {
            "main.js": b'import k from "dep"; console.log(k);',
            "tsconfig.json": json.dumps({"extends": f"{owner}/tsconfig.json"}).encode(),
        },
        'Could not resolve "dep"',
    ),
    "a data: URL": (
        lambda owner: {"main.js": f"import k from \"data:text/javascript,export default '{SECRET}'\"; k();".encode()},
        "outside of the package",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_nothing_outside_of_the_graph_goes_in(
    name: str, bundler_cache: Path, tmp_path: Path, outside: Path
) -> None:
    files, says = ATTACKS[name]
    assert SECRET in bundled_freely(bundler_cache, tmp_path / "package", files(outside)), "no attack at all"
    with pytest.raises(ManifestError, match=says):
        await bundle(bundler_cache, files(outside))


async def test_what_is_no_module_of_the_package_is_refused_all_at_once(bundler_cache: Path) -> None:
    for code, says in (
        (
            b'import "https://a.example/x.js"; import "//b.example/x.js"; import("https://c.example/x.js").catch(() => {});'
            b'import "file:///etc/passwd"; import "npm:left-pad";',
            r"//b\.example.* outside.*file:.* outside.*//a\.example.* outside.*//c\.example.* outside.*npm:.* outside",
        ),
        (
            b'import "./note.txt"; import "./style.css"; import n from "./note.txt" with { type: "text" };'
            b'import m from "./data.json" with { type: "bytes" }; import "node:nothing";',
            r"data\.json' as .* no JSON.*note\.txt' as .* no JSON.*no module of node.*note\.txt is imported.*style\.css is",
        ),
        (b'import "fs"; import "node:net"; require("child_process");', "child_process .*fs .*net "),
        (b'try { await import("node:fs") } catch {}', "may use: fs"),
        (
            b'import "not-there"; import "#elsewhere";\nimport "dep/../../x";',
            'main.js:1: .*"not-there".*#else.*js:2: .*dep/',
        ),
        (b"export default class {", "main.js:1: Expected"),
    ):
        files = {"main.js": code, "note.txt": b"hello", "style.css": b"", "data.json": b"{}"}
        with pytest.raises(ManifestError, match=says):
            await bundle(bundler_cache, files)


async def test_native_code_webassembly_and_a_record_of_its_own_are_refused(bundler_cache: Path) -> None:
    with pytest.raises(ManifestError, match=r"bundle\.json is what l2proxy writes"):
        await bundle(bundler_cache, {"main.js": b"", RECORD: b"{}"})
    files = {"main.js": b"", "node_modules/a/x.wasm": b"", "node_modules/b/binding.gyp": b"", "own.node": b""}
    with pytest.raises(ManifestError, match=r"a/x\.wasm, node_modules/b/binding\.gyp, own\.node"):
        await bundle(bundler_cache, files)


async def test_node_decides_between_its_own_and_a_dependency_of_that_name(bundler_cache: Path) -> None:
    shadow = {"node_modules/crypto/package.json": b'{"name": "crypto"}', "node_modules/crypto/index.js": b"stolen();"}
    for code in (
        b'import { randomBytes } from "crypto"; randomBytes(1);',
        b'console.log(require("crypto").randomBytes(1));',
    ):
        made = await bundle(bundler_cache, {"main.js": code, **shadow})
        assert b"stolen" not in made["main.js"]
        assert b'from "node:crypto"' in made["main.js"]
    made = await bundle(bundler_cache, {"main.js": b'import "crypto/";', **shadow})  # as packages name it who want it
    assert b"stolen" in made["main.js"]
    taken = {"node_modules/fs/package.json": b'{"name": "fs"}', "node_modules/fs/index.js": b""}
    with pytest.raises(ManifestError, match="modules of node that no plugin may use: fs"):
        await bundle(bundler_cache, {"main.js": b'import "fs";', **taken})


async def test_what_code_catches_may_be_missing(bundler_cache: Path) -> None:
    code = b"let found; try { found = require('bufferutil') } catch {} try { found ??= require('fs') } catch {} export default found;"
    assert b"bufferutil" in (await bundle(bundler_cache, {"main.js": code}))["main.js"]


async def test_json_is_imported_as_the_language_has_it_and_as_bundlers_do(bundler_cache: Path) -> None:
    code = b"""
        import said from "./data.json" with { type: "json" };
        import plain, { answer } from "./data.json";
        import dep from "dep/data.json" with { type: "json" };
        const later = await import("./data.json", { with: { type: "json" } });
        export default class { static all = [said, plain, answer, dep, later]; }"""
    dependency = {"node_modules/dep/package.json": b'{"name": "dep"}', "node_modules/dep/data.json": b'{"answer": 43}'}
    made = await bundle(bundler_cache, {"main.js": code, "data.json": b'{"answer": 42}', **dependency})
    assert b"answer: 42" in made["main.js"]
    assert b"answer: 43" in made["main.js"]
    assert "data.json" not in made  # it went in


async def test_no_file_beside_the_modules_changes_how_they_are_bundled(bundler_cache: Path) -> None:
    code = b'import { x } from "./part.ts"; export default class { static x = x }'
    part = b"export const x: number = 1; enum E { A }; export class C { y?: string; constructor(private z = E.A) {} }"
    plain = await bundle(bundler_cache, {"main.js": code, "part.ts": part})
    strange = {
        "compilerOptions": {"target": "es5", "jsxFactory": "steal", "useDefineForClassFields": False, "baseUrl": "/"}
    }
    config = {
        "tsconfig.json": json.dumps(strange).encode(),
        "esbuild.config.mjs": b"import 'node:fs'; throw 1",
        ".esbuildrc": b'{"plugins": ["/tmp/x.js"]}',
        "node_modules/esbuild/lib/main.js": b"throw 1",
        "package.json": b'{"name": "demo", "esbuild": {"plugins": ["./x.js"]}, "scripts": {"postinstall": "touch /tmp/x"}}',
        "main.js.map": b"not even JSON",
    }
    made = await bundle(
        bundler_cache, {**config, "main.js": code + b"\n//# sourceMappingURL=main.js.map\n", "part.ts": part}
    )
    assert made["main.js"] == plain["main.js"]
    assert "part.ts" not in made  # it went in


def packed_graph() -> tuple[Files, list[Pinned]]:
    graph = [Pinned("dep", "1.0.0", frozenset({"sha512-x"}), "node_modules/dep")]
    graph += [Pinned("unused", "1.0.0", frozenset({"sha512-y"}), "node_modules/unused")]
    own = {"main.js": b'import { d } from "dep"; export default class { static d = d }', "abi.json": b"[]"}
    lock = {"npm-shrinkwrap.json": b"{}", "package.json": b'{"name": "demo"}'}
    dep = {"node_modules/dep/package.json": b'{"name": "dep", "main": "index.js"}'}
    return {**own, **lock, **dep, "node_modules/dep/index.js": b"exports.d = 1;"}, graph


async def test_the_same_bytes_twice_and_a_record_that_is_part_of_the_digest(
    bundler_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, graph = packed_graph()
    first = await bundle(bundler_cache, files, graph)
    again = await bundle(bundler_cache, dict(reversed(files.items())), graph[::-1])
    assert first == again
    record = json.loads(first[RECORD])
    assert record["sha256"] == hashlib.sha256(first["main.js"]).hexdigest()
    assert record["packages"] == ["dep@1.0.0 sha512-x"]
    assert (record["bundler"], record["version"]) == ("esbuild", "0.28.2")
    assert sorted(first) == ["abi.json", RECORD, "main.js", "npm-shrinkwrap.json", "package.json", "plugin.toml"]

    def digest(made: dict[str, bytes]) -> str:
        return digest_of_package([File(name, made[name]) for name in sorted(made)])

    monkeypatch.setattr("proxy.host.bundling.bundle.FLAGS", (*session.FLAGS, "--another"))
    assert digest(await bundle(bundler_cache, files, graph)) != digest(first)
    archives = []
    for _ in range(2):
        rows = without_lock(parse_manifest(MANIFEST), [File(name, data) for name, data in first.items()])
        archives.append(pack(parse_manifest(MANIFEST), rows))
    assert archives[0] == archives[1]
    inside = {file.name.partition("/")[2]: file.data for file in unpack(archives[0], "x.tar.gz")}
    assert sorted(inside) == ["abi.json", RECORD, "main.js", "plugin.toml"]
    assert parse_manifest(inside["plugin.toml"]).dependencies is None


@pytest.mark.parametrize("jail", ["whole", "seccomp alone", "none"])
async def test_a_bundler_that_would_read_the_disk_by_itself_can_not(
    bundler_cache: Path, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jail: str
) -> None:
    """Our answers are one wall, the jail is the other: here the answers name the owner's file and leave the reading to esbuild."""
    if jail != "whole":
        alone = SECCOMP_ALONE.format(code=str(session.CODE), launch=str(session.LAUNCH))
        (tmp_path / "launch.py").write_text(OPEN_LAUNCH if jail == "none" else alone)
        monkeypatch.setattr(session, "LAUNCH", tmp_path / "launch.py")

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] == "on-load":
            return {}
        return {"id": 0, "path": str(outside / "key.js"), "namespace": "file"}

    opened = os.open(program(bundler_cache), os.O_RDONLY)
    try:
        reply = session.build(opened, "main.js", answer)
    finally:
        os.close(opened)
    if jail == "none":
        assert SECRET.encode() in reply["outputFiles"][0]["contents"]
    else:
        assert SECRET not in str(reply)
        assert "operation not permitted" in str(reply["errors"])


@BOTH
def test_the_bundler_may_make_threads_and_become_one_program_once(architecture: Architecture) -> None:
    filter_ = bpf.jail_filter(launch.policy(), architecture)

    def answer(name: str, *arguments: int) -> int:
        return decide(filter_, architecture.audit, architecture.numbers[name], *arguments)

    for flags in launch.A_THREAD:
        assert answer("clone", flags) == bpf.ALLOW
    for flags in (17, 0, 0x4111, 0x50F00 & ~0x10000, 0x50F00 | 1 << 28):  # fork, vfork; no thread; a user namespace
        assert answer("clone", flags) == EPERM
    assert answer("execveat", launch.PROGRAM_AT) == bpf.ALLOW
    assert launch.PROGRAM_AT > rlimits.DESCRIPTORS  # so that no other file can ever have that number
    assert {answer("execveat", at) for at in (0, 3, 99, 101, 2**32 - 100)} == {EPERM}
    for name in ("execve", "ptrace", "mount", "io_uring_setup"):
        assert answer(name) == bpf.KILL_PROCESS
    for name in ("openat", "socket", "memfd_secret", "setns"):
        assert answer(name) in (EPERM, bpf.KILL_PROCESS)
    assert answer("mmap", 0, 4096, 7, 0x22) == EPERM


def test_time_memory_and_output_end(bundler_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def endless(request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] == "on-resolve":
            return {"id": 0, "path": f"{next(numbers)}.js", "namespace": "graph"}
        return {"id": 1, "contents": b"import './more';" * 50, "loader": "js"}

    def run(act: Callable[[int], Any]) -> Any:
        opened = os.open(program(bundler_cache), os.O_RDONLY)
        try:
            return act(opened)
        finally:
            os.close(opened)

    with pytest.raises(ManifestError, match=r"did not end within 0\.3 s"):
        run(lambda opened: session.build(opened, "main.js", endless, 0.3))
    files = {"main.js": b"export default '" + b"x" * 2_000_000 + b"';"}
    with monkeypatch.context() as patch:
        patch.setattr(answers, "MAX_BUNDLE", 1_000_000)
        with pytest.raises(ManifestError, match="the limit is 1000000"):
            run(answers.Run(files, "main.js").result)
    with monkeypatch.context() as patch:
        patch.setattr(session, "MAX_PACKET", 1_000_000)
        with pytest.raises(ManifestError, match="at once; the limit is 1000000"):
            run(answers.Run(files, "main.js").result)
    monkeypatch.setattr(session, "MEMORY", 40 * 1024 * 1024)
    with pytest.raises(ManifestError, match="it may use 40 MiB"):
        run(answers.Run({"main.js": b"export default [" + b"{a:1}," * 1_000_000 + b"]"}, "main.js").result)


def test_what_a_strange_process_says_is_checked() -> None:
    for value in (None, True, 2**32 - 1, "é", b"\0", [1, "a"], {"a": [{"b": None}]}):
        data = packet(7, value, answer=True)
        assert parsed(read_packet(io.BytesIO(data), len(data))) == (7, True, value)
    with pytest.raises(Malformed, match="the limit is 3"):
        read_packet(io.BytesIO(packet(0, None, answer=False)), 3)
    deep = b"\x05\x01\0\0\0" * 40 + b"\0"
    for bad in (b"", b"\0" * 4, b"\0" * 4 + b"\x09", b"\0" * 6, b"\0" * 4 + b"\x03\xff\0\0\0", b"\0" * 4 + deep):
        with pytest.raises(Malformed):
            parsed(bad)
    for said, asks in (
        ([], False),
        ({"command": "on-resolve", "path": "x"}, False),
        ({"command": "on-load", "path": 1, "namespace": "graph"}, False),
        ({"error": "no such command"}, True),
        ({"errors": ["x"]}, True),
        ({"errors": [], "outputFiles": 1}, True),
    ):
        with pytest.raises(Malformed):
            session._converse(io.BytesIO(packet(1, said, answer=asks)), lambda _: None, lambda _: {})
    with pytest.raises(Malformed, match="longer than its packet"):
        parsed(b"\0" * 4 + b"\x05" + b"\xff" * 4)


async def test_the_program_is_pinned_and_its_absence_is_one_sentence(bundler_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"bundling needs esbuild 0\.28\.2, which cannot be had: the index has no"):
        await bundle(tmp_path, {"main.js": b""})
    kept = tmp_path / program(bundler_cache).name
    kept.write_bytes(b"#!/bin/sh\ntouch /tmp/never\n")
    kept.chmod(0o755)
    with pytest.raises(ManifestError, match="cannot be had"):
        await bundle(tmp_path, {"main.js": b""})
