"""The escape battery of npm plugins: what JavaScript with all of node's modules tries, and none of it gets through (plugin.md).

Every attempt is made free by a deno that may do everything, where it must succeed, or the battery would prove nothing; and in
a plugin's jail, as root and as an ordinary user, with and without Landlock and user namespaces, where it must fail for the
reason that was meant. Once more with a deno that grants everything, so that the kernel's layers are alone. A missing answer is
a failure. What the kernel itself refuses is the same filter as for Python, which test_escape_python.py tries with deno's, too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.host.process import spawn
from proxy.host.sandbox.deno_command import CODE, deno_program, module_url
from proxy.host.sandbox.syscalls import architecture
from tests.security.escapes.calls import NUMBERS
from tests.security.escapes.runner import library
from tests.security.escapes.scene import Stage, users

pytestmark = pytest.mark.skipif(architecture() is None, reason="Linux on x86_64 and aarch64 alone can sandbox")

FOLDER = Path(__file__).parent / "escapes" / "javascript"
PARTS = ("catalogue.js", "files.js", "networks.js", "processes.js", "kernel.js", "language.js", "plugin.js")
BATTERY = "\n".join((FOLDER / part).read_text("utf-8") for part in PARTS).encode()
WITHOUT: tuple[tuple[str, ...], ...] = ((), ("landlock",), ("namespaces",), ("landlock", "namespaces"))
SECONDS = 60.0
AT_LEAST = 90
FREE = b"""
const scene = JSON.parse(Deno.args[0]), outcomes = {};
for (const [name, { needs }] of Object.entries(ATTEMPTS)) {
  if (needs === undefined || scene[needs]) outcomes[name] = await tried(name, scene);
}
const rows = Object.fromEntries(Object.entries(ATTEMPTS).map(([name, { expected, bare }]) => [name, { expected, bare }]));
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify({ rows, outcomes })));
Deno.exit(0);
"""

REFUSALS = {
    "permission": r"NotCapable|Requires \w+ access",
    "kernel": r"EPERM|EACCES|Operation not permitted|os error 1\b|PermissionDenied",
    "tripwire": "^SIGSYS$",
    "denied": "^Error: denied",
    "withdrawn": r"is not defined|undefined|is not a (function|constructor)",
    "empty": "nothing was found",
    "nothing": "nothing was run",
    "no reason": "spawn /bin/true ENOENT",
    "switched off": "--no-npm is specified",
    "not loaded": "Import '.*' failed|Cannot find module|Failed reading cache entry|Failed loading",
    "unopened": "unable to open database",
    "no attachments": "too many attached databases - max 0",
    "unreached": "tcp open error|EAI_AGAIN",
    "no executable memory": "panicked at .*libffi",
}

Form = tuple[int, tuple[str, ...], bool]


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Serve a module, a WebSocket, events, and the two registries deno fetches packages from."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as files:
        for name, text in {
            "package.json": '{"name":"tiny","version":"1.0.0"}',
            "index.js": "module.exports = 1;",
        }.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            files.addfile(entry, io.BytesIO(text.encode()))
    tarball = archive.getvalue()
    module = "export default 1;\n"
    sha512 = base64.b64encode(hashlib.sha512(tarball).digest()).decode()

    async def tiny(request: web.Request) -> web.Response:
        dist = {"tarball": f"http://{request.host}/tiny.tgz", "integrity": f"sha512-{sha512}"}
        version = {"name": "tiny", "version": "1.0.0", "dist": dist}
        return web.json_response({"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})

    rows = {"size": len(module), "checksum": f"sha256-{hashlib.sha256(module.encode()).hexdigest()}"}
    jsr = {
        "/@a/tiny/meta.json": {"scope": "a", "name": "tiny", "versions": {"1.0.0": {}}},
        "/@a/tiny/1.0.0_meta.json": {"manifest": {"/mod.js": rows}, "exports": {".": "./mod.js"}},
    }
    application = web.Application()
    for path in ("/module.js", "/@a/tiny/1.0.0/mod.js"):
        application.router.add_get(path, _says(module.encode(), "text/javascript"))
    for path, body in jsr.items():
        application.router.add_get(path, _says(json.dumps(body).encode(), "application/json"))
    application.router.add_get("/tiny", tiny)
    application.router.add_get("/tiny.tgz", _says(tarball, "application/octet-stream"))
    application.router.add_get("/events", _says(b": here\n\n", "text/event-stream"))
    application.router.add_get("/ws", _socket)
    async with TestServer(application) as started:
        yield f"http://127.0.0.1:{started.port}"


def _says(body: bytes, kind: str) -> Any:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind)

    return answer


async def _socket(request: web.Request) -> web.WebSocketResponse:
    opened = web.WebSocketResponse()
    await opened.prepare(request)
    await opened.close()
    return opened


@pytest.fixture(params=users())
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Lay out files, sockets and a neighbour for the attempts of one user."""
    made = Stage(request.param, library())
    yield made
    made.close()


def laid_out(stage: Stage, number: int, http: str) -> dict[str, Any]:
    """Return the scene of one series of attempts, with files of its own."""
    scene = stage.scene(number)
    for name, text in {
        "module.js": "",
        "module.cjs": "",
        "data.json": "{}",
        "plain.txt": "x",
        "mine": "x",
        "gone": "x",
    }.items():
        path = scene.path(name)
        Path(path).write_text(text)
        os.chown(path, stage.user, stage.user if os.geteuid() == 0 else -1)
    return {
        "folder": scene.folder,
        "secret": scene.path("secret"),
        "victim": scene.victim,
        "tcp4": scene.tcp4,
        "tcp6": scene.tcp6,
        "udp": scene.udp,
        "path": scene.stream_path,
        "secretAt": scene.secret_at,
        "numbers": NUMBERS,
        "http": http,
    }


async def started(user: int, without: tuple[str, ...] | None, **more: Any) -> asyncio.subprocess.Process:
    """Start a deno as `user`, free or in the jail with layers left out."""
    job = {"deno": str(deno_program()), "user": user, "without": without, **more}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.security.escapes.deno_runner", json.dumps(job)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=CODE,
        limit=1 << 20,
    )


async def free(stage: Stage, scene: dict[str, Any]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the rows of the catalogue and what the attempts come to without any jail."""
    program = Path(stage.home, "free.mjs")
    program.write_bytes(BATTERY + FREE)
    process = await started(
        stage.user,
        None,
        arguments=["run", "-A", "--no-config", "--no-lock", str(program), json.dumps(scene)],
        environment={
            "L2PROXY_SECRET": "x",
            "DENO_DIR": f"{stage.home}/deno",
            "DENO_NO_UPDATE_CHECK": "1",
            "NPM_CONFIG_REGISTRY": scene["http"],
            "JSR_URL": scene["http"],
        },
    )
    async with asyncio.timeout(SECONDS):
        out, said = await process.communicate()
    assert process.returncode == 0, said.decode()[-1000:]
    found = json.loads(out)
    return found["rows"], found["outcomes"]


def granting_entry() -> str:
    """Return our first module as it would be if it left the plugin the right to call C."""
    whole, lock = module_url("main.js"), module_url("lock.js")
    kept = _text(lock).replace('await Deno.permissions.revoke({ name: "ffi" });', "")
    kept = kept.replace('succeeding.push("calling C")', "undefined")
    return _url(_text(whole).replace(lock, _url(kept)))


def _text(url: str) -> str:
    return base64.b64decode(url.partition(",")[2]).decode()


def _url(text: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(text.encode()).decode()


class Jailed:
    """A plugin's process that makes attempts; one that ends itself is started again."""

    def __init__(self, scene: dict[str, Any], form: Form) -> None:
        self._scene, self._form = json.dumps(scene), form
        self.layers: frozenset[str] = frozenset()

    async def __aenter__(self) -> Jailed:
        await self._start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def outcome(self, name: str) -> str:
        """Make one attempt; return what it said, or how its process ended."""
        params = {"scene": self._scene, "name": name}
        answer = await self._ask("invoke", {"call": "c", "action": "try", "params": params, "origin": "x"})
        if answer is not None:
            return str(answer["outcome"])
        said = (await self._process.communicate())[1].decode()[-600:].replace("\n", " ")
        code = self._process.returncode or 0
        await self._start()
        return signal.Signals(-code).name if code < 0 else f"status {code}: {said}"

    async def _start(self) -> None:
        user, without, bare = self._form
        entry = granting_entry() if bare else module_url("main.js")
        config = {"parent": os.getpid(), "code": str(CODE), "entry": entry, "memory": 1 << 28}
        config |= {"mode": "serve", "line": None, "unsandboxed": False}
        self._process = await started(user, without, bare=bare, config=config)
        line = await self._pipe(self._process.stdout).readline()
        report = json.loads(line or await self._pipe(self._process.stderr).read())
        assert "why" not in report, report
        assert {"rlimits", "identity", "seccomp"} <= set(report["layers"]), report
        self.layers = frozenset(report["layers"])
        self._pipe(self._process.stdin).write(b"%d\n" % len(BATTERY) + BATTERY)
        assert await self._ask("start", {"chainId": "0x1", "owner": "0x" + "0" * 40}) is not None

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        """Return the result, None where the process ended instead; what the plugin itself asks is left unanswered."""
        question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._pipe(self._process.stdin).write(question.encode() + b"\n")
        async with asyncio.timeout(SECONDS):
            while line := await self._pipe(self._process.stdout).readline():
                message = json.loads(line)
                if "method" not in message:
                    return message["result"]
        return None

    @staticmethod
    def _pipe(stream: Any) -> Any:
        assert stream is not None
        return stream


async def within(scene: dict[str, Any], form: Form, names: list[str]) -> tuple[frozenset[str], dict[str, str]]:
    """Return which layers held in this form and what the attempts came to."""
    async with Jailed(scene, form) as jailed:
        return jailed.layers, {name: await jailed.outcome(name) for name in names}


@pytest.mark.timeout(400)  # five hundred attempts, and a deno for each that ends its process
async def test_everything_succeeds_without_the_jail_and_nothing_in_any_form_of_it(stage: Stage) -> None:
    async with server() as http:
        rows, without = await free(stage, laid_out(stage, 0, http))
        assert {name: how for name, how in without.items() if how != "done"} == {}, "the attempt itself is broken"
        assert len(without) >= AT_LEAST
        held: set[frozenset[str]] = set()
        for number, left_out in enumerate(WITHOUT, 1):
            layers, outcomes = await within(laid_out(stage, number, http), (stage.user, left_out, False), list(without))
            assert layers.isdisjoint(left_out)
            held.add(layers)
            assert unexpected(outcomes, {name: rows[name]["expected"] for name in without}) == {}, left_out
        assert frozenset({"rlimits", "identity", "seccomp"}) in held  # the least there ever is
        names = [name for name in without if rows[name]["bare"] is not None]
        _, outcomes = await within(laid_out(stage, 9, http), (stage.user, WITHOUT[-1], True), names)
        assert unexpected(outcomes, {name: rows[name]["bare"] for name in names}) == {}, "with the kernel alone"


def unexpected(outcomes: dict[str, str], expected: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the attempts that got through, were not answered, or met another refusal than the one that was meant."""
    assert outcomes.keys() == expected.keys()
    return {
        name: (expected[name], said)
        for name, said in outcomes.items()
        if said == "done" or not re.search(REFUSALS[expected[name]], said)
    }


@pytest.mark.parametrize(
    "code",
    [
        "const held = []; for (;;) held.push(new Array(1e5).fill(held.length));",
        "const held = []; for (;;) held.push(new Uint8Array(1 << 24).fill(1));",
    ],
    ids=["heap", "buffers"],
)
async def test_one_that_takes_all_memory_ends_alone(code: str, tmp_path: Path) -> None:
    (tmp_path / "greedy.js").write_text(f"export default class {{ constructor() {{ {code} }} }}")
    process = await spawn(tmp_path, "greedy.js", 1 << 27, runtime="npm", cpu=60)
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"start","params":{"chainId":"0x1"}}\n')
    said = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(SECONDS):
            if answer := await process.stdout.readline():  # V8 refused a buffer before the host saw how much it holds
                assert "error" in json.loads(answer)
                return
            ended = await process.wait()
    finally:
        process.close()
        await said
    assert any(word in ended for word in ("was ended", "exited", "used")), ended
